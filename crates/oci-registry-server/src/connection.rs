//! One connection: its requests one after another, its limits of time, and its end.

use std::convert::Infallible;
use std::future::Future;
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
use oci_spec_types::ErrorCode;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tower::Service as _;

use crate::activity::Activity;
use crate::connections::{Connections, Open};
use crate::error::Failure;
use crate::paced::Paced;
use crate::peers::{self, Peer, PeerSlot, Peers};
use crate::{PeerAddr, ServeOptions, app, near};

/// The most bytes that a connection buffers of what it reads and writes, heads of requests above
/// all: 128 KiB.
const BUFFER: usize = 128 << 10;

/// The time that a connection has to end, once it is to end for another one.
const ENDING: Duration = Duration::from_secs(1);

/// The things that all connections share.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) options: ServeOptions,
    pub(crate) connections: Arc<Connections>,
    pub(crate) peers: Option<Arc<Peers>>,
}

impl Server {
    /// Counts a connection, unless its peer has too many. A proxy's does not count.
    pub(crate) fn count(&self, peer: SocketAddr) -> Option<Option<PeerSlot>> {
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

/// Answers the requests of a connection until it ends.
pub(crate) async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    place: OwnedSemaphorePermit,
    stop: impl Future<Output = ()>,
) {
    // Small answers must not wait for acknowledgements. Where it cannot be set, they do.
    let _ = stream.set_nodelay(true);
    near::bound(&stream, peer);
    let options = &server.options;
    let stream = Paced::new(stream, options.idle_timeout, options.min_rate);
    let activity = stream.activity();
    let open: Open = server.connections.add(&activity, place);
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        // A name that looks like one gains nothing that an upload would not.
        activity.begin(request.uri().path().contains("/blobs/uploads/"));
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
