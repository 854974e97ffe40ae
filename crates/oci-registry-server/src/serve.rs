//! The accept loop: HTTP/1.1 over TCP, with limits on connections and their pace, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use oci_ref::{Error, ErrorKind};
use oci_spec_types::ErrorCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tower::Service as _;

use crate::activity::Activity;
use crate::connections::{Connections, Open};
use crate::error::Failure;
use crate::paced::Paced;
use crate::peers::{self, Peer, PeerSlot, Peers};
use crate::{PeerAddr, app, near};

/// How long to wait before the next attempt when no connection can be accepted, for want of file descriptors above all.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two lines of the log that no connection can be accepted.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What a connection may buffer of what it reads and writes, heads of requests above all: 128 KiB.
const BUFFER: usize = 128 << 10;

/// The time that a connection has to end, once it is to end for another one.
const ENDING: Duration = Duration::from_secs(1);

/// The most connections at a time that are told that there are too many. Further ones are closed
/// without a word.
const REFUSED_AT_ONCE: usize = 64;

/// The time that this may take.
const REFUSING: Duration = Duration::from_secs(1);

/// The answer to a connection that is one too many.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 90\r\n\r\n\
    {\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"too many connections from this address\"}]}";

/// Limits of [`serve`].
#[derive(Clone, Debug)]
pub struct ServeOptions {
    max_connections: usize,
    max_connections_per_peer: Option<usize>,
    trusted_proxies: Vec<IpNet>,
    keep_alive: Duration,
    header_timeout: Duration,
    idle_timeout: Duration,
    min_rate: u64,
    grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_peer: None,
            trusted_proxies: Vec::new(),
            keep_alive: Duration::from_secs(75),
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

    /// The most connections at a time. For a further one, the connection ends that has been idle
    /// longest; if none is idle, it waits. At least 1. Default: 4096.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// The most connections at a time from one IPv4 address, or one network of 64 bits of IPv6;
    /// further ones are answered 503. A connection from a trusted proxy does not count, but each
    /// request does that it passes on, until it is answered, as one of whom the proxy names. At
    /// least 1. Default: no limit.
    #[must_use]
    pub fn max_connections_per_peer(mut self, connections: Option<usize>) -> Self {
        self.max_connections_per_peer = connections.map(|connections| connections.max(1));
        self
    }

    /// Adds an address or a network, such as `10.0.0.0/8`, of proxies whose `X-Forwarded-For` says
    /// whom a request is from: the last address there that is not such a proxy's. A [`PeerAddr`]
    /// has it then, with port 0. Default: none.
    ///
    /// # Errors
    /// `Invalid`, if it is neither.
    pub fn trusted_proxy(mut self, network: &str) -> oci_ref::Result<Self> {
        let parsed = peers::network(network).ok_or_else(|| {
            let message = format!("{network:?} is no address and no network, such as 10.0.0.0/8");
            Error::new(ErrorKind::Invalid, message)
        })?;
        self.trusted_proxies.push(parsed);
        Ok(self)
    }

    /// The time that a connection stays open on which nothing is asked, after the first request.
    /// Longer than load balancers keep theirs, which otherwise send a request just when the
    /// connection ends. Default: 75 s.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// The time that a connection has to send the head of a request. Default: 30 s.
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
    let refusals = Arc::new(Semaphore::new(REFUSED_AT_ONCE));
    let peers = options.max_connections_per_peer.map(Peers::new);
    let grace = options.grace;
    let connections = Arc::new(Connections::default());
    let server = Arc::new(Server { router, options, connections: connections.clone(), peers });
    let (stop, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    // Accepted, and without a place.
    let mut waiting = None;
    let mut shutdown = pin!(shutdown);
    let mut told = None;
    loop {
        let (accepted, slot) = tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
                continue;
            }
            (stream, peer) = accept(&listener, &mut told), if waiting.is_none() => {
                let Some(counted) = server.count(peer) else {
                    if let Ok(turn) = refusals.clone().try_acquire_owned() {
                        tasks.spawn(refuse(stream, turn));
                    }
                    continue;
                };
                let accepted = (stream, peer, counted);
                match slots.clone().try_acquire_owned() {
                    Ok(slot) => (accepted, slot),
                    Err(_) => {
                        waiting = Some(accepted);
                        connections.want(true);
                        connections.end_idlest();
                        continue;
                    }
                }
            }
            // The semaphore is never closed.
            Ok(slot) = slots.clone().acquire_owned(), if waiting.is_some() => {
                connections.want(false);
                let Some(accepted) = waiting.take() else { continue };
                (accepted, slot)
            }
            () = connections.changed(), if waiting.is_some() => {
                connections.end_idlest();
                continue;
            }
        };
        let (stream, peer, counted) = accepted;
        let server = server.clone();
        let mut stopped = stopped.clone();
        tasks.spawn(async move {
            let stop = async move {
                // An error means that `serve` is gone, which is an end as well.
                let _ = stopped.changed().await;
            };
            connection(stream, peer, server, stop).await;
            drop((slot, counted));
        });
    }
    drop((listener, waiting));
    stop.send_replace(());
    let finished = async { while tasks.join_next().await.is_some() {} };
    if timeout(grace, finished).await.is_err() {
        tracing::warn!(open = tasks.len(), "connections are broken off");
        tasks.shutdown().await;
    }
}

