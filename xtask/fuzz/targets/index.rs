//! Fuzz target: see `src/index.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::index::check(data));
