//! Fuzz target: see `src/layouts.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::layouts::check(data));
