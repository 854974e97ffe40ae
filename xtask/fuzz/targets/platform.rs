//! Fuzz target: see `src/platform.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::platform::check(data));
