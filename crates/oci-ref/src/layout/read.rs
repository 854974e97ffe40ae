//! Reading a layout.

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Digest, Tag};

use super::disk::Disk;
use super::view::{self, Blobs};
use super::{Layout, reach};
use crate::{BlobRead, ByteRange, Cursor, Manifest, Page, Referrers, Result, Source, Target};

#[async_trait]
impl Source for Layout {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let target = target.clone();
        self.blocking(move |disk| view::manifest(disk, &*disk.read_index()?, &target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = digest.clone();
        self.blocking(move |disk| disk.blob_size(&digest)).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let digest = digest.clone();
        self.blocking(move |disk| view::blob(disk, &digest, range)).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let index = self.blocking(Disk::read_index).await?;
        view::tags(&index, after, limit)
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let subject = subject.clone();
        let find = move |disk: &Disk| reach::referrers(disk, &*disk.read_index()?, &subject);
        let found = self.blocking(find).await?;
        view::referrers_page(found.into_values(), artifact_type, after, limit)
    }
}
