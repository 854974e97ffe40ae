//! What is collected, when, and what is not.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{Access, ByteRange, Mounted, Precondition, Registry, Source, Store};
use oci_registry_store::{CollectOptions, CollectReport, EngineOptions};
use oci_spec_types::ErrorCode;

use crate::support::*;

fn counts(report: &CollectReport) -> (u64, u64, u64, u64, u64) {
    (report.manifests, report.links, report.blobs, report.bytes, report.objects)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreferenced_blob_goes_after_its_grace_and_its_file_later() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let (small, large) =
        (push(&*store, &noise(1000, 1)).await, push(&*store, &noise(100_000, 2)).await);
    drop(store);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 0));
    let engine = engine.age(DAY).await;
    assert_eq!(counts(&engine.collect_untagged().await), (0, 2, 2, 101_000, 0));
    let store = engine.repository("a/b").await;
    for blob in [&small, &large] {
        assert_eq!(store.blob_size(&blob.digest).await.unwrap(), None);
    }
    assert_code(
        engine.registry.repository(&name("a/b"), Access::Read).await,
        ErrorCode::NameUnknown,
    );
    // Whoever is reading it can finish.
    assert_eq!(engine.objects().len(), 1);
    // It is no stray that a start would remove.
    drop(store);
    let engine = engine.reopen().await;
    assert_eq!(engine.objects().len(), 1);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 0));
    let engine = engine.age(3700).await;
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 1));
    assert_eq!(engine.objects().len(), 0);
    // And the same can be pushed again.
    let store = engine.repository("a/b").await;
    push(&*store, &noise(100_000, 2)).await;
    assert_eq!(pull(&*store, &large.digest, ByteRange::All).await.unwrap(), noise(100_000, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_stays_while_a_manifest_of_its_repository_references_it() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let layer = push(&*store, &noise(100_000, 1)).await;
    let manifest = image(&config, std::slice::from_ref(&layer), "x", None);
    store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    // What another repository references is nothing to this one.
    let other = engine.repository("other").await;
    other.mount(&layer, Some(&name("a/b"))).await.unwrap();
    drop((store, other));
    let engine = engine.age(2 * DAY).await;
    assert_eq!(counts(&engine.collect_untagged().await), (0, 1, 0, 0, 0));
    assert_eq!(engine.registry.holders(&layer.digest, 9).await.unwrap(), [name("a/b")]);

    let store = engine.repository("a/b").await;
    store.delete_manifest(manifest.digest()).await.unwrap();
    drop(store);
    // Its grace begins with the deletion, and not with the push.
    assert_eq!(counts(&engine.collect_untagged().await), (0, 0, 0, 0, 0));
    let engine = engine.age(DAY).await;
    assert_eq!(counts(&engine.collect_untagged().await), (0, 2, 2, 100_002, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_blob_mounting_it_and_pushing_it_again_renew_its_grace() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let other = engine.repository("other").await;
    let bytes: Vec<Bytes> = (0..4).map(|seed| noise(1000, seed)).collect();
    let mut blobs = Vec::new();
    for bytes in &bytes {
        blobs.push(push(&*store, bytes).await);
        push(&*other, bytes).await;
    }
    drop((store, other));
    let engine = engine.age(DAY).await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.blob_size(&blobs[0].digest).await.unwrap(), Some(1000));
    let mounted = store.mount(&blobs[1], Some(&name("other"))).await.unwrap();
    assert!(matches!(mounted, Mounted::Done));
    push(&*store, &bytes[2]).await;
    // The last one, and those of the other repository.
    assert_eq!(counts(&engine.collect_untagged().await), (0, 5, 1, 1000, 0));
    for (n, blob) in blobs.iter().enumerate() {
        let size = store.blob_size(&blob.digest).await.unwrap();
        assert_eq!(size, (n < 3).then_some(1000), "blob {n}");
    }
}

/// What was known before it came is referenced from when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_comes_after_its_manifest_stays() {
    let mut options = oci_registry_store::EngineOptions::default();
    options.references = oci_registry_store::References::Unchecked;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let manifest = image(&describe(b"{}"), &[], "x", None);
    store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(counts(&engine.collect_untagged().await), (0, 0, 0, 0, 0));
    let store = engine.repository("a/b").await;
    assert_eq!(store.blob_size(&config.digest).await.unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_blob_gives_its_file_free_with_its_last_repository() {
    let mut options = oci_registry_store::EngineOptions::default();
    options.longest_read = Duration::ZERO;
    let engine = TestEngine::with(options).await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    let blob = push(&*one, &noise(100_000, 1)).await;
    two.mount(&blob, Some(&name("one"))).await.unwrap();
    one.delete_blob(&blob.digest).await.unwrap();
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 0));
    assert_eq!(pull(&*two, &blob.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
    two.delete_blob(&blob.digest).await.unwrap();
    assert_eq!(engine.objects().len(), 1);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 1));
    assert_eq!(engine.objects().len(), 0);
}

/// What is deleted, and what is collected, by the time of the engine or of the collection.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_stay_as_long_as_the_longest_read_and_no_longer() {
    static NOW: AtomicI64 = AtomicI64::new(1_800_000_000);
    let pass = |seconds| NOW.fetch_add(seconds, Ordering::SeqCst);
    let mut options = oci_registry_store::EngineOptions::default();
    options.longest_read = Duration::from_secs(90);
    options.clock = || NOW.load(Ordering::SeqCst);
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let deleted = push(&*store, &noise(100_000, 1)).await;
    let read = store.blob(&deleted.digest, ByteRange::All).await.unwrap();
    store.delete_blob(&deleted.digest).await.unwrap();
    pass(89);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 0));
    assert_eq!(engine.objects().len(), 1);
    pass(1);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 1));
    assert_eq!(engine.objects().len(), 0);
    // The file is open.
    let chunks: Vec<Bytes> = read.body.try_collect().await.unwrap();
    assert_eq!(chunks.concat(), noise(100_000, 1));

    push(&*store, &noise(100_000, 2)).await;
    pass(DAY);
    assert_eq!(counts(&engine.collect().await), (0, 1, 1, 100_000, 0));
    pass(89);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 0));
    pass(1);
    assert_eq!(counts(&engine.collect().await), (0, 0, 0, 0, 1));

    push(&*store, &noise(100_000, 3)).await;
    pass(DAY);
    let mut options = oci_registry_store::CollectOptions::default();
    options.longest_read = Some(Duration::ZERO);
    let report = engine.registry.collect(&options, |_| {}).await.unwrap();
    assert_eq!(counts(&report), (0, 1, 1, 100_000, 1));
    assert_eq!(engine.objects().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_deleted_is_tried_again() {
    let mut options = oci_registry_store::EngineOptions::default();
    options.longest_read = Duration::ZERO;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(100_000, 1)).await;
    let other = push(&*store, &noise(100_000, 2)).await;
    store.delete_blob(&blob.digest).await.unwrap();
    let file =
        engine.objects().into_iter().find(|path| fs::read(path).unwrap() == noise(100_000, 1));
    let file = file.unwrap();
    // Not even root can delete a directory as if it were a file.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    store.delete_blob(&other.digest).await.unwrap();
    drop(store);
    let report = engine.collect().await;
    assert_eq!((report.objects, report.failed), (1, 1));
    let engine = engine.age(61).await;
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "bytes").unwrap();
    let report = engine.collect().await;
    assert_eq!((report.objects, report.failed), (1, 0));
    assert_eq!(engine.objects().len(), 0);
}

