//! Fuzz target: see `src/client_uploads.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::client_uploads::check(data));
