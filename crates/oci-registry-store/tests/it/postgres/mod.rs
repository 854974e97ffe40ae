//! Metadata in PostgreSQL: what only it has, such as replicas and a server that can go away.

pub(crate) mod server;

mod backup;
#[cfg(feature = "clouds")]
mod bucket;
mod claims;
mod interleavings;
mod model;
mod opening;
mod outage;
mod pages;
mod replicas;
mod tls;
