//! A blob's body as it is read: only what was asked for, and resumed where it broke off.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_ref::{Body, ErrorKind};
use oci_spec_types::Digest;
use tokio::time::Instant;

use super::Repository;
use super::pace::Pace;
use crate::response::Response;
use crate::retry::Attempts;
use crate::{Error, Result};

/// A blob that is being read.
pub(super) struct BlobBody {
    repository: Repository,
    digest: Digest,
    /// The size of the whole blob.
    size: u64,
    /// What is still to be handed over.
    left: Range<u64>,
    attempts: Attempts,
    ranges: Ranges,
    pace: Pace,
}

/// The bytes that are asked for after a break.
#[derive(Clone, Copy, PartialEq)]
enum Ranges {
    /// The rest, and nothing else.
    Only,
    /// The rest, or all of the blob if the registry does not give that (416).
    OrAll,
    /// All of the blob.
    All,
}

impl BlobBody {
    pub(super) fn new(
        repository: Repository,
        digest: Digest,
        size: u64,
        wanted: Range<u64>,
    ) -> Self {
        let attempts = repository.registry().attempts();
        let config = repository.client().config();
        let pace = Pace::new(config.min_rate, config.idle_timeout);
        Self { repository, digest, size, left: wanted, attempts, ranges: Ranges::Only, pace }
    }

    /// The body, which begins with an answer whose first byte is the blob's byte `at`.
    pub(super) fn start(mut self, response: Response, at: u64) -> Body {
        self.ranges = Ranges::OrAll;
        stream::try_unfold((self, response, at), |(mut this, mut response, mut at)| async move {
            let chunk = this.next(&mut response, &mut at).await?;
            Ok(chunk.map(|chunk| (chunk, (this, response, at))))
        })
        .boxed()
    }

    /// All of what was asked for, asked for here.
    pub(super) async fn fetch(mut self) -> Result<Vec<Bytes>> {
        let (mut response, mut at) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => self.resume(error).await?,
        };
        let mut all = Vec::new();
        while let Some(chunk) = self.next(&mut response, &mut at).await? {
            all.push(chunk);
        }
        Ok(all)
    }

    /// The next piece of what was asked for. `at` is where in the blob the answer stands.
    async fn next(&mut self, response: &mut Response, at: &mut u64) -> Result<Option<Bytes>> {
        loop {
            // At the very end the answer must end as well.
            if self.left.is_empty() && self.left.end < self.size {
                return Ok(None);
            }
            let error = match self.wait(response).await {
                Ok(Some(chunk)) => match self.take(chunk, at, response)? {
                    Some(chunk) => {
                        if self.pace.is_progress() {
                            self.attempts.reset();
                        }
                        return Ok(Some(chunk));
                    }
                    None => continue,
                },
                Ok(None) if self.left.is_empty() => return Ok(None),
                Ok(None) => {
                    let reason = format!("unexpected end at byte {at} of {}", self.left.end);
                    response.error(ErrorKind::Unavailable, reason).retryable(true)
                }
                // All is there that was asked for.
                Err(_) if self.left.is_empty() => return Ok(None),
                Err(error) => error,
            };
            (*response, *at) = self.resume(error).await?;
        }
    }

    /// Waits for the next piece, unless those before came too slowly.
    async fn wait(&mut self, response: &mut Response) -> Result<Option<Bytes>> {
        if let Some(rate) = self.pace.take_fault() {
            let reason = format!("the blob comes too slowly: less than {rate} bytes a second");
            return Err(response.error(ErrorKind::Unavailable, reason).retryable(true));
        }
        let began = Instant::now();
        let chunk = response.chunk().await?;
        self.pace.came(began.elapsed(), chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        Ok(chunk)
    }

    /// What of a piece was asked for; `None` if nothing of it.
    fn take(
        &mut self,
        mut chunk: Bytes,
        at: &mut u64,
        response: &Response,
    ) -> Result<Option<Bytes>> {
        let end = at.saturating_add(chunk.len() as u64);
        if end > self.size {
            let reason = format!("the blob has at least {end} bytes, expected {}", self.size);
            return Err(response.error(oci_spec_types::ErrorCode::SizeInvalid, reason));
        }
        let begin = std::mem::replace(at, end);
        let part = self.left.start.clamp(begin, end)..self.left.end.clamp(begin, end);
        // Both ends lie within the piece, whose length is a usize.
        chunk.truncate((part.end - begin) as usize);
        let chunk = chunk.split_off(((part.start - begin) as usize).min(chunk.len()));
        if chunk.is_empty() {
            return Ok(None);
        }
        self.left.start = part.end;
        Ok(Some(chunk))
    }

    /// Asks for what is left.
    async fn open(&self) -> Result<(Response, u64)> {
        let registry = self.repository.registry();
        self.attempts.ready(registry.state()).await;
        let part = match self.ranges {
            Ranges::All => 0..self.size,
            Ranges::Only | Ranges::OrAll => self.left.clone(),
        };
        registry.reopen_blob(&self.repository, &self.digest, part, self.size).await
    }

    /// Asks for what is left after a failure.
    async fn resume(&mut self, mut error: Error) -> Result<(Response, u64)> {
        loop {
            self.attempts.failed(self.repository.registry().state(), error).await?;
            let mut opened = self.open().await;
            if self.ranges == Ranges::OrAll
                && opened.as_ref().is_err_and(|error| error.has_status(416))
            {
                self.ranges = Ranges::All;
                opened = self.open().await;
            }
            match opened {
                Ok(resumed) => return Ok(resumed),
                Err(failed) => error = failed,
            }
        }
    }
}