/// More than one step takes, in several repositories, some of it live.
#[tokio::test(flavor = "multi_thread")]
async fn much_garbage_goes_in_steps() {
    const BLOBS: u64 = 1001;
    let engine = TestEngine::new().await;
    let live = push_image(&*engine.repository("r0").await, "live", &[tag("t")]).await;
    let pushes = (0..BLOBS).map(|n| {
        let engine = &engine;
        async move {
            let store = engine.repository(&format!("r{}", n % 3)).await;
            push(&*store, &noise(100, n)).await;
        }
    });
    futures_util::future::join_all(pushes).await;
    let engine = engine.age(DAY).await;
    let seen = std::sync::Mutex::new(Vec::new());
    let progress = |report: &CollectReport| seen.lock().unwrap().push(report.blobs);
    let report = engine.registry.collect(&Default::default(), progress).await.unwrap();
    assert_eq!(counts(&report), (0, BLOBS, BLOBS, 100 * BLOBS, 0));
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 5 && seen.is_sorted() && seen.last() == Some(&BLOBS), "{seen:?}");
    let store = engine.repository("r0").await;
    assert!(store.manifest(&live.digest().clone().into()).await.is_ok());
    assert_eq!(engine.registry.catalog(None, 9).await.unwrap().items, [name("r0")]);
}

/// What a collection does late has its time from then, however long ago the collection began.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_collection_gives_everybody_their_time() {
    static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);
    const HOUR: i64 = 60 * 60;
    let mut options = EngineOptions::default();
    options.clock = || NOW.load(Ordering::SeqCst);
    options.untagged = Some(Duration::ZERO);
    options.sync = false;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    for seed in 0..101 {
        push(&*store, &noise(40_000, seed)).await;
    }
    NOW.fetch_add(DAY, Ordering::SeqCst);
    // Two steps, and hours between them: the blob of the second is read for as long as any.
    let hours_pass = |report: &CollectReport| {
        if report.blobs == 100 {
            NOW.fetch_add(2 * HOUR, Ordering::SeqCst);
        }
    };
    let report = engine.registry.collect(&CollectOptions::default(), hours_pass).await.unwrap();
    assert_eq!((report.blobs, report.objects), (101, 100));
    NOW.fetch_add(2 * HOUR, Ordering::SeqCst);
    assert_eq!(engine.collect().await.objects, 1);

    // A blob that is pushed while its manifest waits to be collected has its grace from that push.
    let blob = push(&*store, &noise(500, 1)).await;
    for text in 0..64 {
        let image = image(&blob, &[], &text.to_string(), None);
        store.put_manifest(&image, &[], &Precondition::None).await.unwrap();
    }
    NOW.fetch_add(DAY, Ordering::SeqCst);
    let pushed = AtomicBool::new(false);
    let push_meanwhile = |report: &CollectReport| {
        if report.manifests > 0 && !pushed.swap(true, Ordering::SeqCst) {
            NOW.fetch_add(20 * HOUR, Ordering::SeqCst);
            let again = async { push(&*store, &noise(500, 1)).await };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(again));
        }
    };
    let report = engine.registry.collect(&CollectOptions::default(), push_meanwhile).await.unwrap();
    assert_eq!((report.manifests, report.links), (64, 0));
    NOW.fetch_add(5 * HOUR, Ordering::SeqCst);
    assert_eq!(engine.collect().await.links, 0, "its grace is not over");
    NOW.fetch_add(20 * HOUR, Ordering::SeqCst);
    assert_eq!(engine.collect().await.links, 1);
}
