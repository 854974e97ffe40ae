//! The behavioural suite on the registries' engines, as they are and through client and server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use oci_ref::suite::{Harness, Siblings, run};
use oci_ref::{Access, Registry, Store};
use oci_registry_client::Client;
use oci_registry_server::{MemoryRegistry, ServerOptions, TestRegistry};
use oci_registry_store::{DurableRegistry, EngineOptions};
use oci_spec_types::{Name, Reference};
use tempfile::TempDir;

/// Names that nobody has used.
#[derive(Default)]
struct Names(AtomicUsize);

impl Names {
    fn next(&self) -> Name {
        format!("suite/r{}", self.0.fetch_add(1, Ordering::Relaxed)).parse().unwrap()
    }
}

/// Repositories of an engine.
struct EngineHarness<R> {
    registry: R,
    names: Names,
}

impl<R: Registry> EngineHarness<R> {
    fn new(registry: R) -> Self {
        Self { registry, names: Names::default() }
    }

    async fn open(&self, name: &Name) -> Arc<dyn Store> {
        self.registry.repository(name, Access::Write).await.unwrap()
    }
}

#[async_trait]
impl<R: Registry> Harness for EngineHarness<R> {
    async fn store(&self) -> Arc<dyn Store> {
        self.open(&self.names.next()).await
    }

    async fn handles(&self) -> [Arc<dyn Store>; 2] {
        let name = self.names.next();
        [self.open(&name).await, self.open(&name).await]
    }

    async fn siblings(&self) -> Option<Siblings> {
        let (name, other) = (self.names.next(), self.names.next());
        let (from, to) = (self.open(&name).await, self.open(&other).await);
        Some(Siblings { name, from, to })
    }
}

/// Repositories of an engine, through HTTP.
struct HttpHarness<R> {
    server: TestRegistry<R>,
    names: Names,
}

impl<R: Registry> HttpHarness<R> {
    async fn new(registry: R) -> Self {
        let server = TestRegistry::with(registry, ServerOptions::new()).await.unwrap();
        Self { server, names: Names::default() }
    }

    /// The repository through a client of its own.
    fn open(&self, name: &Name) -> Arc<dyn Store> {
        let reference = Reference::new(self.server.host().parse().unwrap(), name.clone());
        Arc::new(Client::builder().build().unwrap().repository(&reference).unwrap())
    }
}

#[async_trait]
impl<R: Registry> Harness for HttpHarness<R> {
    async fn store(&self) -> Arc<dyn Store> {
        self.open(&self.names.next())
    }

    async fn handles(&self) -> [Arc<dyn Store>; 2] {
        let name = self.names.next();
        [self.open(&name), self.open(&name)]
    }

    async fn siblings(&self) -> Option<Siblings> {
        let (name, other) = (self.names.next(), self.names.next());
        let (from, to) = (self.open(&name), self.open(&other));
        Some(Siblings { name, from, to })
    }
}

async fn durable() -> (TempDir, DurableRegistry) {
    durable_with(EngineOptions::default()).await
}

async fn durable_with(options: EngineOptions) -> (TempDir, DurableRegistry) {
    let directory = TempDir::new().unwrap();
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    (directory, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_engine() {
    run(&EngineHarness::new(MemoryRegistry::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durable_engine() {
    let (_directory, registry) = durable().await;
    run(&EngineHarness::new(registry)).await;
}

#[cfg(feature = "postgres")]
async fn on_postgres() -> (TempDir, DurableRegistry) {
    let directory = TempDir::new().unwrap();
    let mut options = EngineOptions::default();
    options.database = crate::postgres::server::fresh().await;
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    (directory, registry)
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn durable_engine_on_postgres() {
    if crate::postgres::server::is_there("durable_engine_on_postgres") {
        let (_directory, registry) = on_postgres().await;
        run(&EngineHarness::new(registry)).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_over_the_durable_engine_on_postgres() {
    if crate::postgres::server::is_there("client_and_server_over_the_durable_engine_on_postgres") {
        let (_directory, registry) = on_postgres().await;
        run(&HttpHarness::new(registry).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_over_memory() {
    run(&HttpHarness::new(MemoryRegistry::new()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_over_the_durable_engine() {
    let (_directory, registry) = durable().await;
    run(&HttpHarness::new(registry).await).await;
}

#[cfg(feature = "clouds")]
#[tokio::test(flavor = "multi_thread")]
async fn durable_engine_over_memory() {
    let mut options = EngineOptions::default();
    options.storage = "memory:".parse().unwrap();
    let (_directory, registry) = durable_with(options).await;
    run(&EngineHarness::new(registry)).await;
}

#[cfg(feature = "clouds")]
#[tokio::test(flavor = "multi_thread")]
async fn durable_engine_over_s3() {
    let s3 = crate::s3::S3::start().await;
    let (_directory, registry) = durable_with(s3.options()).await;
    run(&EngineHarness::new(registry)).await;
}

#[cfg(feature = "clouds")]
#[tokio::test(flavor = "multi_thread")]
async fn durable_engine_over_azure() {
    let Some(azurite) = crate::azurite::Azurite::start("durable_engine_over_azure") else { return };
    let (_directory, registry) = durable_with(azurite.options()).await;
    run(&EngineHarness::new(registry)).await;
}

#[cfg(feature = "clouds")]
#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_over_s3_with_redirects() {
    for redirect in [false, true] {
        let s3 = crate::s3::S3::start().await;
        let mut options = s3.options();
        options.redirect_reads = redirect;
        let (_directory, registry) = durable_with(options).await;
        run(&HttpHarness::new(registry).await).await;
    }
}

#[cfg(all(feature = "clouds", feature = "postgres"))]
#[tokio::test(flavor = "multi_thread")]
async fn durable_engine_on_postgres_over_s3() {
    if crate::postgres::server::is_there("durable_engine_on_postgres_over_s3") {
        let s3 = crate::s3::S3::start().await;
        let mut options = s3.options();
        options.database = crate::postgres::server::fresh().await;
        let (_directory, registry) = durable_with(options).await;
        run(&EngineHarness::new(registry)).await;
    }
}
