//! Clients that are slow: uploads that rest in the middle, and downloads that nobody reads on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::content::{Content, begin_upload, blob_path};
use crate::bench::http::Connection;
use crate::bench::target::Target;
use crate::process::Result;

/// How many of each kind.
const EACH: usize = 64;

/// How much of an upload arrives, in bytes.
const SENT: usize = 100_000;

/// Open connections, on which nothing more is sent or read.
pub(crate) struct Crowd(#[expect(dead_code, reason = "kept open")] Vec<TcpStream>);

impl Crowd {
    /// Opens them all.
    pub(crate) async fn gather(target: &Target, content: &Content) -> Result<Self> {
        let mut crowd = Vec::new();
        for _ in 0..EACH {
            let path = begin_upload(&mut Connection::open(&target.host).await?).await?;
            let length = content.large.bytes.len();
            let head = format!(
                "PATCH {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\
                 Content-Type: application/octet-stream\r\n\r\n",
                target.host
            );
            let begun = [head.as_bytes(), &content.large.bytes[..SENT]].concat();
            crowd.push(open(target, &begun).await?);
        }
        for _ in 0..EACH {
            let path = blob_path(&content.large.digest);
            let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
            let mut stream = open(target, head.as_bytes()).await?;
            // The answer has begun.
            let failed = |error| format!("reading the begin of a blob: {error}");
            stream.read_exact(&mut [0; 1024]).await.map_err(failed)?;
            crowd.push(stream);
        }
        Ok(Self(crowd))
    }
}

async fn open(target: &Target, request: &[u8]) -> Result<TcpStream> {
    let failed = |error| format!("connecting to {}: {error}", target.host);
    let mut stream = TcpStream::connect(&target.host).await.map_err(failed)?;
    stream.write_all(request).await.map_err(failed)?;
    Ok(stream)
}
