//! A connection whose peer must read what is sent to it at a bounded pace.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::activity::Activity;

/// The most that is read at a time of anything but an upload: 16 KiB. The connection's buffer grows
/// with what is read at a time, and stays so for as long as the peer sends nothing more.
const SMALL_READ: u64 = 16 << 10;

/// Breaks a connection off when its peer does not read: not at all for an idle timeout, or on average less than a
/// minimum rate. Only time counts in which we wait for the peer.
pub(crate) struct Paced<S> {
    stream: S,
    idle_timeout: Duration,
    min_rate: u64,
    /// Since when the peer keeps us waiting.
    waiting: Option<Instant>,
    /// How long it has in all, and how many bytes it has taken.
    waited: Duration,
    written: u64,
    alarm: Pin<Box<Sleep>>,
    activity: Arc<Activity>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, idle_timeout: Duration, min_rate: u64) -> Self {
        Self {
            stream,
            idle_timeout,
            min_rate,
            waiting: None,
            waited: Duration::ZERO,
            written: 0,
            alarm: Box::pin(sleep_until(Instant::now())),
            activity: Arc::new(Activity::new()),
        }
    }

    /// The state of the connection.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Judges the outcome of a write.
    fn pace(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let too_slow = || io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly");
        match poll {
            Poll::Ready(Ok(count)) => {
                self.written = self.written.saturating_add(count as u64);
                if let Some(since) = self.waiting.take() {
                    self.activity.sending(false);
                    self.waited += since.elapsed();
                    let least = self.waited.as_secs().saturating_mul(self.min_rate);
                    if self.waited > self.idle_timeout && self.written < least {
                        return Poll::Ready(Err(too_slow()));
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Pending => {
                if self.waiting.is_none() {
                    let now = Instant::now();
                    self.waiting = Some(now);
                    self.activity.sending(true);
                    self.alarm.as_mut().reset(now + self.idle_timeout);
                }
                match self.alarm.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(too_slow())),
                    Poll::Pending => Poll::Pending,
                }
            }
            failed => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let limit = if self.activity.uploads() { u64::MAX } else { SMALL_READ };
        let mut stream = (&mut self.stream).take(limit);
        let poll = Pin::new(&mut stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.hear();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.pace(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.pace(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, duplex};

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn only_uploads_are_read_in_large_pieces() {
        const SENT: usize = 100 << 10;
        for (uploads, expected) in [(false, 16 << 10), (true, SENT)] {
            let (ours, mut theirs) = duplex(SENT);
            let mut ours = Paced::new(ours, TIMEOUT, 0);
            ours.activity().begin(uploads);
            theirs.write_all(&vec![7; SENT]).await.unwrap();
            let mut buffer = vec![0; 2 * SENT];
            assert_eq!(ours.read(&mut buffer).await.unwrap(), expected);
            let rest = SENT - expected;
            ours.read_exact(&mut buffer[..rest]).await.unwrap();
            assert!(buffer[..rest].iter().all(|byte| *byte == 7));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (ours, _theirs) = duplex(4);
        let mut ours = Paced::new(ours, TIMEOUT, 0);
        let start = Instant::now();
        let error = ours.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_trickles_is_given_up() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Paced::new(ours, TIMEOUT, 1);
        let reader = tokio::spawn(async move {
            let mut byte = [0];
            while theirs.read(&mut byte).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        let error = ours.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_to_be_sent_does_not_count() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Paced::new(ours, TIMEOUT, 1 << 20);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            ours.write_all(b"abcd").await.unwrap();
            let mut got = [0; 4];
            theirs.read_exact(&mut got).await.unwrap();
        }
    }
}
