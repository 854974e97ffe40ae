//! Uploads that are not finished are bounded in number and in bytes.

use std::time::Duration;

use futures_util::StreamExt as _;
use oci_ref::{ErrorKind, Store, UploadId};
use oci_registry_store::{CollectOptions, EngineOptions};

use crate::sessions::resume;
use crate::support::*;

/// An upload that rests with so many bytes.
async fn rest(store: &dyn Store, size: usize) -> Result<UploadId, oci_ref::Error> {
    let mut staged = store.stage(sha256()).await?;
    staged.append(noise(size, size as u64)).await?;
    staged.suspend().await
}

async fn small(uploads: u64, bytes: u64) -> TestEngine {
    let mut options = EngineOptions::default();
    (options.max_uploads, options.upload_space) = (uploads, bytes);
    TestEngine::with(options).await
}

/// Twenty clients may push 48 blobs each at a time, in requests of parts.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_fit_by_default() {
    let mut options = EngineOptions::default();
    options.sync = false;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let uploads = (0..20 * 48).map(|_| rest(&*store, 1000));
    let uploads: Vec<_> = futures_util::stream::iter(uploads).buffer_unordered(48).collect().await;
    assert!(uploads.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_rest_counts_also_after_a_restart() {
    let mut engine = small(2, 1 << 30).await;
    let store = engine.repository("a/b").await;
    let first = rest(&*store, 1000).await.unwrap();
    rest(&*store, 400_000).await.unwrap();
    drop(store);
    for reopen in [false, true] {
        if reopen {
            engine = engine.reopen().await;
        }
        let store = engine.repository("a/b").await;
        for size in [1, 1000, 400_000] {
            assert_kind(rest(&*store, size).await, ErrorKind::Unavailable);
        }
        assert_eq!(engine.objects().len(), 1, "the bytes of what was refused are gone");
        // What holds nothing, and what is small and comes at once.
        rest(&*store, 0).await.unwrap();
        push(&*store, &"small".into()).await;
    }
    // What is there goes on, and makes room when it has ended.
    let store = engine.repository("a/b").await;
    let mut staged = store.resume(&first).await.unwrap();
    staged.append(noise(400_000, 1)).await.unwrap();
    let first = staged.suspend().await.unwrap();
    assert_kind(rest(&*store, 1).await, ErrorKind::Unavailable);
    store.resume(&first).await.unwrap().cancel().await.unwrap();
    rest(&*store, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_counts_until_it_is_given_up() {
    let engine = small(1, 1 << 30).await;
    let store = engine.repository("a/b").await;
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(noise(600_000, 1)).await.unwrap();
    assert_kind(rest(&*store, 400_000).await, ErrorKind::Unavailable);
    staged.cancel().await.unwrap();
    for seed in 0..3 {
        let bytes = noise(600_000, seed);
        push(&*store, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_bounded_and_given_back() {
    let engine = small(100, 1_000_000).await;
    let store = engine.repository("a/b").await;
    let at = 600_000;
    let id = rest(&*store, at).await.unwrap();
    assert_kind(rest(&*store, 600_000).await, ErrorKind::Unavailable);
    let mut staged = store.resume(&id).await.unwrap();
    let mut outcome = staged.append(noise(600_000, 1)).await;
    if outcome.is_ok() {
        // It is written beside the requests.
        outcome = staged.suspend().await.map(drop);
    } else {
        drop(staged);
    }
    assert_kind(outcome, ErrorKind::Unavailable);
    // It is where it was, and small enough things fit.
    let mut staged = resume(&*store, &id).await;
    assert_eq!(staged.offset(), at as u64);
    staged.append(noise(100_000, 2)).await.unwrap();
    staged.suspend().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_ends_those_at_rest() {
    let engine = small(3, 1 << 30).await;
    let store = engine.repository("a/b").await;
    let mut ids = Vec::new();
    for size in [1000, 400_000, 500_000] {
        ids.push(rest(&*store, size).await.unwrap());
    }
    let mut busy = store.resume(&ids[2]).await.unwrap();
    let mut options = CollectOptions::default();
    let collect = async |options: &CollectOptions| {
        engine.registry.collect(options, |_| {}).await.unwrap().uploads
    };
    assert_eq!(collect(&options).await, 0);
    options.uploads = Some(Duration::from_secs(600));
    assert_eq!(collect(&options).await, 0);
    options.uploads = Some(Duration::ZERO);
    options.dry_run = true;
    assert_eq!(collect(&options).await, 3, "those that are being written, too");
    options.dry_run = false;
    assert_eq!(collect(&options).await, 2);
    assert_eq!(engine.objects().len(), 1);
    for id in &ids[..2] {
        assert_code(store.resume(id).await, oci_spec_types::ErrorCode::BlobUploadUnknown);
    }
    let rest = noise(1000, 1);
    busy.append(rest.clone()).await.unwrap();
    let whole = [noise(500_000, 500_000), rest].concat();
    busy.commit(&describe(&whole).digest).await.unwrap();
}
