//! Where content is written to.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType, Name, Tag};

use crate::{Body, ByteRange, Error, Manifest, Result, Source};

/// What a store can hold and do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The manifest types it takes, the preferred first; `None` if it takes all.
    pub manifest_types: Option<Vec<MediaType>>,
    /// The manifest types that its format is made of, where it takes others too;
    /// [`Format::Supported`](crate::Format) converts to these. `None` if it prefers none.
    pub native_types: Option<Vec<MediaType>>,
    /// The operating systems (in the names of [`Platform::os`](oci_spec_types::Platform::os)) that images must be for,
    /// as a store asks that runs them; `None` if any will do. What is no image to run, such as an artifact, is not
    /// looked at.
    pub operating_systems: Option<Vec<String>>,
    /// Whether an index may be stored whose manifests are not all there; `None` if only trying tells.
    pub sparse: Option<bool>,
    /// Whether detached signatures can be kept beside manifests.
    pub signatures: bool,
    /// Whether a blob can be taken over from a sibling repository.
    pub mount: bool,
    /// Whether a tag can be moved under a [`Precondition`].
    pub preconditions: bool,
    /// True if [`Source::referrers`] lists all that is here and has the subject, so that an index
    /// under a referrers tag adds nothing to it.
    pub referrers: bool,
    /// The smallest chunk, in bytes, that an upload takes (but for the last), if there is such a limit.
    pub min_chunk: Option<u64>,
}

/// A condition under which tags are moved.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Precondition {
    /// None.
    #[default]
    None,
    /// Each tag names one of these digests now (`If-Match`).
    Matches(Vec<Digest>),
    /// Each tag exists, whatever it names (`If-Match: *`).
    Exists,
    /// None of the tags exists (`If-None-Match: *`).
    Absent,
}

/// A name for an upload that was left open, to go on with it later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(pub String);

/// What came of asking for a mount.
pub enum Mounted {
    /// The blob is now here.
    Done,
    /// It is not, and the store began an upload instead.
    Upload(Box<dyn Staged>),
    /// It is not.
    No,
}

/// Content that can be read again from any offset, so that a broken transfer can be repeated.
#[async_trait]
pub trait Reopen: Send + Sync {
    /// The bytes from `offset` on.
    async fn open(&self, offset: u64) -> Result<Body>;
}

/// A blob that is being written. It has no name until it is committed.
///
/// Dropping it gives it up: memory and files free what was written at once, a registry when it is told so in the
/// background, or else when the session expires. One that was resumed by its name can be resumed again.
#[async_trait]
pub trait Staged: Send {
    /// How many bytes have been written.
    fn offset(&self) -> u64;

    /// Writes more bytes at the end.
    async fn append(&mut self, chunk: Bytes) -> Result<()>;

    /// Verifies that all that was written has this digest, and names it. Nothing is left of it otherwise.
    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()>;

    /// Writes all of a blob whose digest and size are known, after what is there, and commits it. Nothing is left of it
    /// if that fails.
    async fn put(mut self: Box<Self>, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        match crate::blob::append_exactly(&mut *self, descriptor, content).await {
            Ok(()) => self.commit(&descriptor.digest).await,
            Err(error) => {
                // The first error is the one that tells; what is left is swept in any case.
                let _ = self.cancel().await;
                Err(error)
            }
        }
    }

    /// Makes what was written so far last, and names the upload so that [`Store::resume`] can go on with it. Less may
    /// last than was written, where a store takes large chunks only: [`Store::upload_offset`] tells.
    async fn suspend(self: Box<Self>) -> Result<UploadId> {
        Err(Error::unsupported("this store cannot suspend an upload"))
    }

    /// Gives it up, and frees what was written.
    async fn cancel(self: Box<Self>) -> Result<()>;
}

/// A repository of content that can also be written.
///
/// A manifest is stored with its references, its entry among its subject's referrers and its tags in one step:
/// readers see all or nothing of it.
#[async_trait]
pub trait Store: Source {
    /// What this store can hold and do.
    fn capabilities(&self) -> Capabilities;

