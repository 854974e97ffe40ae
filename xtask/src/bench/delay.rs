//! A registry that is far away: each request takes so much longer.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Result;

/// Passes connections on. What a client sends after it got an answer is a new request, and is delayed.
pub(crate) struct Delay {
    /// Where it listens.
    pub(crate) host: String,
    _runtime: tokio::runtime::Runtime,
}

impl Delay {
    pub(crate) fn start(to: &str, delay: Duration) -> Result<Self> {
        let failed = |error: std::io::Error| format!("starting the delay: {error}");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let host = listener.local_addr().map_err(failed)?.to_string();
        listener.set_nonblocking(true).map_err(failed)?;
        let to = to.to_owned();
        runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, to.clone(), delay));
            }
        });
        Ok(Self { host, _runtime: runtime })
    }
}

async fn connection(client: TcpStream, to: String, delay: Duration) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    // Where it cannot be set, small messages wait for acknowledgements.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = Arc::new(AtomicU64::new(0));
    let seen = answers.clone();
    let back = async move {
        let mut buffer = vec![0; 256 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            seen.fetch_add(1, Ordering::Relaxed);
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        let _ = to_client.shutdown().await;
    };
    let forth = async move {
        let (mut buffer, mut before) = (vec![0; 256 << 10], u64::MAX);
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let now = answers.load(Ordering::Relaxed);
            if now != before {
                tokio::time::sleep(delay).await;
                before = now;
            }
            if to_server.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        let _ = to_server.shutdown().await;
    };
    futures_util::future::join(back, forth).await;
}
