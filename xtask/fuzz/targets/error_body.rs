//! Fuzz target: see `src/error_body.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::error_body::check(data));
