//! Fuzz target: see `src/www_authenticate.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::www_authenticate::check(data));
