//! Fuzz target: see `src/content_range.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::content_range::check(data));
