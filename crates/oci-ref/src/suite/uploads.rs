//! Uploads: blobs whose digest is known only at the end.

use bytes::Bytes;
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType};

use super::check::{blob_is, no_blob, refused, refused_as};
use super::content::{noise, noise_blob};
use super::{Harness, cases};
use crate::{Result, Store, UploadId};

cases![
    uploads_grow_and_are_committed,
    an_upload_without_bytes_is_an_empty_blob,
    uploads_with_another_digest_leave_nothing,
    uploads_given_up_leave_nothing,
    uploads_with_another_algorithm,
    uploads_are_suspended_and_resumed,
    unknown_uploads_are_refused,
];

async fn uploads_grow_and_are_committed(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let bytes = noise("staged", 900_000);
        let digest = algorithm.digest(&bytes);
        let mut staged = store.stage(algorithm).await?;
        assert_eq!(staged.offset(), 0);
        for (start, end) in [(0, 1), (1, 1000), (1000, 500_000), (500_000, 900_000)] {
            staged.append(bytes.slice(start..end)).await?;
            assert_eq!(staged.offset(), end as u64);
            no_blob(&*store, &digest).await?;
        }
        staged.commit(&digest).await?;
        let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, bytes.len() as u64);
        blob_is(&*store, &descriptor, &bytes).await?;
    }
    Ok(())
}

async fn an_upload_without_bytes_is_an_empty_blob(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let staged = store.stage(Algorithm::Sha256).await?;
    let empty = noise_blob("", 0);
    staged.commit(&empty.descriptor.digest).await?;
    blob_is(&*store, &empty.descriptor, &Bytes::new()).await
}

async fn uploads_with_another_digest_leave_nothing(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    for size in [5, 500_000] {
        let bytes = noise("one", size);
        let mut staged = store.stage(Algorithm::Sha256).await?;
        staged.append(bytes.clone()).await?;
        let other = Digest::sha256(b"another");
        refused_as(ErrorCode::DigestInvalid, staged.commit(&other).await, "another digest");
        no_blob(&*store, &other).await?;
        no_blob(&*store, &Digest::sha256(&bytes)).await?;
    }
    Ok(())
}

async fn uploads_given_up_leave_nothing(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let blob = noise_blob("given up", 500_000);
    for cancel in [true, false] {
        let mut staged = store.stage(Algorithm::Sha256).await?;
        staged.append(blob.bytes.clone()).await?;
        if cancel {
            staged.cancel().await?;
        } else {
            drop(staged);
        }
        no_blob(&*store, &blob.descriptor.digest).await?;
    }
    blob.put(&store).await?;
    blob_is(&*store, &blob.descriptor, &blob.bytes).await
}

/// The algorithm announced is a hint. A store may refuse another one, but never without saying so.
async fn uploads_with_another_algorithm(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let bytes = noise("algorithms", 300_000);
    for (announced, used) in
        [(Algorithm::Sha256, Algorithm::Sha512), (Algorithm::Sha512, Algorithm::Sha256)]
    {
        let mut staged = store.stage(announced).await?;
        staged.append(bytes.clone()).await?;
        let wrong = used.digest(b"another");
        refused_as(ErrorCode::DigestInvalid, staged.commit(&wrong).await, "another digest");
        no_blob(&*store, &wrong).await?;

        let mut staged = store.stage(announced).await?;
        staged.append(bytes.clone()).await?;
        let digest = used.digest(&bytes);
        let descriptor =
            Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), bytes.len() as u64);
        match staged.commit(&digest).await {
            Ok(()) => blob_is(&*store, &descriptor, &bytes).await?,
            Err(error) => {
                assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid), "{error:?}");
                no_blob(&*store, &digest).await?;
            }
        }
    }
    Ok(())
}

/// How many bytes a suspended upload has: all, or none where that would be less than the smallest chunk.
async fn kept(store: &dyn Store, upload: &UploadId, written: usize) -> Result<usize> {
    let kept = store.upload_offset(upload).await?;
    assert!(kept == written as u64 || kept == 0, "{written} bytes were written, and {kept} kept");
    Ok(if kept == 0 { 0 } else { written })
}

async fn uploads_are_suspended_and_resumed(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let blob = noise_blob("suspended", 900_000);
    let mut staged = store.stage(Algorithm::Sha256).await?;
    staged.append(blob.bytes.slice(..300_000)).await?;
    let upload = match staged.suspend().await {
        Ok(upload) => upload,
        Err(error) => {
            assert!(error.is_unsupported(), "an upload that cannot be suspended: {error:?}");
            return Ok(());
        }
    };
    let at = kept(&*other, &upload, 300_000).await?;
    let mut staged = other.resume(&upload).await?;
    assert_eq!(staged.offset(), at as u64);
    staged.append(blob.bytes.slice(at..300_001)).await?;
    let upload = staged.suspend().await?;
    let at = kept(&*store, &upload, 300_001).await?;
    let mut staged = store.resume(&upload).await?;
    staged.append(blob.bytes.slice(at..)).await?;
    no_blob(&*store, &blob.descriptor.digest).await?;
    staged.commit(&blob.descriptor.digest).await?;
    blob_is(&*store, &blob.descriptor, &blob.bytes).await?;
    refused(store.upload_offset(&upload).await, "the offset of an upload that was committed");
    refused(store.resume(&upload).await, "resuming an upload that was committed");

    let mut staged = store.stage(Algorithm::Sha256).await?;
    staged.append(Bytes::from_static(b"given up")).await?;
    let upload = staged.suspend().await?;
    store.resume(&upload).await?.cancel().await?;
    refused(store.upload_offset(&upload).await, "the offset of an upload that was cancelled");
    refused(store.resume(&upload).await, "resuming an upload that was cancelled");
    Ok(())
}

async fn unknown_uploads_are_refused(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let upload = UploadId("00000000-0000-4000-8000-000000000000".into());
    refused(store.resume(&upload).await, "resuming an unknown upload");
    refused(store.upload_offset(&upload).await, "the offset of an unknown upload");
    Ok(())
}
