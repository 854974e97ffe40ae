//! The client against a registry whose every answer is scripted: what registries do, and what they do wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod auth;
mod blobs;
mod errors;
mod lists;
mod manifests;
mod push;
mod redirects;
mod referrers;
mod resume;
mod retries;
mod server;
mod unreliable;
mod uploads;
