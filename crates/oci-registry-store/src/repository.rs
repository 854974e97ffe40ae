//! One repository of the engine, as everybody reads and writes it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{
    BlobRead, Body, ByteRange, Capabilities, Cursor, Error, ErrorKind, Manifest, ManifestBytes,
    ManifestError, Mounted, Page, Precondition, Referrers, Result, Source, Staged, Store, Target,
    UploadId, apart,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Name, Tag};

use crate::References;
use crate::engine::Engine;
use crate::metadata::{BlobRecord, BlobSize, Content, NewManifest, SessionState, refusals};
use crate::objects::ObjectKey;
use crate::upload::Upload;

/// How long a URL of a blob can be used: long enough to go on with a download that was cut off.
const URL_LIFETIME: Duration = Duration::from_secs(20 * 60);

/// A repository, whether it exists already or not.
pub(crate) struct Repository {
    engine: Arc<Engine>,
    name: Name,
}

impl Repository {
    pub(crate) fn new(engine: Arc<Engine>, name: Name) -> Self {
        Self { engine, name }
    }

    fn manifest_unknown(&self, digest: &Digest) -> Error {
        let message = format!("manifest {digest} is not in repository {}", self.name);
        Error::new(ErrorCode::ManifestUnknown, message)
    }

    /// The bytes of a manifest that has been resolved, verified.
    async fn stored_manifest(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let digest = &descriptor.digest;
        if let Some(bytes) = self.engine.manifests.get(digest) {
            return Ok(bytes);
        }
        let bytes = self.engine.metadata.manifest_bytes(digest).await?;
        // Deleted since it was resolved.
        let bytes = bytes.ok_or_else(|| self.manifest_unknown(digest))?;
        let expected = descriptor.clone();
        let bytes = apart(bytes.len(), move || {
            let found = bytes.len() as u64;
            if found != expected.size {
                let Descriptor { digest, size, .. } = expected.clone();
                let error = ManifestError::Size { digest, expected: size, found };
                return Err(damaged(&expected, error));
            }
            expected.digest.verify(&bytes).map_err(|error| damaged(&expected, error))?;
            Ok(bytes)
        })
        .await?;
        self.engine.manifests.insert(digest, &bytes);
        Ok(bytes)
    }

    fn blob_unknown(&self, digest: &Digest) -> Error {
        let message = format!("blob {digest} is not in repository {}", self.name);
        Error::new(ErrorCode::BlobUnknown, message)
    }

    /// Why a blob cannot be read: it may have gone since it was looked up.
    async fn unreadable(&self, digest: &Digest, key: &ObjectKey, error: Error) -> Error {
        match self.engine.metadata.blob(&self.name, digest).await {
            Ok(None) => self.blob_unknown(digest),
            Ok(Some(BlobRecord { content, .. })) if content != Content::Object(key.clone()) => {
                let message = format!("blob {digest} was deleted and pushed again just now");
                Error::new(ErrorKind::Unavailable, message)
            }
            _ => error,
        }
    }
}

fn damaged(
    descriptor: &Descriptor,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = format!("stored manifest {} is damaged", descriptor.digest);
    Error::new(ErrorKind::Internal, message).with_source(error)
}

#[async_trait]
impl Source for Repository {
    /// Who learns that a manifest is here may count on it for a while, so one that would be collected soon is renewed.
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        let metadata = &self.engine.metadata;
        let (Target::Digest(digest) | Target::Pinned(_, digest)) = target else {
            // A tag holds what it names.
            return metadata.resolve(&self.name, target).await;
        };
        let now = self.engine.now();
        let stale_before = self.engine.stale_before(now);
        let found = metadata.resolve_to_rely_on(&self.name, digest, stale_before).await?;
        if found.stale && !metadata.renew_manifest(&self.name, digest, now).await? {
            return Err(self.manifest_unknown(digest));
        }
        Ok(found.descriptor)
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let descriptor = self.engine.metadata.resolve(&self.name, target).await?;
        let bytes = self.stored_manifest(&descriptor).await?;
        apart(bytes.len(), move || {
            Manifest::verify(&descriptor, bytes).map_err(|error| damaged(&descriptor, error))
        })
        .await
    }

    async fn manifest_bytes(&self, target: &Target, limit: u64) -> Result<ManifestBytes> {
        let descriptor = self.engine.metadata.resolve(&self.name, target).await?;
        let bytes = match descriptor.size <= limit {
            true => Some(self.stored_manifest(&descriptor).await?),
            false => None,
        };
        Ok(ManifestBytes { descriptor, bytes })
    }

    async fn manifest_part(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        let part = self.engine.metadata.manifest_part(&self.name, digest, range).await?;
        Ok(Some(part.ok_or_else(|| self.manifest_unknown(digest))?))
    }

    /// Who learns that a blob is here may count on it for a while, so one that would be collected soon is renewed.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let (metadata, now) = (&self.engine.metadata, self.engine.now());
        let stale_before = self.engine.stale_before(now);
        match metadata.blob_size(&self.name, digest, stale_before).await? {
            Some(BlobSize { size, stale: true }) => {
                let renewed = metadata.renew_blob(&self.name, digest, now).await?;
                Ok(renewed.then_some(size))
            }
            found => Ok(found.map(|found| found.size)),
        }
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let record = self.engine.metadata.blob(&self.name, digest).await?;
        let record = record.ok_or_else(|| self.blob_unknown(digest))?;
        let size = record.size;
        let range = range.within(size).ok_or_else(|| {
            let message = format!("blob {digest} has {size} bytes, none in {range:?}");
            Error::new(ErrorKind::RangeInvalid { size }, message)
        })?;
        let body: Body = match record.content {
            Content::Inline(data) if data.len() as u64 == size => {
                // Both ends are at most the length of the data.
                let part = data.slice(range.start as usize..range.end as usize);
                let chunks = (!part.is_empty()).then_some(Ok(part));
                futures_util::stream::iter(chunks).boxed()
            }
            Content::Inline(data) => {
                let message =
                    format!("stored blob {digest} has {} bytes, expected {size}", data.len());
                return Err(Error::new(ErrorKind::Internal, message));
            }
            Content::Object(key) => match self.engine.objects.open(&key, range.clone()).await {
                Ok(body) => body,
                Err(error) => return Err(self.unreadable(digest, &key, error).await),
            },
        };
        Ok(BlobRead { size, range, body })
    }

    /// Only of blobs in a bucket, and if [`EngineOptions::redirect_reads`](crate::EngineOptions::redirect_reads) is on.
    async fn blob_url(&self, digest: &Digest) -> Result<Option<String>> {
        if !self.engine.options.redirect_reads {
            return Ok(None);
        }
        match self.engine.metadata.blob(&self.name, digest).await? {
            Some(BlobRecord { content: Content::Object(key), .. }) => {
                self.engine.objects.url(&key, URL_LIFETIME).await
            }
            _ => Ok(None),
        }
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let after = after.map(Cursor::name).transpose()?;
        self.engine.metadata.tags(&self.name, after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let after = after.map(Cursor::name).transpose()?;
        let metadata = &self.engine.metadata;
        let page = metadata.referrers(&self.name, subject, artifact_type, after, limit).await?;
        Ok(Referrers { page, filtered: artifact_type.is_some() })
    }

    /// Each type has its own list, of which the beginnings are put together.
    async fn referrers_of_types(
        &self,
        subject: &Digest,
        artifact_types: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        if artifact_types.is_empty() || artifact_types.contains(&"") {
            return self.referrers(subject, None, after, limit).await;
        }
        let mut pages = Vec::with_capacity(artifact_types.len());
        for wanted in artifact_types {
            pages.push(self.referrers(subject, Some(wanted), after, limit).await?.page);
        }
        Ok(Referrers { page: merge(pages, limit), filtered: true })
    }
}

