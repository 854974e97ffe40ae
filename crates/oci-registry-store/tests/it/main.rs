//! The engine through its public API, and what it leaves in its directory.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[cfg(feature = "clouds")]
mod azure;
#[cfg(feature = "clouds")]
mod azurite;
mod backup;
#[cfg(feature = "clouds")]
mod bucket_outage;
#[cfg(feature = "clouds")]
mod clouds;
#[cfg(feature = "clouds")]
mod clouds_over;
mod collect;
mod content;
mod durability;
mod fsck;
#[cfg(feature = "clouds")]
mod google;
mod held;
#[cfg(feature = "clouds")]
mod http;
mod large;
mod lists;
mod manifests;
mod migration;
mod model;
mod open_uploads;
mod opening;
mod owned;
#[cfg(feature = "postgres")]
mod postgres;
mod references;
#[cfg(feature = "clouds")]
mod s3;
mod scale;
mod sessions;
mod suite;
mod support;
mod untagged;
