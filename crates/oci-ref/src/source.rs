//! Where content is read from.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use oci_spec_types::{Descriptor, Digest, ErrorCode};

use crate::{Error, Manifest, Result, Target};

/// Bytes as they arrive, not verified. [`Blob`](crate::Blob) verifies them.
pub type Body = BoxStream<'static, Result<Bytes>>;

/// A part of a blob that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ByteRange {
    /// All of it.
    #[default]
    All,
    /// From this byte to the end.
    From(u64),
    /// From the first to the last byte, both included, as in HTTP.
    Inclusive(u64, u64),
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// The bytes meant in content of `size` bytes, or `None` if there are none such (RFC 9110, 14.1.2).
    /// All of empty content is the empty range.
    pub fn within(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::All => Some(0..size),
            Self::From(first) => (first < size).then_some(first..size),
            Self::Inclusive(first, last) => {
                (first <= last && first < size).then(|| first..last.saturating_add(1).min(size))
            }
            Self::Last(count) => (count > 0 && size > 0).then(|| size.saturating_sub(count)..size),
        }
    }
}

/// A blob that is being read.
pub struct BlobRead {
    /// The size of the whole blob in bytes.
    pub size: u64,
    /// The part of it that `body` yields. A source that cannot seek may give all where a part was asked for.
    pub range: Range<u64>,
    /// The bytes, not verified.
    pub body: Body,
}

/// A manifest's descriptor, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestBytes {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// The bytes, verified; `None` if there are more than were asked for.
    pub bytes: Option<Bytes>,
}

/// A place to go on from in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After the entry with this name: a tag, a repository, a digest.
    After(String),
    /// A position that only the source understands.
    Opaque(String),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in the source's order.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A list that ends here.
    pub fn last(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The first `limit` of some entries, and where to go on if there are more.
    pub(crate) fn first(
        entries: impl IntoIterator<Item = T>,
        limit: usize,
        name: impl Fn(&T) -> String,
    ) -> Self {
        let mut entries = entries.into_iter();
        let items: Vec<T> = entries.by_ref().take(limit).collect();
        let next = match items.last() {
            Some(last) if entries.next().is_some() => Some(Cursor::After(name(last))),
            _ => None,
        };
        Self { items, next }
    }
}

/// A page of referrers, and whether the source has filtered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrers {
    /// The descriptors, with `artifactType` and annotations.
    pub page: Page<Descriptor>,
    /// Whether the filter that was asked for has been applied.
    pub filtered: bool,
}

/// A repository of content that can be read: a registry's, a layout, an archive, memory.
///
/// Implementations promise little: a manifest is verified by construction, a blob's bytes are *not* verified. Users
/// read through [`Ref`](crate::Ref) and [`Blob`](crate::Blob), which are.
#[async_trait]
pub trait Source: Send + Sync {
    /// The descriptor of a manifest, without reading it where that is possible.
    async fn resolve(&self, target: &Target) -> Result<Descriptor>;

    /// A manifest, verified against the target's digest.
    async fn manifest(&self, target: &Target) -> Result<Manifest>;

    /// The bytes of a manifest, verified against the target's digest, for whoever passes them on
    /// and need not know what they say. They are left out if there are more than `limit`, so that
    /// the caller decides how much memory it takes. A source that keeps manifests as bytes does not
    /// parse them for this.
    async fn manifest_bytes(&self, target: &Target, limit: u64) -> Result<ManifestBytes> {
        let manifest = self.manifest(target).await?;
        let descriptor = manifest.descriptor().clone();
        let bytes = (descriptor.size <= limit).then(|| manifest.bytes().clone());
        Ok(ManifestBytes { descriptor, bytes })
    }

