//! A connection that can be broken off at a certain byte.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In order: the peer reads an end of file.
    Close,
    /// With a reset.
    Reset,
}

/// What is to happen to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Open,
    /// Nothing more is sent.
    Ends(End),
    /// What is written next is the last that is sent.
    EndsAfter(End),
    /// The last has been written; it has to leave the buffers.
    Written(End),
}

/// By this whoever answers a request breaks its connection off. It is an extension of the request.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Fate>>);

impl Line {
    /// Sends nothing more.
    pub(super) fn end(&self, end: End) {
        self.set(Fate::Ends(end));
    }

    /// Sends what is about to be written, and nothing more.
    pub(super) fn end_after(&self, end: End) {
        self.set(Fate::EndsAfter(end));
    }

    fn set(&self, fate: Fate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    fn fate(&self) -> Fate {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, and what is to happen to it.
pub(super) struct Breakable {
    stream: TcpStream,
    line: Line,
}

impl Breakable {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, line: Line::default() }
    }

    pub(super) fn line(&self) -> Line {
        self.line.clone()
    }

    fn check(&self) -> io::Result<()> {
        match self.line.fate() {
            Fate::Ends(_) => Err(broken()),
            _ => Ok(()),
        }
    }

    fn wrote(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(_)), Fate::EndsAfter(end)) = (&poll, self.line.fate()) {
            self.line.set(Fate::Written(end));
        }
        poll
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "a fault breaks the connection off")
}

impl Drop for Breakable {
    fn drop(&mut self) {
        let reset = matches!(
            self.line.fate(),
            Fate::Ends(End::Reset) | Fate::EndsAfter(End::Reset) | Fate::Written(End::Reset)
        );
        if reset {
            // Where it cannot be set, the peer sees an end of file, which breaks the answer off as well.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Whoever writes has written all that it holds before it flushes.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        match self.line.fate() {
            Fate::Written(_) => Poll::Ready(Err(broken())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
