//! A blob as a file that can be read and sought in.

use std::fmt;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, StreamExt};
use oci_ref::{Blob, Body, ByteRange, ErrorKind, Source};
use oci_spec_types::{Descriptor, ErrorCode};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};

use super::Repository;
use super::blobs::check_size;
use crate::{Error, Result};

/// A blob of a registry, read and sought in like a file.
///
/// Read from its beginning to its end it is verified, and its last bytes come only if the digest is right. What is read
/// after seeking elsewhere is a part, which no digest can verify. Bodies that break off are resumed as the client's
/// [`RetryPolicy`](crate::RetryPolicy) says. Each seek to another place costs a request at the next read.
///
/// An [`oci_ref::Error`] is the inner error of the [`io::Error`]s.
pub struct BlobReader {
    repository: Repository,
    descriptor: Descriptor,
    seekable: bool,
    position: u64,
    state: State,
    closed: Arc<Closed>,
}

enum State {
    /// Nothing has been asked for at this position.
    Idle,
    Opening(BoxFuture<'static, oci_ref::Result<Body>>),
    Reading {
        body: Body,
        chunk: Bytes,
    },
    Ended,
    Failed,
}

#[derive(Default)]
struct Closed {
    closed: AtomicBool,
    reader: AtomicWaker,
}

/// Closes a [`BlobReader`] from anywhere.
#[derive(Clone)]
pub struct BlobCloser(Arc<Closed>);

impl BlobCloser {
    /// Ends the reader: a read that waits, and each later one, fails with [`io::ErrorKind::ConnectionAborted`], and its
    /// connection is given up.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

impl fmt::Debug for BlobCloser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self.0.closed.load(Ordering::Relaxed);
        f.debug_struct("BlobCloser").field("closed", &closed).finish()
    }
}

impl Repository {
    /// A blob as a file. The registry is asked whether it has it, and whether parts of it can be had.
    ///
    /// # Errors
    /// When it is not there, or has another size than the descriptor says.
    pub async fn open(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        let about = || self.about_blob(&descriptor.digest).what;
        let found = self
            .ask_blob(&descriptor.digest)
            .await?
            .ok_or_else(|| Error::new(ErrorCode::BlobUnknown, about(), "it is not there"))?;
        if let Some(size) = found.size.filter(|size| *size != descriptor.size) {
            let reason = format!("it has {size} bytes, expected {}", descriptor.size);
            return Err(Error::new(ErrorCode::SizeInvalid, about(), reason));
        }
        Ok(BlobReader {
            repository: self.clone(),
            descriptor: descriptor.clone(),
            seekable: found.ranges,
            position: 0,
            state: State::Idle,
            closed: Arc::default(),
        })
    }
}

impl BlobReader {
    /// How many bytes the blob has.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// Whether the registry gives parts of it (`Accept-Ranges: bytes`). If not, only the beginning can be sought.
    pub fn is_seekable(&self) -> bool {
        self.seekable
    }

    /// What ends this reader from another task.
    pub fn closer(&self) -> BlobCloser {
        BlobCloser(self.closed.clone())
    }

    /// Asks for the bytes from the position on.
    fn ask(&self) -> BoxFuture<'static, oci_ref::Result<Body>> {
        let (repository, descriptor, at) =
            (self.repository.clone(), self.descriptor.clone(), self.position);
        async move {
            if at == 0 {
                return Ok(Blob::open(&repository, &descriptor).await?.boxed());
            }
            let read = repository.blob(&descriptor.digest, ByteRange::From(at)).await?;
            check_size(&descriptor, read.size)?;
            Ok(read.body)
        }
        .boxed()
    }

    fn poll(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                // The empty blob is asked for as well, so that it is verified that there is nothing.
                State::Idle if self.position >= self.descriptor.size && self.position > 0 => {
                    return Poll::Ready(Ok(()));
                }
                State::Idle => self.state = State::Opening(self.ask()),
                State::Opening(opening) => {
                    let body = ready!(opening.as_mut().poll(cx)).map_err(io_error)?;
                    self.state = State::Reading { body, chunk: Bytes::new() };
                }
                State::Reading { chunk, .. } if chunk.has_remaining() => {
                    let count = chunk.len().min(buffer.remaining());
                    buffer.put_slice(&chunk.split_to(count));
                    self.position += count as u64;
                    return Poll::Ready(Ok(()));
                }
                State::Reading { body, chunk } => match ready!(body.poll_next_unpin(cx)) {
                    Some(next) => *chunk = next.map_err(io_error)?,
                    None => self.state = State::Ended,
                },
                State::Ended => return Poll::Ready(Ok(())),
                State::Failed => return Poll::Ready(Err(io::Error::other("it has failed before"))),
            }
        }
    }
}

fn io_error(error: oci_ref::Error) -> io::Error {
    let kind = match error.kind() {
        _ if error.is_not_found() => io::ErrorKind::NotFound,
        ErrorKind::Unavailable => io::ErrorKind::UnexpectedEof,
        ErrorKind::Code(ErrorCode::DigestInvalid | ErrorCode::SizeInvalid) => {
            io::ErrorKind::InvalidData
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl AsyncRead for BlobReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.closed.reader.register(cx.waker());
        if this.closed.closed.load(Ordering::Acquire) {
            this.state = State::Failed;
            let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the reader was closed");
            return Poll::Ready(Err(error));
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let polled = this.poll(cx, buffer);
        if let Poll::Ready(Err(_)) = &polled {
            this.state = State::Failed;
        }
        polled
    }
}

impl AsyncSeek for BlobReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.descriptor.size.checked_add_signed(by),
        };
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidInput, "that is before the beginning");
        let position = position.ok_or_else(invalid)?;
        if position == self.position {
            return Ok(());
        }
        if position > 0 && position < self.descriptor.size && !self.seekable {
            let reason = "the registry gives no parts of this blob";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        self.position = position;
        self.state = State::Idle;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobReader")
            .field("repository", &self.repository)
            .field("digest", &self.descriptor.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
