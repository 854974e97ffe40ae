//! Tests of the crate through its public API.

// Clippy's own exception reaches only the test functions, not their helpers.
#![allow(clippy::unwrap_used)]

mod documents;
mod golden;
mod hashing;
mod other_manifest;
mod platforms;
mod properties;
mod references;
mod values;
