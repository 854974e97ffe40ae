//! Metadata in PostgreSQL: what only it has, such as replicas and a server that can go away.

pub(crate) mod server;

mod backup;
#[cfg(feature = "clouds")]
mod bucket;
mod checks;
mod claims;
mod collectors;
mod engines;
mod interleavings;
mod migration;
mod model;
mod opening;
mod outage;
mod pages;
mod replicas;
mod statements;
mod tls;
