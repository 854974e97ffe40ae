//! Reading a directory.

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec_types::{Algorithm, Descriptor, Digest, Tag};

use super::Directory;
use super::files::{Files, Signatures, hex};
use crate::layout::unknown_manifest;
use crate::layout::view::{referrers_page, unknown_blob};
use crate::{BlobRead, ByteRange, Cursor, Manifest, Page, Referrers, Result, Source, Target};

impl Files {
    fn find(&self, target: &Target) -> Result<Manifest> {
        match target {
            Target::Tag(_) => self.root()?.ok_or_else(|| self.no_root()),
            Target::Digest(digest) | Target::Pinned(_, digest) => self
                .manifest(digest)?
                .ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known"))),
        }
    }

    /// The signatures of a manifest, under its own name or that of the root.
    fn signatures_of(&self, digest: &Digest) -> Result<Vec<Bytes>> {
        let Some(own) = Signatures::of(digest) else { return Ok(Vec::new()) };
        let found = self.signatures(&own)?;
        // The root has no file of its own, unless under an unusual digest; it may be large, so it is read last.
        let is_other = || -> Result<bool> {
            let usual = digest.known_algorithm() == Some(Algorithm::Sha256);
            Ok(usual && self.has_own_file(digest)?)
        };
        match !found.is_empty() || is_other()? || !self.is_root(digest)? {
            true => Ok(found),
            false => self.signatures(&Signatures::OfRoot),
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let manifests = self.manifests()?;
        let about = |manifest: &Manifest| {
            let is_about = manifest.subject().is_some_and(|about| about.digest == *subject);
            is_about.then(|| manifest.as_referrer()).flatten()
        };
        let mut found: Vec<Descriptor> = manifests.iter().filter_map(about).collect();
        found.sort_by(|a, b| a.digest.cmp(&b.digest));
        found.dedup_by(|a, b| a.digest == b.digest);
        Ok(found)
    }
}

#[async_trait]
impl Source for Directory {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let target = target.clone();
        self.blocking(move |files| files.find(&target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = digest.clone();
        self.blocking(move |files| files.blob_size(&digest)).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let digest = digest.clone();
        let open = move |files: &Files| {
            let part = files.blob_part(&digest)?.ok_or_else(|| unknown_blob(&digest))?;
            let name = hex(&digest).unwrap_or_default().to_owned();
            part.open(range, &format!("blob {digest}"), name)
        };
        self.blocking(open).await
    }

    async fn tags(&self, after: Option<&Cursor>, _limit: usize) -> Result<Page<Tag>> {
        after.map(Cursor::name).transpose()?;
        Ok(Page::last(Vec::new()))
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let subject = subject.clone();
        let found = self.blocking(move |files| files.referrers(&subject)).await?;
        referrers_page(found, artifact_type, after, limit)
    }

    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        let manifest = manifest.clone();
        self.blocking(move |files| files.signatures_of(&manifest)).await
    }

    fn may_have_signatures(&self) -> bool {
        true
    }
}
