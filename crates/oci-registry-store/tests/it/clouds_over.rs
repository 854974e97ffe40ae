//! Uploads to a bucket that the bucket says are over.

use hyper::Method;
use oci_ref::{ByteRange, ErrorKind, Store};
use oci_spec_types::ErrorCode;

use crate::clouds::{MIB, suspended};
use crate::s3::{Fault, S3};
use crate::support::*;

/// Aborts an upload behind the engine's back, which tells its client so.
pub(crate) async fn forget_an_upload(s3: &S3, store: &dyn Store) {
    let id = suspended(store, noise(6 * MIB, 1)).await;
    s3.abort_all();
    let staged = store.resume(&id).await.unwrap();
    let result = staged.commit(&describe(&noise(6 * MIB, 1)).digest).await;
    assert_code(result, ErrorCode::BlobUploadUnknown);
    assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
}

/// An upload that somebody else has aborted, such as a rule of the bucket, is begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_bucket_has_forgotten() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    forget_an_upload(&s3, &*store).await;
    push(&*store, &noise(6 * MIB, 1)).await;
    assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)));
}

/// A server that is killed when the bucket has the whole blob, and the database does not know it yet, leaves an upload that goes
/// on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_finished_and_not_recorded() {
    let bytes = noise(20 * MIB, 1);
    for sent in [6 * MIB, 10 * MIB] {
        for chunk in [100_000, 9 * MIB] {
            let s3 = S3::start().await;
            let engine = TestEngine::with(s3.options()).await;
            let store = engine.repository("a/b").await;
            let id = suspended(&*store, bytes.slice(..sent)).await;
            let killed = engine.crashed().await;
            let mut staged = store.resume(&id).await.unwrap();
            staged.append(bytes.slice(sent..)).await.unwrap();
            staged.commit(&describe(&bytes).digest).await.unwrap();
            drop((store, engine));

            let store = killed.repository("a/b").await;
            assert_eq!(store.upload_offset(&id).await.unwrap(), sent as u64);
            let mut staged = store.resume(&id).await.unwrap();
            staged.append(bytes.slice(sent..sent + chunk)).await.unwrap();
            let id = staged.suspend().await.unwrap();
            let mut staged = store.resume(&id).await.unwrap();
            staged.append(bytes.slice(sent + chunk..)).await.unwrap();
            staged.commit(&describe(&bytes).digest).await.unwrap();
            let found = pull(&*store, &describe(&bytes).digest, ByteRange::All).await;
            assert!(found.unwrap() == bytes, "{sent} and {chunk}");
            drop(store);
            // What was finished first is deleted by then.
            let opened = killed.reopen().await;
            opened.assert_sound().await;
            assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)));
        }
    }
}

/// What a killed server asked for may be done only when another has gone on with the upload: that one is told where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_finished_while_another_goes_on() {
    let bytes = noise(20 * MIB, 1);
    for sent in [6 * MIB, 10 * MIB] {
        let s3 = S3::start().await;
        let engine = TestEngine::with(s3.options()).await;
        let store = engine.repository("a/b").await;
        let id = suspended(&*store, bytes.slice(..sent)).await;
        let other = engine.crashed().await;
        let others = other.repository("a/b").await;
        s3.forget();
        let mut staged = others.resume(&id).await.unwrap();
        // It has seen that the object is not there.
        s3.ended(1).await;
        assert_eq!(s3.seen().len(), 1);
        let mut finished = store.resume(&id).await.unwrap();
        finished.append(bytes.slice(sent..)).await.unwrap();
        finished.commit(&describe(&bytes).digest).await.unwrap();
        drop((store, engine));

        let late = async {
            staged.append(bytes.slice(sent..)).await?;
            staged.commit(&describe(&bytes).digest).await
        };
        assert_kind(late.await, ErrorKind::RangeInvalid { size: sent as u64 });
        assert_eq!(others.upload_offset(&id).await.unwrap(), sent as u64);
        let mut staged = others.resume(&id).await.unwrap();
        staged.append(bytes.slice(sent..)).await.unwrap();
        staged.commit(&describe(&bytes).digest).await.unwrap();
        let found = pull(&*others, &describe(&bytes).digest, ByteRange::All).await;
        assert!(found.unwrap() == bytes, "{sent}");
        drop(others);
        other.reopen().await.assert_sound().await;
        assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)));
    }
}

/// Of two that write to one upload, such as a replica that was taken for dead, the later one replaces parts of the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_parts_are_not_what_they_were() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    let bytes = noise(6 * MIB, 1);
    let id = suspended(&*store, bytes.clone()).await;
    let staged = store.resume(&id).await.unwrap();
    s3.fail(|_, seen| {
        let completed = seen.method == Method::POST && seen.query.starts_with("uploadId");
        completed.then_some(Fault::Refused(400, "InvalidPart"))
    });
    assert_code(staged.commit(&describe(&bytes).digest).await, ErrorCode::BlobUploadUnknown);
    s3.heal();
    assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
    assert_eq!((s3.objects().len(), s3.uploads()), (0, (0, 0)));
    push(&*store, &bytes).await;
}
