//! Fuzz target: see `src/reference.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::reference::check(data));
