//! What the cases look at.

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Tag};

use crate::{Blob, BlobRead, ByteRange, Error, Manifest, Result, Source, Store, Target};

/// The error of something that must be refused.
pub(super) fn refused<T>(result: Result<T>, what: &str) -> Error {
    match result {
        Ok(_) => panic!("{what} was not refused"),
        Err(error) => error,
    }
}

/// The error of something that must be refused with a code.
pub(super) fn refused_as<T>(code: ErrorCode, result: Result<T>, what: &str) -> Error {
    let error = refused(result, what);
    assert_eq!(error.code(), Some(&code), "{what}: {error:?}");
    error
}

/// Something must not be found.
pub(super) fn not_found<T>(result: Result<T>, what: &str) {
    let error = refused(result, what);
    assert!(error.is_not_found(), "{what}: {error:?}");
}

/// All bytes of a body.
pub(super) async fn collect(read: BlobRead) -> Result<Bytes> {
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    Ok(chunks.concat().into())
}

/// A blob is there, whole.
pub(super) async fn blob_is(
    store: &dyn Store,
    descriptor: &Descriptor,
    expected: &Bytes,
) -> Result<()> {
    let digest = &descriptor.digest;
    let size = store.blob_size(digest).await?;
    assert_eq!(size, Some(expected.len() as u64), "size of {digest}");
    assert!(store.has_blob(descriptor).await?, "{digest} is there");
    let other = Descriptor { size: descriptor.size + 1, ..descriptor.clone() };
    refused_as(ErrorCode::SizeInvalid, store.has_blob(&other).await, "a blob of another size");
    let read = store.blob(digest, ByteRange::All).await?;
    assert_eq!(read.size, expected.len() as u64, "size of {digest} when it is read");
    assert_eq!(read.range, 0..read.size, "range of all of {digest}");
    assert!(collect(read).await? == *expected, "content of {digest} differs");
    let verified = Blob::open(store, descriptor).await?.into_bytes(u64::MAX).await?;
    assert!(verified == *expected, "verified content of {digest} differs");
    Ok(())
}

/// A blob is not there.
pub(super) async fn no_blob(store: &dyn Store, digest: &Digest) -> Result<()> {
    assert_eq!(store.blob_size(digest).await?, None, "size of {digest}, which should not be there");
    not_found(store.blob(digest, ByteRange::All).await, "a blob that should not be there");
    let sought = Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), 1);
    assert!(!store.has_blob(&sought).await?, "{digest} should not be there");
    Ok(())
}

/// A manifest is there with its bytes and type, by each of the targets.
pub(super) async fn manifest_is(
    store: &dyn Store,
    expected: &Manifest,
    tags: &[Tag],
) -> Result<()> {
    let digest = expected.digest();
    let by_tag = tags
        .iter()
        .flat_map(|tag| [Target::Tag(tag.clone()), Target::Pinned(tag.clone(), digest.clone())]);
    for target in by_tag.chain([Target::Digest(digest.clone())]) {
        let found = store.manifest(&target).await?;
        assert_eq!(found.bytes(), expected.bytes(), "bytes of {target}");
        assert_eq!(found.digest(), digest, "digest of {target}");
        assert_eq!(found.media_type(), expected.media_type(), "media type of {target}");
        let resolved = store.resolve(&target).await?;
        assert_eq!(resolved.digest, *digest, "digest of {target}, resolved");
        assert_eq!(resolved.size, expected.bytes().len() as u64, "size of {target}, resolved");
        assert_eq!(resolved.media_type, *expected.media_type(), "media type of {target}, resolved");
    }
    Ok(())
}

/// A manifest is not there.
pub(super) async fn no_manifest(store: &dyn Store, target: impl Into<Target>) {
    let target = target.into();
    not_found(store.manifest(&target).await, &format!("reading {target}"));
    not_found(store.resolve(&target).await, &format!("resolving {target}"));
}

/// All tags, read in pages of at most `limit`.
pub(super) async fn tags(store: &(impl Source + ?Sized), limit: usize) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.tags(after.as_ref(), limit).await?;
        assert!(page.items.len() <= limit, "{} tags in a page of {limit}", page.items.len());
        all.extend(page.items.iter().map(Tag::to_string));
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
        assert!(!page.items.is_empty(), "a page without tags goes on");
    }
}

/// All referrers, read in pages of at most `limit`, in the order of their digests.
pub(super) async fn referrers(
    store: &dyn Store,
    subject: &Digest,
    artifact_type: Option<&str>,
    limit: usize,
) -> Result<Vec<Descriptor>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let found = store.referrers(subject, artifact_type, after.as_ref(), limit).await?;
        assert!(
            found.page.items.len() <= limit,
            "{} referrers in a page of {limit}",
            found.page.items.len()
        );
        let filtered = found.filtered;
        all.extend(found.page.items.into_iter().filter(|descriptor| {
            filtered
                || artifact_type.is_none()
                || descriptor.artifact_type.as_deref() == artifact_type
        }));
        after = found.page.next;
        if after.is_none() {
            all.sort_by(|a, b| a.digest.cmp(&b.digest));
            return Ok(all);
        }
    }
}
