//! An OCI registry as a library: the distribution spec over HTTP, on any engine.
//!
//! A [`Registry`](oci_ref::Registry) gives repositories, each of which is an [`oci_ref::Store`];
//! [`router`] is HTTP over that: an [`axum::Router`] to nest, merge and wrap into layers, or to
//! give to [`serve()`]. One typed decision, [`AccessPolicy`], stands in front of every operation.
//! [`MemoryRegistry`] is the simplest engine. [`add_ref`] puts content there without HTTP.
//!
//! [`TestRegistry`] is a registry for the tests of clients: it records what it is asked, and fails as a [`FaultRule`]
//! says.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use oci_registry_server::TestRegistry;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let registry = TestRegistry::start().await?;
//! let mut connection = tokio::net::TcpStream::connect(registry.host()).await?;
//! connection.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
//! let mut answer = String::new();
//! connection.read_to_string(&mut answer).await?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK"));
//! assert_eq!(registry.requests()[0].path, "/v2/");
//! # std::io::Result::Ok(()) }).unwrap();
//! ```
//!
//! # What is answered
//! All endpoints of the distribution spec, end-1 to end-14, and `_catalog`. A manifest is served as it was pushed,
//! whatever `Accept` says. `Location` and `Link` are paths unless an external URL is configured. Conditions
//! (`If-Match`, `If-None-Match`) work on pulls, and on pushes of manifests, so that a tag can be moved by
//! compare-and-set. The `ns` parameter is ignored: this is not a proxy.
//!
//! # What is absent
//! TLS, HTTP/2, authentication and redirects to storage. Put a proxy in front, or a layer around.

mod access;
mod activity;
mod add_ref;
mod app;
mod asked;
mod blobs;
mod body;
mod browser;
mod budget;
mod chunk;
mod connection;
mod connections;
mod error;
mod etag;
mod gathered;
mod large;
mod lists;
mod manifests;
mod memory;
mod near;
mod options;
mod paced;
mod peers;
mod percent;
#[cfg(feature = "proxy")]
mod proxy;
mod query;
mod range;
mod referrers;
mod respond;
mod route;
mod serve;
mod serve_options;
mod testing;
mod uploads;

pub use access::{AccessPolicy, AccessRequest, AllowAll, Decision, Operation, PeerAddr};
pub use add_ref::add_ref;
pub use app::router;
pub use memory::MemoryRegistry;
pub use options::ServerOptions;
#[cfg(feature = "proxy")]
pub use proxy::ProxyRegistry;
pub use serve::serve;
pub use serve_options::ServeOptions;
pub use testing::{
    BreakAt, Credentials, Endpoint, Fault, FaultAnswer, FaultRule, RecordedRequest, TestAuth,
    TestRegistry, TestRegistryBuilder,
};

/// The README's example is compiled and run with the documentation's examples.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
