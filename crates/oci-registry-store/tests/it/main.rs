//! The engine through its public API, and what it leaves in its directory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod content;
mod durability;
mod large;
mod lists;
mod manifests;
mod opening;
mod sessions;
mod suite;
mod support;
