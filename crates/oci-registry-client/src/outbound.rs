//! A blob that is being sent, whose digest is known: read from wherever the registry stands, and
//! verified as a whole all the same.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt};
use oci_ref::{Blob, Error, Reopen, Result};
use oci_spec_types::{Descriptor, Verifier};
use tokio::time::Instant;

/// After how many bytes the state of the hash is kept.
const STEP: u64 = 1 << 20;

/// The number of states that are kept, the newest. What is on its way, and not there yet, is
/// seldom more than they cover; beyond that the content is read from its beginning.
const STATES: usize = 64;

/// A blob that is being sent.
pub(crate) struct Outbound<'a> {
    descriptor: &'a Descriptor,
    content: &'a dyn Reopen,
    sent: Arc<Mutex<Sent>>,
}

/// The part of a blob that has been sent.
#[derive(Default)]
struct Sent {
    /// The hashes of the content's first so many bytes.
    states: VecDeque<(u64, Verifier)>,
    /// The most bytes, from the beginning, that were handed to the network.
    reached: u64,
    /// When the last of them were.
    last: Option<Instant>,
    /// The content is not what it should be.
    wrong: bool,
}

impl Sent {
    fn failed(&mut self, error: &Error) {
        self.wrong |= error.is_other_content();
    }
}

impl<'a> Outbound<'a> {
    pub(crate) fn new(descriptor: &'a Descriptor, content: &'a dyn Reopen) -> Self {
        Self { descriptor, content, sent: Arc::default() }
    }

    pub(crate) fn descriptor(&self) -> &'a Descriptor {
        self.descriptor
    }

    /// The most bytes, from the beginning, that were handed to the network.
    pub(crate) fn reached(&self) -> u64 {
        lock(&self.sent).reached
    }

    /// When bytes were handed to the network the last time.
    pub(crate) fn last_moved(&self) -> Option<Instant> {
        lock(&self.sent).last
    }

    /// Tells whether the content was not what it should be, and forgets what is known of it.
    pub(crate) fn take_wrong(&self) -> bool {
        let mut sent = lock(&self.sent);
        if sent.wrong {
            *sent = Sent::default();
            return true;
        }
        false
    }

    /// The bytes from `offset` on. The last of them are withheld until the digest is known to be
    /// that of all of it; so what comes before is hashed here, as far as its hash is not known.
    pub(crate) async fn open(&self, offset: u64) -> Result<Rest> {
        let opened = self.try_open(offset).await;
        if let Err(error) = &opened {
            lock(&self.sent).failed(error);
        }
        opened
    }

    async fn try_open(&self, offset: u64) -> Result<Rest> {
        let known = lock(&self.sent).states.iter().rev().find(|(at, _)| *at <= offset).cloned();
        let (start, verifier) = match known {
            Some(known) => known,
            None => (0, self.descriptor.digest.verifier()?),
        };
        let body = self.content.open(start).await?;
        let mut blob = Blob::resume(self.descriptor.clone(), body, start, verifier)?;
        let (mut at, mut first) = (start, None);
        while at < offset
            && let Some(mut piece) = blob.try_next().await?
        {
            at += piece.len() as u64;
            if at > offset {
                // What lies beyond is less than the piece, whose length is a usize.
                first = Some(piece.split_off(piece.len() - (at - offset) as usize));
            }
        }
        Ok(Rest { first, blob, sent: self.sent.clone(), at: offset })
    }
}

/// The rest of a blob that is being sent.
pub(crate) struct Rest {
    first: Option<Bytes>,
    blob: Blob,
    sent: Arc<Mutex<Sent>>,
    /// The offset of the next piece in the blob.
    at: u64,
}

impl Stream for Rest {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let this = self.get_mut();
        let piece = match this.first.take() {
            Some(piece) => Some(Ok(piece)),
            None => ready!(this.blob.poll_next_unpin(cx)),
        };
        match &piece {
            Some(Ok(piece)) => this.moved(piece.len()),
            Some(Err(error)) => lock(&this.sent).failed(error),
            None => {}
        }
        Poll::Ready(piece)
    }
}

impl Rest {
    fn moved(&mut self, length: usize) {
        self.at += length as u64;
        let mut sent = lock(&self.sent);
        sent.reached = sent.reached.max(self.at);
        sent.last = Some(Instant::now());
        let newest = sent.states.back().map_or(0, |(at, _)| *at);
        if let Some((at, verifier)) = self.blob.state()
            && at >= newest + STEP
        {
            sent.states.push_back((at, verifier.clone()));
            if sent.states.len() > STATES {
                sent.states.pop_front();
            }
        }
    }
}

fn lock(sent: &Mutex<Sent>) -> MutexGuard<'_, Sent> {
    // Nothing that holds this lock can leave the data half changed.
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}
