//! Fuzz target: see `src/client_answers.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::client_answers::check(data));
