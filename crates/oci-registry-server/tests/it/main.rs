//! The server, asked over HTTP. `// spec: R24` names a requirement of the distribution spec by its number in the
//! project's list of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod add_ref;
mod blobs;
mod browsers;
mod connections;
mod engines;
mod faults;
mod large;
mod lists;
mod malformed;
mod manifests;
mod mounts;
mod placement;
mod places;
#[cfg(feature = "proxy")]
mod proxy;
mod raw;
mod referrers;
mod rules;
mod shapes;
mod support;
mod tokens;
mod transport;
mod uploads;
