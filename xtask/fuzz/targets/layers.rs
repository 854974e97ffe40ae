//! Fuzz target: see `src/layers.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::layers::check(data));
