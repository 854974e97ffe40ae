//! The repository as a source and a store.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use oci_ref::{
    BlobRead, ByteRange, Capabilities, Cursor, Manifest, Mounted, Page, Precondition, Referrers,
    Reopen, Result, Source, Staged, Store, Target, UploadId,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Name, Tag};

use super::Repository;
use super::blobs::check_size;
use super::staged::StagedUpload;

#[async_trait]
impl Source for Repository {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.describe(target).await?)
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        Ok(self.read_manifest_anywhere(target, None).await?)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.find_blob(digest).await?)
    }

    /// A registry that does not say how large a blob is has it all the same.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let Some(found) = self.ask_blob(&blob.digest).await? else { return Ok(false) };
        found.size.map_or(Ok(true), |size| check_size(blob, size).map(|()| true))
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        Ok(self.read_blob_anywhere(digest, range).await?)
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        Ok(self.list_tags(after, limit).await?)
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        Ok(self.list_referrers(subject, artifact_type, after, limit).await?)
    }

    fn signatures_elsewhere(&self) -> Option<String> {
        let keeps = self.registry().state().keeps_signatures.load(Ordering::Relaxed);
        keeps.then(|| format!("the signature extension of {}", self.registry().host()))
    }
}

#[async_trait]
impl Store for Repository {
    /// What registries can do in general; whether this one can is seen when it is asked.
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.sparse = None;
        capabilities.mount = true;
        capabilities.preconditions = true;
        capabilities
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        Ok(self.write_blob(descriptor, content).await?)
    }

    /// The upload is opened when the first chunk is full, so that a small blob needs no chunk.
    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Ok(Box::new(StagedUpload::new(self.clone(), algorithm, None)))
    }

    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        Ok(Box::new(StagedUpload::resume(self.clone(), upload).await?))
    }

    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        Ok(StagedUpload::offset_of(self, upload).await?)
    }

    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        Ok(self.mount_blob(&descriptor.digest, from).await?)
    }

    /// Writes the manifest, then the tags. A registry that does not know conditions is asked first what the tags name,
    /// so that the condition holds unless someone else is quicker.
    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        Ok(self.write_manifest(manifest, tags, when).await?)
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        Ok(self.remove_tag(tag).await?)
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        Ok(self.remove_manifest(digest).await?)
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        Ok(self.remove_blob(digest).await?)
    }
}