    /// Writes a blob whose digest and size are known. Nothing is stored if the content has another.
    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        let algorithm = descriptor.digest.known_algorithm().ok_or_else(|| {
            Error::new(
                oci_spec_types::ErrorCode::DigestInvalid,
                format!("digest {} cannot be verified: unsupported algorithm", descriptor.digest),
            )
        })?;
        self.stage(algorithm).await?.put(descriptor, content).await
    }

    /// Begins a blob whose digest is not known yet, but its algorithm is.
    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>>;

    /// Goes on with a suspended upload. `BLOB_UPLOAD_UNKNOWN` if there is none, or it has expired.
    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        Err(unknown_upload(upload))
    }

    /// How many bytes of a suspended upload are there, without going on with it.
    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        Err(unknown_upload(upload))
    }

    /// The digest as which an upload was committed here not long ago, for a caller who has not
    /// heard of it and asks again. A store that does not remember says `None`.
    async fn committed_upload(&self, _upload: &UploadId) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Takes a blob over from the sibling repository `from`, or from any that the store chooses.
    async fn mount(&self, _descriptor: &Descriptor, _from: Option<&Name>) -> Result<Mounted> {
        Ok(Mounted::No)
    }

    /// Stores a manifest, and moves the tags to it if the condition holds.
    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()>;

    /// Keeps detached signatures beside a manifest.
    async fn put_signatures(&self, manifest: &Digest, signatures: &[Bytes]) -> Result<()> {
        if signatures.is_empty() {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "this store cannot keep the {} signatures of {manifest}",
            signatures.len()
        )))
    }

    /// Removes a tag, and nothing else.
    async fn delete_tag(&self, tag: &Tag) -> Result<()>;

    /// Removes a manifest and every tag that names it.
    async fn delete_manifest(&self, digest: &Digest) -> Result<()>;

    /// Removes a blob.
    async fn delete_blob(&self, digest: &Digest) -> Result<()>;
}

fn unknown_upload(upload: &UploadId) -> Error {
    Error::new(
        oci_spec_types::ErrorCode::BlobUploadUnknown,
        format!("upload {} is not known here", upload.0),
    )
}

#[async_trait]
impl Reopen for Bytes {
    async fn open(&self, offset: u64) -> Result<Body> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let rest = self.slice(start..);
        Ok(futures_util::stream::once(async move { Ok(rest) }).boxed())
    }
}

/// A blob of a source, as content that can be read again.
pub struct SourceBlob {
    source: Arc<dyn Source>,
    digest: Digest,
}

impl SourceBlob {
    /// The blob with this digest in this source.
    pub fn new(source: Arc<dyn Source>, digest: Digest) -> Self {
        Self { source, digest }
    }
}

#[async_trait]
impl Reopen for SourceBlob {
    async fn open(&self, offset: u64) -> Result<Body> {
        let range = match offset {
            0 => ByteRange::All,
            _ => ByteRange::From(offset),
        };
        let read = self.source.blob(&self.digest, range).await?;
        Ok(crate::blob::skip(read.body, offset.saturating_sub(read.range.start)))
    }
}

#[async_trait]
impl<T: Store + ?Sized> Store for Arc<T> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        (**self).put_blob(descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        (**self).stage(algorithm).await
    }

    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        (**self).resume(upload).await
    }

    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        (**self).upload_offset(upload).await
    }

    async fn committed_upload(&self, upload: &UploadId) -> Result<Option<Digest>> {
        (**self).committed_upload(upload).await
    }

    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        (**self).mount(descriptor, from).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        (**self).put_manifest(manifest, tags, when).await
    }

    async fn put_signatures(&self, manifest: &Digest, signatures: &[Bytes]) -> Result<()> {
        (**self).put_signatures(manifest, signatures).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        (**self).delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        (**self).delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        (**self).delete_blob(digest).await
    }
}
