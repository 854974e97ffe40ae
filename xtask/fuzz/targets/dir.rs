//! Fuzz target: see `src/dir.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::dir::check(data));
