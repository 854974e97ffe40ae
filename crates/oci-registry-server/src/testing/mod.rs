//! A registry for anybody's tests: it records what it is asked, and fails on demand.

mod apply;
mod body;
mod builder;
mod endpoint;
mod every;
mod fault;
mod glob;
mod line;
mod listen;
mod record;
mod rule;
mod scope;
mod token;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use oci_ref::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{MemoryRegistry, ServerOptions, router};
use record::{Recorder, record};
use token::Gate;

pub use builder::TestRegistryBuilder;
pub use endpoint::Endpoint;
pub use fault::{BreakAt, Fault, FaultAnswer};
pub use record::RecordedRequest;
pub use rule::FaultRule;
pub use token::{Credentials, TestAuth};

/// A registry on a port of its own of the loopback interface, which records what it is asked, and fails on demand. It
/// ends when it is dropped, and its connections with it.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use oci_registry_server::TestRegistry;
///
/// let registry = TestRegistry::start().await?;
/// println!("push to {}/some/name", registry.host());
/// assert!(registry.requests().is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Faults
/// A client has to cope with registries that are busy, slow, far away behind redirects, or wrong. A [`FaultRule`] says to
/// which requests which [`Fault`]s happen, and how often; [`TestAuth`] makes the registry demand credentials. Both are
/// given to the [`builder`](Self::builder), and rules can be added later with [`inject`](Self::inject). Each
/// [`RecordedRequest`] tells which faults it met.
///
/// The test of a client that should try again when a registry is busy, and must see that a blob was cut short:
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use http::StatusCode;
/// use oci_registry_server::{BreakAt, Endpoint, Fault, FaultAnswer, FaultRule, TestRegistry};
/// use oci_ref::Store;
/// use oci_spec_types::{Descriptor, ErrorCode, MediaType};
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # /// The client under test.
/// # async fn get(host: String, path: String) -> std::io::Result<String> {
/// #     let mut connection = tokio::net::TcpStream::connect(host).await?;
/// #     let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
/// #     connection.write_all(request.as_bytes()).await?;
/// #     let mut answer = String::new();
/// #     connection.read_to_string(&mut answer).await?;
/// #     Ok(answer)
/// # }
///
/// let busy = FaultAnswer::new(StatusCode::TOO_MANY_REQUESTS)
///     .error(ErrorCode::TooManyRequests)
///     .retry_after(Duration::from_secs(1));
/// let registry = TestRegistry::builder()
///     .fault(FaultRule::new(busy).endpoint(Endpoint::PullBlob).first(1))
///     .fault(FaultRule::new(Fault::close(BreakAt::Body(2))).path("/v2/*/blobs/*").first(1))
///     .start()
///     .await?;
///
/// // Content can be put there without HTTP.
/// let blob = bytes::Bytes::from_static(b"hello");
/// let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &blob);
/// registry.registry().memory(&"a".parse().unwrap()).put_blob(&descriptor, &blob).await.unwrap();
///
/// let path = format!("/v2/a/blobs/{}", descriptor.digest);
/// let first = get(registry.host(), path.clone()).await?;
/// assert!(first.starts_with("HTTP/1.1 429 ") && first.contains("retry-after: 1\r\n"));
/// let second = get(registry.host(), path.clone()).await?;
/// assert!(second.contains("content-length: 5\r\n") && second.ends_with("\r\n\r\nhe"));
/// let third = get(registry.host(), path).await?;
/// assert!(third.ends_with("\r\n\r\nhello"));
///
/// let requests = registry.requests();
/// assert_eq!(requests[1].faults, [Fault::close(BreakAt::Body(2))]);
/// assert!(requests[2].faults.is_empty());
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
pub struct TestRegistry<R = MemoryRegistry> {
    address: SocketAddr,
    registry: Arc<R>,
    recorder: Arc<Recorder>,
    task: JoinHandle<()>,
}

impl TestRegistry {
    /// Starts an empty registry in memory.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// A registry in memory, to be configured and started.
    pub fn builder() -> TestRegistryBuilder {
        TestRegistryBuilder::new(MemoryRegistry::new())
    }
}

impl<R: Registry> TestRegistry<R> {
    /// Starts any registry, as it is configured.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn with(registry: R, options: ServerOptions) -> io::Result<Self> {
        TestRegistryBuilder::new(registry).options(options).start().await
    }

    async fn listen(
        registry: R,
        options: ServerOptions,
        rules: Vec<FaultRule>,
        auth: Option<TestAuth>,
    ) -> io::Result<Self> {
        let registry = Arc::new(registry);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let gate = auth.map(|auth| Gate::new(auth, format!("http://{address}")));
        let recorder = Arc::new(Recorder::new(gate, rules));
        // Tests call it what they like.
        let app = router(registry.clone(), options.allow_hosts(["*"]));
        let app = app.layer(from_fn_with_state(recorder.clone(), record));
        let task = tokio::spawn(listen::listen(listener, app));
        Ok(Self { address, registry, recorder, task })
    }

    /// The engine behind it, to fill it or look into it without HTTP.
    pub fn registry(&self) -> &R {
        &self.registry
    }

    /// Host and port, as a reference has them: `127.0.0.1:40123`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The URL without a path: `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.recorder.log().clone()
    }

    /// The requests since the last time that they were taken.
    pub fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut *self.recorder.log())
    }

    /// Adds a rule, behind those that there are.
    pub fn inject(&self, rule: FaultRule) {
        self.recorder.script.add(rule);
    }

    /// Forgets all rules: from now on nothing goes wrong. What a request has met already goes on.
    pub fn clear_faults(&self) {
        self.recorder.script.clear();
    }

    /// Makes all tokens that were given so far worthless, but for refresh tokens.
    pub fn expire_tokens(&self) {
        if let Some(gate) = &self.recorder.gate {
            gate.expire_tokens();
        }
    }
}

impl<R> Drop for TestRegistry<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
