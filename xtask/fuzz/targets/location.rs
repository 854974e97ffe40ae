//! Fuzz target: see `src/location.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::location::check(data));
