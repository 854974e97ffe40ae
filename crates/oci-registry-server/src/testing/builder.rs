//! How a test registry is configured.

use std::io;

use http::StatusCode;
use oci_ref::Registry;

use super::{Endpoint, Fault, FaultAnswer, FaultRule, TestAuth, TestRegistry};
use crate::{MemoryRegistry, ServerOptions, respond};

/// A [`TestRegistry`] that is being configured.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use oci_registry_server::{ServerOptions, TestAuth, TestRegistry};
///
/// let registry = TestRegistry::builder()
///     .options(ServerOptions::new().max_page(2))
///     .auth(TestAuth::bearer().token_uses(5))
///     .without_referrers()
///     .start()
///     .await?;
/// # drop(registry);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[must_use]
pub struct TestRegistryBuilder<R = MemoryRegistry> {
    registry: R,
    options: ServerOptions,
    rules: Vec<FaultRule>,
    auth: Option<TestAuth>,
}

impl<R: Registry> TestRegistryBuilder<R> {
    /// A registry on any engine.
    pub fn new(registry: R) -> Self {
        Self { registry, options: ServerOptions::new(), rules: Vec::new(), auth: None }
    }

    /// How the router behaves.
    pub fn options(mut self, options: ServerOptions) -> Self {
        self.options = options;
        self
    }

    /// One more rule, which is asked after those before it.
    pub fn fault(mut self, rule: FaultRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Credentials are demanded.
    pub fn auth(mut self, auth: TestAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// A registry from before there was a referrers API: it answers 404 there, and a push says nothing of a subject.
    /// These are two more rules, and what they are due for is not seen by those after them.
    pub fn without_referrers(self) -> Self {
        let absent = FaultAnswer::new(StatusCode::NOT_FOUND);
        let silent = Fault::without_header(respond::SUBJECT);
        self.fault(FaultRule::new(absent).endpoint(Endpoint::ListReferrers))
            .fault(FaultRule::new(silent).endpoint(Endpoint::PushManifest))
    }

    /// Starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(self) -> io::Result<TestRegistry<R>> {
        TestRegistry::listen(self.registry, self.options, self.rules, self.auth).await
    }
}
