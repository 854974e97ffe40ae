//! The accept loop of a test registry: its connections can be broken off.

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::Service as _;

use super::line::Breakable;
use crate::PeerAddr;
use crate::serve::ACCEPT_PAUSE;

/// Answers the connections of a listener until it is dropped, and they with it.
pub(super) async fn listen(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Where it cannot be set, small answers wait for acknowledgements.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(Breakable::new(stream), peer, router.clone()));
                }
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: Breakable, peer: std::net::SocketAddr, router: Router) {
    let line = stream.line();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(PeerAddr(peer));
        request.extensions_mut().insert(line.clone());
        router.clone().call(request)
    });
    let ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection failed");
    }
}
