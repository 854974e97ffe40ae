//! The content of requests: verified while it is sent, and watched, so that a slow source is not taken for a dead
//! connection.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::outbound::{Outbound, Rest};
use crate::request::About;
use crate::{Error, Result};

/// Content up to this size, in bytes, is read before the request begins.
pub(crate) const MAX_EAGER: u64 = 64 << 10;

/// The content of a request, which can be sent again.
pub(crate) enum Payload<'a> {
    /// None.
    Nothing,
    /// Bytes at hand.
    Bytes(Bytes),
    /// A blob from so many bytes on, verified while it is sent.
    Blob { blob: &'a Outbound<'a>, from: u64 },
}

/// Content on its way.
pub(crate) struct Outgoing {
    pub(crate) body: reqwest::Body,
    pub(crate) length: u64,
    pub(crate) progress: Progress,
}

impl Payload<'_> {
    /// Opens the content, from its beginning.
    pub(crate) async fn open(&self, about: &About) -> Result<Outgoing> {
        let progress = Progress::new();
        let at_hand = |bytes: Bytes, progress| Outgoing {
            length: bytes.len() as u64,
            body: bytes.into(),
            progress,
        };
        match self {
            Self::Nothing => Ok(at_hand(Bytes::new(), progress)),
            Self::Bytes(bytes) => Ok(at_hand(bytes.clone(), progress)),
            Self::Blob { blob, from } => {
                let failed = |error| content_error(about, error);
                let rest = blob.open(*from).await.map_err(failed)?;
                let length = blob.descriptor().size - from;
                if length <= MAX_EAGER {
                    let pieces: Vec<Bytes> = rest.try_collect().await.map_err(failed)?;
                    return Ok(at_hand(pieces.concat().into(), progress));
                }
                let body = reqwest::Body::wrap_stream(progress.clone().watch(rest));
                Ok(Outgoing { body, length, progress })
            }
        }
    }
}

fn content_error(about: &About, error: oci_ref::Error) -> Error {
    let reason = format!("the content to be sent cannot be read: {error}");
    // Read once more, it may be right: at another mirror.
    let again = error.find_source::<Error>().is_some_and(Error::is_retryable)
        && *error.kind() == oci_ref::ErrorKind::Code(oci_spec_types::ErrorCode::DigestInvalid);
    Error::new(error.kind().clone(), about.what.clone(), reason).with_source(error).retryable(again)
}

/// How the sending of a request's content goes on.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<State>>);

struct State {
    last: Instant,
    /// The content's source is being waited for, not the network.
    waits_for_source: bool,
    error: Option<oci_ref::Error>,
}

impl Progress {
    fn new() -> Self {
        let state = State { last: Instant::now(), waits_for_source: false, error: None };
        Self(Arc::new(Mutex::new(state)))
    }

    fn watch(self, mut blob: Rest) -> impl futures_core::Stream<Item = Result<Bytes, Interrupted>> {
        stream::poll_fn(move |cx| {
            let polled = blob.poll_next_unpin(cx);
            let mut state = self.lock();
            state.last = Instant::now();
            state.waits_for_source = polled.is_pending();
            match polled {
                Poll::Ready(Some(Err(error))) => {
                    state.error = Some(error);
                    Poll::Ready(Some(Err(Interrupted)))
                }
                Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Some(Ok(chunk))),
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
    }

    /// Why the content broke off, if it did.
    pub(crate) fn content_error(&self, about: &About) -> Option<Error> {
        Some(content_error(about, self.lock().error.take()?))
    }

    /// Waits for an answer, but not for longer than `idle` without progress. `None` if it did not come.
    pub(crate) async fn wait<T>(
        &self,
        answer: impl Future<Output = T>,
        idle: Option<Duration>,
    ) -> Option<T> {
        let Some(idle) = idle else {
            return Some(answer.await);
        };
        let mut answer = pin!(answer);
        let mut since = Instant::now();
        loop {
            if let Ok(answer) = tokio::time::timeout_at(since + idle, &mut answer).await {
                return Some(answer);
            }
            let state = self.lock();
            since = match state.waits_for_source {
                true => Instant::now(),
                false if state.last > since => state.last,
                false => return None,
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the HTTP client is told when the content breaks off; the reason is kept aside.
#[derive(Debug, thiserror::Error)]
#[error("the content to be sent broke off")]
struct Interrupted;
