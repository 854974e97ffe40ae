//! Fuzz target: see `src/archives.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::archives::check(data));
