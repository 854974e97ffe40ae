//! A registry for anybody's tests.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::{HeaderMap, Method};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{MemoryRegistry, Registry, ServeOptions, ServerOptions, router, serve};

/// A registry on a port of its own of the loopback interface, which records what it is asked. It ends when it is
/// dropped.
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
pub struct TestRegistry<R = MemoryRegistry> {
    address: SocketAddr,
    registry: Arc<R>,
    log: Log,
    task: JoinHandle<()>,
}

/// A request that a [`TestRegistry`] has got.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The method.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// What stands behind the `?`, as it was sent; empty if nothing does.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<RecordedRequest>>>);

impl TestRegistry {
    /// Starts an empty registry in memory.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::with(MemoryRegistry::new(), ServerOptions::new()).await
    }
}

impl<R: Registry> TestRegistry<R> {
    /// Starts any registry, as it is configured.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn with(registry: R, options: ServerOptions) -> io::Result<Self> {
        let registry = Arc::new(registry);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let log = Log::default();
        let app = router(registry.clone(), options).layer(from_fn_with_state(log.clone(), record));
        let task = tokio::spawn(serve(listener, app, ServeOptions::new(), std::future::pending()));
        Ok(Self { address, registry, log, task })
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
        self.log.lock().clone()
    }

    /// The requests since the last time that they were taken.
    pub fn take_requests(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut *self.log.lock())
    }
}

impl<R> Drop for TestRegistry<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RecordedRequest>> {
        // A list that something was added to is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every request passes here before it is answered: what a test wants to happen to it happens here.
async fn record(State(log): State<Log>, request: Request, next: Next) -> Response {
    log.lock().push(RecordedRequest {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    });
    next.run(request).await
}
