//! What a layout holds, read: the same on disk and in a tar archive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, ErrorCode, Tag};

use super::index::{self, Entries};
use super::reach::{self, Facts};
use super::unknown_manifest;
use crate::files::{Part, too_large};
use crate::platform::ambiguous;
use crate::{
    BlobRead, ByteRange, Cursor, Error, ErrorKind, Manifest, ManifestError, Page, Referrers,
    Result, Target,
};

/// The most that `index.json`, or a manifest, may have: 50 MiB.
pub(crate) const DOCUMENT_LIMIT: u64 = 50 << 20;

/// The most bytes of a document of an unknown type that is looked into.
pub(crate) const UNKNOWN_LIMIT: u64 = 4 << 20;

/// The blobs of a layout.
pub(crate) trait Blobs {
    /// A blob's size, if it is there.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>>;

    /// A blob's bytes, if it is there.
    fn blob_part(&self, digest: &Digest) -> Result<Option<Part>>;

    /// A document of at most [`DOCUMENT_LIMIT`] bytes among the blobs, if it is there.
    fn document(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// How errors name a blob's file.
    fn blob_name(&self, digest: &Digest) -> String;

    /// What is known of manifests by digest, which never changes.
    fn facts(&self) -> &Mutex<HashMap<Digest, Arc<Facts>>>;
}

/// Reads `index.json`.
pub(crate) fn parse_index(bytes: &[u8]) -> Result<Entries> {
    Entries::parse(bytes).map_err(|error| {
        Error::new(ErrorCode::ManifestInvalid, format!("index.json: {error}")).with_source(error)
    })
}

/// The error for a layout without `index.json`.
pub(crate) fn no_index() -> Error {
    let message = "index.json does not exist, expected the layout's image index";
    Error::new(ErrorCode::ManifestInvalid, message)
}

/// Reads and verifies the manifest that an entry describes; `None` if its file is not there.
pub(crate) fn read_manifest(blobs: &impl Blobs, entry: &Descriptor) -> Result<Option<Manifest>> {
    let digest = &entry.digest;
    let name = blobs.blob_name(digest);
    let Some(found) = blobs.blob_size(digest)? else {
        return Ok(None);
    };
    if found != entry.size {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("{name} has {found} bytes, expected {}", entry.size),
        ));
    }
    let Some(bytes) = blobs.document(digest)? else {
        return Ok(None);
    };
    let parsed = Manifest::parse(bytes, Some(&entry.media_type), Some(digest));
    let manifest = parsed.map_err(|error| {
        let message = format!("{name}: {error}");
        match &error {
            // What is stored no longer is what was stored.
            ManifestError::Digest(_) => Error::new(ErrorKind::Internal, message),
            _ => Error::new(ErrorCode::ManifestInvalid, message),
        }
        .with_source(error)
    })?;
    Ok(Some(manifest))
}

/// The manifest of an entry, which should be there.
pub(crate) fn listed_manifest(blobs: &impl Blobs, entry: &Descriptor) -> Result<Manifest> {
    read_manifest(blobs, entry)?.ok_or_else(|| {
        unknown_manifest(format!(
            "manifest {} is listed, but {} does not exist",
            entry.digest,
            blobs.blob_name(&entry.digest)
        ))
    })
}

/// The manifest with a name.
pub(crate) fn manifest_by_name(
    blobs: &impl Blobs,
    index: &Entries,
    name: &str,
) -> Result<Manifest> {
    let entry = only_named(index, name)?.ok_or_else(|| {
        unknown_manifest(format!("{name:?} is not the name of an entry in index.json"))
    })?;
    listed_manifest(blobs, entry)
}

/// The entry that has a name.
///
/// # Errors
/// `Invalid`, with all of them, if several manifests have it.
fn only_named<'a>(index: &'a Entries, name: &str) -> Result<Option<&'a Descriptor>> {
    match *index.named(name) {
        [] => Ok(None),
        [entry] => Ok(Some(entry)),
        ref several => Err(ambiguous(&format!("{name:?} in index.json"), several)),
    }
}

/// A manifest in the layout.
pub(crate) fn manifest(blobs: &impl Blobs, index: &Entries, target: &Target) -> Result<Manifest> {
    let unknown_tag = |tag: &Tag| unknown_manifest(format!("tag {tag} is not known"));
    let entry = match target {
        Target::Digest(digest) | Target::Pinned(_, digest) => reach::find(blobs, index, digest)?
            .ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known")))?,
        Target::Tag(tag) => {
            only_named(index, tag.as_str())?.cloned().ok_or_else(|| unknown_tag(tag))?
        }
    };
    listed_manifest(blobs, &entry)
}

/// A blob's bytes, or a part of them.
pub(crate) fn blob(blobs: &impl Blobs, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
    let part = blobs.blob_part(digest)?.ok_or_else(|| unknown_blob(digest))?;
    part.open(range, &format!("blob {digest}"), blobs.blob_name(digest))
}

/// The error for a blob that is not here.
pub(crate) fn unknown_blob(digest: &Digest) -> Error {
    Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known"))
}

/// Refuses a manifest with too many bytes to be read again.
pub(crate) fn check_size(manifest: &Manifest) -> Result<()> {
    let size = manifest.bytes().len() as u64;
    if size > DOCUMENT_LIMIT {
        return Err(too_large(&format!("manifest {}", manifest.digest()), size, DOCUMENT_LIMIT));
    }
    Ok(())
}

/// A page of the names that are tags.
pub(crate) fn tags(index: &Entries, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
    let names = index.entries().iter().filter_map(index::name);
    tags_page(names.filter_map(|name| name.parse().ok()), after, limit)
}

/// A page of tags, of all that there are in any order.
pub(crate) fn tags_page(
    all: impl IntoIterator<Item = Tag>,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Page<Tag>> {
    let after = after.map(Cursor::name).transpose()?;
    let is_after = |tag: &Tag| after.is_none_or(|after| tag.as_str() > after);
    let mut tags: Vec<Tag> = all.into_iter().filter(is_after).collect();
    tags.sort_unstable();
    tags.dedup();
    Ok(Page::first(tags, limit, Tag::to_string))
}

/// A page of referrers, of all that there are in the order of their digests.
pub(crate) fn referrers_page(
    found: impl IntoIterator<Item = Descriptor>,
    artifact_type: Option<&str>,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Referrers> {
    let after = after.map(Cursor::name).transpose()?;
    let wanted = found
        .into_iter()
        .filter(|descriptor| after.is_none_or(|after| descriptor.digest.as_str() > after))
        .filter(|descriptor| {
            artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
        });
    Ok(Referrers {
        page: Page::first(wanted, limit, |descriptor| descriptor.digest.to_string()),
        filtered: artifact_type.is_some(),
    })
}
