//! Fuzz target: see `src/retry_after.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::retry_after::check(data));
