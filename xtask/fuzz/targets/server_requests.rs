//! Fuzz target: see `src/server_requests.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::server_requests::check(data));
