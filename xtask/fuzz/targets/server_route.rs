//! Fuzz target: see `src/server_route.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::server_route::check(data));
