//! A source of which one manifest has been read already, so that it is not asked for again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{BlobRead, ByteRange, Cursor, Manifest, Page, Referrers, Result, Source, Target};
use oci_spec_types::{Descriptor, Digest, Tag};

pub(crate) struct Known {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) manifest: Manifest,
    /// The place of its signatures by the configuration, which the source does not know of.
    pub(crate) signatures_elsewhere: Option<String>,
}

#[async_trait]
impl Source for Known {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.source.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        match target.digest() == Some(self.manifest.digest()) {
            true => Ok(self.manifest.clone()),
            false => self.source.manifest(target).await,
        }
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.source.blob_size(digest).await
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        self.source.has_blob(blob).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.source.blob(digest, range).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.source.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.source.referrers(subject, artifact_type, after, limit).await
    }

    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        self.source.signatures(manifest).await
    }

    fn may_have_signatures(&self) -> bool {
        self.source.may_have_signatures()
    }
    fn signatures_elsewhere(&self) -> Option<String> {
        self.signatures_elsewhere.clone().or_else(|| self.source.signatures_elsewhere())
    }
}
