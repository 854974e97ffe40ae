//! Clients that are slow: uploads that rest in the middle, and downloads that are read on slowly.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bench::content::{Content, LARGE, begin_upload, blob_path};
use crate::bench::http::Connection;
use crate::bench::target::Target;
use crate::process::Result;

/// How many of each kind.
const EACH: usize = 64;

/// How much of an upload arrives, in bytes.
const SENT: usize = 100_000;

/// More than the system holds of a download on both sides, in bytes.
const HELD: usize = 40 << 20;

/// How often a download reads on, and how much.
const PAUSE: Duration = Duration::from_millis(100);
const READ: usize = 32 << 10;

/// Uploads of which nothing more comes, and downloads that are read on slowly.
pub(crate) struct Crowd {
    uploads: Vec<TcpStream>,
    downloads: JoinSet<Result<Download>>,
    end: watch::Sender<bool>,
}

impl Crowd {
    /// Opens them all.
    pub(crate) async fn gather(target: &Target, content: &Content) -> Result<Self> {
        let mut uploads = Vec::new();
        for _ in 0..EACH {
            let path = begin_upload(&mut Connection::open(&target.host).await?).await?;
            let length = content.large.bytes.len();
            let head = format!(
                "PATCH {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\
                 Content-Type: application/octet-stream\r\n\r\n",
                target.host
            );
            let begun = [head.as_bytes(), &content.large.bytes[..SENT]].concat();
            uploads.push(open(target, &begun).await?);
        }
        let (end, ended) = watch::channel(false);
        let mut downloads = JoinSet::new();
        for _ in 0..EACH {
            let path = blob_path(&content.large.digest);
            let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.host);
            let mut download = Download { stream: open(target, head.as_bytes()).await?, read: 0 };
            // The answer has begun.
            download.read().await?;
            downloads.spawn(download.go_on(ended.clone()));
        }
        Ok(Self { uploads, downloads, end })
    }

    /// Ends the crowd. An error if one of them has been sent away.
    pub(crate) async fn still_there(mut self) -> Result {
        for upload in &mut self.uploads {
            // Nothing was to be said to it yet, not even good-bye.
            match upload.try_read(&mut [0; 1]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) => return Err("a resting upload was broken off".into()),
                Ok(_) => return Err("a resting upload was answered".into()),
                Err(error) => return Err(format!("a resting upload was broken off: {error}")),
            }
        }
        self.end.send_replace(true);
        while let Some(download) = self.downloads.join_next().await {
            let mut download = download.map_err(|error| format!("a slow download: {error}"))??;
            // What the system holds of it already comes in any case, and more only from the server.
            let enough = download.read + HELD;
            while download.read < enough.min(LARGE) {
                download.read().await?;
            }
        }
        Ok(())
    }
}

/// A download that is read on slowly.
struct Download {
    stream: TcpStream,
    /// How many bytes.
    read: usize,
}

impl Download {
    async fn go_on(mut self, mut ended: watch::Receiver<bool>) -> Result<Self> {
        while tokio::time::timeout(PAUSE, ended.wait_for(|ended| *ended)).await.is_err() {
            if self.read < LARGE - READ {
                self.read().await?;
            }
        }
        Ok(self)
    }

    async fn read(&mut self) -> Result {
        match self.stream.read(&mut [0; READ]).await {
            Ok(0) => Err("a slow download was broken off".into()),
            Ok(count) => {
                self.read += count;
                Ok(())
            }
            Err(error) => Err(format!("a slow download was broken off: {error}")),
        }
    }
}

async fn open(target: &Target, request: &[u8]) -> Result<TcpStream> {
    let failed = |error| format!("connecting to {}: {error}", target.host);
    let mut stream = TcpStream::connect(&target.host).await.map_err(failed)?;
    stream.write_all(request).await.map_err(failed)?;
    Ok(stream)
}
