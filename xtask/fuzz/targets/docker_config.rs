//! Fuzz target: see `src/docker_config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oci_fuzz::docker_config::check(data));
