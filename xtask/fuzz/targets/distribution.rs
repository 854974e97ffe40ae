//! Fuzz target: see `src/distribution.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::distribution::check(data));
