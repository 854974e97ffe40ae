//! Fuzz target: see `src/link.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::link::check(data));
