//! A blob's content on its way, counted.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_spec_types::Descriptor;

use super::progress::CopyEvent;
use super::run::Run;
use crate::{Body, Reopen, Result, SourceBlob};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A blob of the source, whose bytes are told as they are read.
pub(super) struct Content {
    run: Arc<Run>,
    blob: Descriptor,
    opened: AtomicBool,
}

impl Content {
    pub(super) fn new(run: Arc<Run>, blob: Descriptor) -> Self {
        Self { run, blob, opened: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Reopen for Content {
    async fn open(&self, offset: u64) -> Result<Body> {
        let tell = |event: &CopyEvent<'_>| self.run.options.tell(event);
        let first = !self.opened.swap(true, Ordering::Relaxed);
        if first {
            tell(&CopyEvent::Begun(&self.blob));
        }
        if !first || offset > 0 {
            tell(&CopyEvent::Retried(&self.blob, offset));
        }
        let body = match &self.blob.data {
            Some(data) => Bytes::from(data.clone()).open(offset).await?,
            None => {
                let blob = SourceBlob::new(self.run.from.clone(), self.blob.digest.clone());
                blob.open(offset).await?
            }
        };
        if self.run.options.progress.is_none() {
            return Ok(body);
        }
        let (run, blob) = (self.run.clone(), self.blob.clone());
        let counted = body.inspect_ok(move |chunk| {
            run.options.tell(&CopyEvent::Bytes(&blob, chunk.len() as u64));
        });
        Ok(counted.boxed())
    }
}
