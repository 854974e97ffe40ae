//! A repository of the in-memory engine: content of its own, and blobs that lie elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use oci_ref::{
    Blob, BlobRead, ByteRange, Capabilities, Cursor, Error, ErrorKind, Form, Manifest, Memory,
    Mounted, Page, Precondition, Referrers, Result, Source, Staged, Store, Target, UploadId,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Name, Tag};

use super::Inner;

/// A repository, and where its siblings are.
pub(super) struct Repository {
    /// It checks nothing of what manifests reference: it knows of no links.
    memory: Memory,
    links: Mutex<HashMap<Digest, Link>>,
    sparse: bool,
    registry: Weak<Inner>,
}

/// A blob that is read from elsewhere whenever it is pulled.
#[derive(Clone)]
struct Link {
    blob: Descriptor,
    source: Arc<dyn Source>,
}

impl Repository {
    pub(super) fn new(registry: &Arc<Inner>) -> Self {
        Self {
            memory: Memory::unchecked(),
            links: Mutex::default(),
            sparse: registry.sparse,
            registry: Arc::downgrade(registry),
        }
    }

    /// The content of its own.
    pub(super) fn memory(&self) -> Memory {
        self.memory.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.links().is_empty()
    }

    pub(super) fn holds(&self, digest: &Digest) -> bool {
        self.memory.blob_bytes(digest).is_some() || self.links().contains_key(digest)
    }

    /// Takes a blob in whose bytes stay where they are.
    pub(super) fn link(&self, blob: &Descriptor, source: &Arc<dyn Source>) {
        let link = Link { blob: blob.clone(), source: source.clone() };
        self.links().insert(blob.digest.clone(), link);
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Digest, Link>> {
        // Every change under the lock is complete before anything can panic.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linked(&self, digest: &Digest) -> Option<Link> {
        self.links().get(digest).cloned()
    }

    async fn check_references(&self, manifest: &Manifest) -> Result<()> {
        for referenced in manifest.references() {
            let mut found = self.blob_size(referenced.digest).await?;
            if found.is_none() && referenced.form == Form::Either {
                let target = Target::Digest(referenced.digest.clone());
                found = match self.memory.resolve(&target).await {
                    Ok(descriptor) => Some(descriptor.size),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error),
                };
            }
            referenced.check(manifest, found, false)?;
        }
        Ok(())
    }
}

impl Link {
    /// The bytes from the source. Verified if they are the whole blob, so that a source which has changed breaks the
    /// transfer off.
    async fn read(&self, range: ByteRange) -> Result<BlobRead> {
        let Descriptor { digest, size, .. } = &self.blob;
        if range.within(*size).is_none() {
            return Err(Error::new(
                ErrorKind::RangeInvalid { size: *size },
                format!("blob {digest} has {size} bytes, none in {range:?}"),
            ));
        }
        let mut read = self.source.blob(digest, range).await?;
        if read.size != *size {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("the source's blob {digest} has {} bytes now, expected {size}", read.size),
            ));
        }
        if read.range == (0..*size) {
            read.body = Blob::new(self.blob.clone(), read.body)?.boxed();
        }
        Ok(read)
    }
}

#[async_trait]
impl Source for Repository {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.memory.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.memory.manifest(target).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.memory.blob_size(digest).await? {
            None => Ok(self.linked(digest).map(|link| link.blob.size)),
            own => Ok(own),
        }
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        match self.memory.blob(digest, range).await {
            Err(error) if error.is_not_found() => match self.linked(digest) {
                Some(link) => link.read(range).await,
                None => Err(error),
            },
            own => own,
        }
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.memory.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.memory.referrers(subject, artifact_type, after, limit).await
    }
}

#[async_trait]
impl Store for Repository {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.memory.capabilities();
        capabilities.sparse = Some(self.sparse);
        capabilities.mount = true;
        capabilities
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.memory.stage(algorithm).await
    }

    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        self.memory.resume(upload).await
    }

    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        self.memory.upload_offset(upload).await
    }

    async fn committed_upload(&self, upload: &UploadId) -> Result<Option<Digest>> {
        self.memory.committed_upload(upload).await
    }

    /// Takes a blob over from `from` only: a repository does not know who may read which of its siblings.
    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        let registry = self.registry.upgrade();
        let Some(sibling) = from.and_then(|from| registry?.known(from)) else {
            return Ok(Mounted::No);
        };
        if self.memory.mount_from(&sibling.memory, &descriptor.digest) {
            return Ok(Mounted::Done);
        }
        match sibling.linked(&descriptor.digest) {
            Some(link) => {
                self.link(&link.blob, &link.source);
                Ok(Mounted::Done)
            }
            None => Ok(Mounted::No),
        }
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        if !self.sparse {
            self.check_references(manifest).await?;
        }
        self.memory.put_manifest(manifest, tags, when).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.memory.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.memory.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let linked = self.links().remove(digest).is_some();
        match self.memory.delete_blob(digest).await {
            Err(error) if linked && error.is_not_found() => Ok(()),
            deleted => deleted,
        }
    }
}