/// The next connection. `told` is when it was told last that there can be none.
async fn accept(
    listener: &TcpListener,
    told: &mut Option<Instant>,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let gone = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                );
                if !gone {
                    if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                        *told = Some(Instant::now());
                        tracing::error!(%error, "no connection can be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Tells a peer that it has too many connections. What it has sent is read, since it might not see
/// the answer otherwise.
async fn refuse(mut stream: TcpStream, _turn: OwnedSemaphorePermit) {
    let refuse = async {
        stream.write_all(REFUSAL.as_bytes()).await?;
        stream.shutdown().await?;
        let mut read = [0; 1 << 10];
        while stream.read(&mut read).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it hears of it is its own affair.
    let _ = timeout(REFUSING, refuse).await;
}

/// The things that all connections share.
struct Server {
    router: Router,
    options: ServeOptions,
    connections: Arc<Connections>,
    peers: Option<Arc<Peers>>,
}

impl Server {
    /// Counts a connection, unless its peer has too many. A proxy's does not count.
    fn count(&self, peer: SocketAddr) -> Option<Option<PeerSlot>> {
        match &self.peers {
            Some(peers) if !peers::is_proxy(&self.options.trusted_proxies, peer.ip()) => {
                peers.enter(Peer::of(peer.ip())).map(Some)
            }
            _ => Some(None),
        }
    }

    /// Sees that a request can be answered, and says whom it is from.
    fn check(
        &self,
        request: &mut Request<Body>,
        peer: SocketAddr,
    ) -> Result<Option<PeerSlot>, Failure> {
        // Other versions are not served, but for 1.0, which knows no hosts. RFC 9112, section 3.2.
        if request.version() == Version::HTTP_11 {
            let hosts = request.headers().get_all(HOST).iter().count();
            if hosts != 1 {
                let message = format!("the request has {hosts} Host headers, expected one");
                let close = HeaderValue::from_static("close");
                return Err(Failure::bad_request(message).with_header(CONNECTION, close));
            }
        }
        let mut slot = None;
        let mut address = peer;
        let proxies = &self.options.trusted_proxies;
        if peers::is_proxy(proxies, peer.ip())
            && let Some(client) = peers::client(proxies, peer.ip(), request.headers())
        {
            address = SocketAddr::new(client, 0);
            if let Some(peers) = &self.peers {
                let entered = peers.enter(Peer::of(client));
                slot = Some(entered.ok_or_else(|| {
                    let message = "too many requests from this address at the same time";
                    Failure::new(ErrorCode::TooManyRequests, message)
                        .with_status(StatusCode::SERVICE_UNAVAILABLE)
                })?);
            }
        }
        request.extensions_mut().insert(PeerAddr(address));
        Ok(slot)
    }

    async fn answer(
        &self,
        mut request: Request<Body>,
        peer: SocketAddr,
        mut turn: Turn,
    ) -> Response<Answer> {
        let response = match self.check(&mut request, peer) {
            Ok(slot) => {
                turn.slot = slot;
                match self.router.clone().call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Err(failure) => {
                let mut response = failure.into_response();
                app::mark(response.headers_mut());
                response
            }
        };
        response.map(|body| Answer { body, _turn: turn })
    }
}

/// A request that is being answered, until it is dropped.
struct Turn {
    activity: Arc<Activity>,
    connections: Arc<Connections>,
    slot: Option<PeerSlot>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.activity.end();
        self.connections.change();
    }
}

/// The body of an answer. It is dropped when the last of it has been given to the connection.
struct Answer {
    body: Body,
    _turn: Turn,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    stop: impl Future<Output = ()>,
) {
    // Small answers must not wait for acknowledgements. Where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    near::bound(&stream, peer);
    let options = &server.options;
    let stream = Paced::new(stream, options.idle_timeout, options.min_rate);
    let activity = stream.activity();
    let open: Open = server.connections.add(&activity);
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        activity.begin();
        let (activity, connections) = (activity.clone(), server.connections.clone());
        let turn = Turn { activity, connections, slot: None };
        let answer = server.answer(request.map(Body::new), peer, turn);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // Its own limit of time for heads would be one for the silence between requests, too.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .title_case_headers(true)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stop);
    // Looked at often enough that no limit is passed, since what it is doing changes without
    // telling us.
    let (head, idle) = (options.header_timeout, options.keep_alive);
    let often = head.min(idle);
    let mut alarm = pin!(sleep_until(after(often)));
    let (mut stopping, mut ending) = (false, None);
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection failed");
                }
                return;
            }
            () = &mut stop, if !stopping => {
                if !activity.heard() {
                    // hyper would wait for a first request.
                    return;
                }
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = open.end(), if ending.is_none() => {
                if activity.idle_since().is_none() {
                    // It has been asked for something just now.
                    server.connections.change();
                } else if !activity.heard() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                ending = Some(after(ENDING));
                alarm.as_mut().reset(after(ENDING));
            }
            () = &mut alarm => {
                let limit = activity.deadline(head, idle);
                let limit = match (limit, ending) {
                    (Some(limit), Some(ending)) => Some(limit.min(ending)),
                    (limit, _) => limit,
                };
                if limit.is_some_and(|limit| limit <= Instant::now()) {
                    return;
                }
                let next = limit.map_or(after(often), |limit| limit.min(after(often)));
                alarm.as_mut().reset(next);
            }
        }
    }
}

/// So long from now. What is longer than a year is as good as never.
fn after(time: Duration) -> Instant {
    Instant::now() + time.min(Duration::from_secs(365 * 24 * 3600))
}