    /// A part of the bytes of a manifest, not verified, for whoever passes a large one on without
    /// ever having all of it: those of `range`, or fewer if the manifest ends before. `None` if
    /// this source has manifests whole only.
    ///
    /// # Errors
    /// `MANIFEST_UNKNOWN` if there is no such manifest.
    async fn manifest_part(&self, _digest: &Digest, _range: Range<u64>) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// The size of a blob, or `None` if it is not here.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// Tells whether a blob is here, for whoever knows its size: a source that cannot tell the size
    /// without reading the blob need not find it out for this.
    ///
    /// # Errors
    /// `SIZE_INVALID` if it is here, and of another size.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        match self.blob_size(&blob.digest).await? {
            Some(size) if size != blob.size => Err(Error::new(
                ErrorCode::SizeInvalid,
                format!("blob {} has {size} bytes, expected {}", blob.digest, blob.size),
            )),
            found => Ok(found.is_some()),
        }
    }

    /// A blob's bytes, or a part of them, not verified.
    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead>;

    /// A URL from which anybody can read a blob for some minutes, without credentials, where the source has such. It is a
    /// secret of whoever may read the blob.
    async fn blob_url(&self, _digest: &Digest) -> Result<Option<String>> {
        Ok(None)
    }

    /// A page of at most `limit` tags in lexical order.
    async fn tags(&self, after: Option<&Cursor>, limit: usize)
    -> Result<Page<oci_spec_types::Tag>>;

    /// A page of at most `limit` manifests whose subject is `subject`, if asked for only those with an
    /// `artifactType`. A subject that nothing refers to has none; that is not an error.
    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers>;

    /// A page of at most `limit` manifests whose subject is `subject`, if asked for only those with
    /// one of several artifact types, of which `""` is none. A source that cannot tell several
    /// apart gives all, which [`Referrers::filtered`] says.
    async fn referrers_of_types(
        &self,
        subject: &Digest,
        artifact_types: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        match artifact_types {
            [one] if !one.is_empty() => self.referrers(subject, Some(one), after, limit).await,
            _ => self.referrers(subject, None, after, limit).await,
        }
    }

    /// Detached signatures kept beside a manifest (`dir:`, lookaside); empty where there is no such thing.
    async fn signatures(&self, _manifest: &Digest) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }

    /// Whether manifests may have detached signatures here. Where they may, [`copy`](crate::copy()) looks for them before
    /// it begins, if the destination cannot keep them.
    fn may_have_signatures(&self) -> bool {
        false
    }

    /// The place of detached signatures that manifests may have and that cannot be read here, in
    /// words for people, such as the lookaside storage of a registry; `None` if no such place is
    /// known. More may be known once a manifest has been read. [`copy`](crate::copy()) tells of it
    /// ([`CopyEvent::SignaturesElsewhere`](crate::CopyEvent)).
    fn signatures_elsewhere(&self) -> Option<String> {
        None
    }
}

#[async_trait]
impl<T: Source + ?Sized> Source for Arc<T> {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        (**self).resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        (**self).manifest(target).await
    }

    async fn manifest_bytes(&self, target: &Target, limit: u64) -> Result<ManifestBytes> {
        (**self).manifest_bytes(target, limit).await
    }

    async fn manifest_part(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        (**self).manifest_part(digest, range).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        (**self).blob_size(digest).await
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        (**self).has_blob(blob).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        (**self).blob(digest, range).await
    }

    async fn blob_url(&self, digest: &Digest) -> Result<Option<String>> {
        (**self).blob_url(digest).await
    }

    async fn tags(
        &self,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<oci_spec_types::Tag>> {
        (**self).tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        (**self).referrers(subject, artifact_type, after, limit).await
    }

    async fn referrers_of_types(
        &self,
        subject: &Digest,
        artifact_types: &[&str],
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        (**self).referrers_of_types(subject, artifact_types, after, limit).await
    }

    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        (**self).signatures(manifest).await
    }

    fn may_have_signatures(&self) -> bool {
        (**self).may_have_signatures()
    }

    fn signatures_elsewhere(&self) -> Option<String> {
        (**self).signatures_elsewhere()
    }
}

/// The error for a cursor that this source did not give.
pub(crate) fn foreign_cursor(cursor: &str) -> Error {
    Error::new(crate::ErrorKind::Invalid, format!("cursor {cursor:?} was given by another source"))
}

impl Cursor {
    /// The name after which to go on, for sources whose positions are names.
    pub fn name(&self) -> Result<&str> {
        match self {
            Self::After(name) => Ok(name),
            Self::Opaque(position) => Err(foreign_cursor(position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteRange;

    #[test]
    fn ranges_within_content() {
        let cases = [
            (ByteRange::All, 10, Some(0..10)),
            (ByteRange::All, 0, Some(0..0)),
            (ByteRange::From(3), 10, Some(3..10)),
            (ByteRange::From(10), 10, None),
            (ByteRange::From(0), 0, None),
            (ByteRange::Inclusive(0, 0), 10, Some(0..1)),
            (ByteRange::Inclusive(2, 99), 10, Some(2..10)),
            (ByteRange::Inclusive(2, u64::MAX), 10, Some(2..10)),
            (ByteRange::Inclusive(5, 4), 10, None),
            (ByteRange::Inclusive(10, 12), 10, None),
            (ByteRange::Last(3), 10, Some(7..10)),
            (ByteRange::Last(30), 10, Some(0..10)),
            (ByteRange::Last(0), 10, None),
            (ByteRange::Last(1), 0, None),
        ];
        for (range, size, expected) in cases {
            assert_eq!(range.within(size), expected, "{range:?} of {size}");
        }
    }
}
