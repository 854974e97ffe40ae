//! The accept loop: HTTP/1.1 over TCP, with limits on connections and their pace, and an orderly end.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use crate::paced::Paced;
use crate::{PeerAddr, near};

/// How long to wait before the next attempt when no connection can be accepted, for want of file descriptors above all.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection may buffer of what it reads and writes, heads of requests above all: 128 KiB.
const BUFFER: usize = 128 << 10;

/// Limits of [`serve`].
#[derive(Clone, Debug)]
pub struct ServeOptions {
    max_connections: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
    min_rate: u64,
    grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            min_rate: 1 << 10,
            grace: Duration::from_secs(30),
        }
    }
}

impl ServeOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections at a time; further ones wait to be accepted. At least 1. Default: 4096.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a connection may take to send the head of a request, and how long it may stay open without one.
    /// Default: 30 s.
    #[must_use]
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// How long a peer may read nothing of what is sent to it. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The least bytes a second that a peer must read while we wait for it, from when we have waited for one idle
    /// timeout in all. 0 for none. Default: 1024.
    #[must_use]
    pub fn min_rate(mut self, bytes_per_second: u64) -> Self {
        self.min_rate = bytes_per_second;
        self
    }

    /// How long requests that are being answered may go on after the shutdown. Default: 30 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// Answers the connections of a listener until `shutdown` completes; then waits for the requests that are being
/// answered, for as long as the options allow. Every request carries a [`PeerAddr`].
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use std::sync::Arc;
/// use oci_registry_server::{MemoryRegistry, ServeOptions, ServerOptions, router, serve};
///
/// let registry = Arc::new(MemoryRegistry::new());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
/// let app = router(registry, ServerOptions::new());
/// serve(listener, app, ServeOptions::new(), std::future::pending()).await;
/// # Ok(()) }
/// ```
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            (stream, peer, slot) = accept(&listener, &slots) => {
                let router = router.clone();
                let options = options.clone();
                let mut stopped = stopped.clone();
                connections.spawn(async move {
                    let stop = async move {
                        // An error means that `serve` is gone, which is an end as well.
                        let _ = stopped.changed().await;
                    };
                    connection(stream, peer, router, &options, stop).await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    stop.send_replace(());
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(options.grace, finished).await.is_err() {
        tracing::warn!(open = connections.len(), "connections are broken off");
        connections.shutdown().await;
    }
}

/// The next connection, once there may be one more.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, std::net::SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed; if it were, there would be no limit to keep.
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                let gone = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                );
                if !gone {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    router: Router,
    options: &ServeOptions,
    stop: impl Future<Output = ()>,
) {
    // Small answers must not wait for acknowledgements. Where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    near::bound(&stream, peer);
    let stream = Paced::new(stream, options.idle_timeout, options.min_rate);
    let heard = stream.heard();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(PeerAddr(peer));
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stop);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection failed");
                }
                return;
            }
            () = &mut stop, if !stopping => {
                if !heard.load(Ordering::Relaxed) {
                    // hyper would wait for a first request.
                    return;
                }
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
