//! The accept loop: HTTP/1.1 over TCP, with limits on connections and their pace, and an orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::ServeOptions;
use crate::connection::{Server, connection};
use crate::connections::Connections;
use crate::peers::Peers;

/// How long to wait before the next attempt when no connection can be accepted, for want of file descriptors above all.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two lines of the log that no connection can be accepted.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The most connections at a time that are told that there are too many. Further ones are closed
/// without a word.
const REFUSED_AT_ONCE: usize = 64;

/// The time that this may take.
const REFUSING: Duration = Duration::from_secs(1);

/// The answer to a connection that is one too many.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 90\r\n\r\n\
    {\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"too many connections from this address\"}]}";

/// Answers the connections of a listener until `shutdown` completes; then waits for the requests that are being
/// answered, for as long as the options allow. Every request carries a
/// [`PeerAddr`](crate::PeerAddr).
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
            // A place that is free comes before the look for one that can be made free.
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
                continue;
            }
            // The semaphore is never closed.
            Ok(slot) = slots.clone().acquire_owned(), if waiting.is_some() => {
                connections.want(false);
                let Some(accepted) = waiting.take() else { continue };
                (accepted, slot)
            }
            () = connections.changed(), if waiting.is_some() => {
                // One that has just ended has made room already.
                if slots.available_permits() == 0 {
                    connections.end_idlest();
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
        };
        let (stream, peer, counted) = accepted;
        let server = server.clone();
        let mut stopped = stopped.clone();
        tasks.spawn(async move {
            let stop = async move {
                // An error means that `serve` is gone, which is an end as well.
                let _ = stopped.changed().await;
            };
            connection(stream, peer, server, slot, stop).await;
            drop(counted);
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
async fn accept(listener: &TcpListener, told: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
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
