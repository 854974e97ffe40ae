//! One large blob read by several requests at once, and handed over in order.

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_ref::{BlobRead, ByteRange};
use oci_spec_types::Digest;

use super::Repository;
use super::blob_body::BlobBody;
use crate::Result;
use crate::builder::ParallelRanges;

/// How much of a blob one of the requests asks for, in bytes. It is held in memory until its turn.
const PART: u64 = 4 << 20;

impl Repository {
    /// Reads a blob: its beginning by one request, whose answer tells its size and whether the registry gives parts, and
    /// what is left by several at once.
    pub(super) async fn read_in_parallel(
        &self,
        digest: &Digest,
        settings: ParallelRanges,
    ) -> Result<BlobRead> {
        let beginning = ByteRange::Inclusive(0, settings.min_size.max(1) - 1);
        let opened = match self.open_blob(digest, beginning).await {
            // No byte of an empty blob can be asked for.
            Err(error) if error.has_status(416) => self.open_blob(digest, ByteRange::All).await?,
            opened => opened?,
        };
        let size = opened.size;
        if !opened.is_part() {
            return Ok(opened.into_read(self, digest, 0..size));
        }
        let head = opened.part(beginning)?;
        let rest = head.end;
        let read = opened.into_read(self, digest, head);
        let (repository, digest) = (self.clone(), digest.clone());
        let parts = stream::iter((rest..size).step_by(PART as usize)).map(move |start| {
            let part = start..size.min(start.saturating_add(PART));
            let body = BlobBody::new(repository.clone(), digest.clone(), size, part);
            async move {
                let chunks = body.fetch().await?;
                Ok::<_, oci_ref::Error>(stream::iter(chunks.into_iter().map(Ok)))
            }
        });
        let parts = parts.buffered(settings.requests).try_flatten();
        Ok(BlobRead { size, range: 0..size, body: read.body.chain(parts).boxed() })
    }
}