/// The first `limit` entries of several lists in the order of their digests.
fn merge(pages: Vec<Page<Descriptor>>, limit: usize) -> Page<Descriptor> {
    // What comes after the end of a page that goes on is not known of that list.
    let ends = pages.iter().filter(|page| page.next.is_some());
    let known = ends.filter_map(|page| Some(page.items.last()?.digest.clone())).min();
    let mut items: Vec<Descriptor> = pages.into_iter().flat_map(|page| page.items).collect();
    items.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
    let all = items.len();
    items.retain(|item| known.as_ref().is_none_or(|known| item.digest <= *known));
    items.truncate(limit);
    let more = known.is_some() || items.len() < all;
    let next = items.last().filter(|_| more);
    let next = next.map(|last| Cursor::After(last.digest.to_string()));
    Page { items, next }
}

#[async_trait]
impl Store for Repository {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.sparse = Some(self.engine.options.references != References::Complete);
        capabilities.mount = true;
        capabilities.preconditions = true;
        capabilities.referrers = true;
        capabilities.min_chunk = self.engine.objects.min_chunk();
        capabilities
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Ok(Box::new(Upload::begin(Arc::clone(&self.engine), self.name.clone(), algorithm)))
    }

    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        let upload = Upload::resume(Arc::clone(&self.engine), self.name.clone(), upload).await?;
        Ok(Box::new(upload))
    }

    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        Upload::offset_of(&self.engine, &self.name, upload).await
    }

    async fn committed_upload(&self, upload: &UploadId) -> Result<Option<Digest>> {
        let (id, _) = self.engine.tokens.check(&self.name, upload)?;
        match self.engine.metadata.session(&self.name, &id).await? {
            SessionState::Closed(blob) => Ok(blob),
            SessionState::Blank | SessionState::Open(_) => Ok(None),
        }
    }

    /// Only from a named repository: whether the caller may read from it has been decided by then. Without one, nothing is
    /// taken over, since a digest alone gives nobody a right to content of others.
    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        let digest = &descriptor.digest;
        let mounted = match from {
            Some(from) => {
                let now = self.engine.now();
                self.engine.room_for_row(0).await?;
                self.engine.metadata.mount(from, &self.name, digest, now).await?
            }
            None => self.blob_size(digest).await?.is_some(),
        };
        Ok(if mounted { Mounted::Done } else { Mounted::No })
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        refusals::check_artifact_type(manifest)?;
        self.engine.room_for_row(manifest.bytes().len() as u64).await?;
        let new = NewManifest {
            repository: self.name.clone(),
            manifest: manifest.clone(),
            tags: tags.to_vec(),
            when: when.clone(),
            references: self.engine.options.references,
            now: self.engine.now(),
        };
        self.engine.metadata.put_manifest(new).await?;
        self.engine.manifests.insert(manifest.digest(), manifest.bytes());
        Ok(())
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.engine.metadata.delete_tag(&self.name, tag, self.engine.now()).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let now = self.engine.now();
        self.engine.metadata.delete_manifest(&self.name, digest, now).await
    }

    /// Refused (`DENIED`) while a manifest of this repository references the blob.
    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let delete_after = self.engine.delete_after(self.engine.now());
        self.engine.metadata.delete_blob(&self.name, digest, delete_after).await
    }
}
