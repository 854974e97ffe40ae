//! Fuzz target: see `src/manifest.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::manifest::check(data));
