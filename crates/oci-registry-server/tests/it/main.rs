//! The server, asked over HTTP. `// spec: R24` names a requirement of the distribution spec by its number in the
//! project's list of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod blobs;
mod engines;
mod lists;
mod malformed;
mod manifests;
mod mounts;
mod placement;
mod referrers;
mod support;
mod transport;
mod uploads;
