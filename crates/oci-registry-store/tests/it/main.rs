//! The engine through its public API, and what it leaves in its directory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod backup;
mod collect;
mod content;
mod durability;
mod fsck;
mod large;
mod lists;
mod manifests;
mod migration;
mod opening;
#[cfg(feature = "postgres")]
mod postgres;
mod sessions;
mod suite;
mod support;
mod untagged;
