//! The client against a registry whose every answer is scripted: what registries do, and what they do wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod abandoned;
mod auth;
mod blobs;
mod docker_config;
mod errors;
mod files;
mod formats;
mod hostile;
mod inside;
mod lists;
mod manifests;
mod matrix;
mod mirrors;
mod odd_answers;
mod parallel;
mod push;
mod push_resume;
mod redirects;
mod referrers;
mod resume;
mod retries;
mod server;
mod tag_schema;
mod tls;
mod unreliable;
mod uploads;
