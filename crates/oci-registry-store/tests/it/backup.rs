//! Copies of a registry that goes on.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_ref::{ByteRange, ErrorKind, Precondition, Registry, Source, Store};
use oci_registry_store::{DurableRegistry, EngineOptions};

use crate::support::*;

async fn opened(directory: tempfile::TempDir) -> TestEngine {
    let mut options = EngineOptions::default();
    options.create = false;
    let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    TestEngine { registry, options, directory }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_data_directory_with_everything() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let (small, large) =
        (push(&*store, &noise(500, 1)).await, push(&*store, &noise(900_000, 2)).await);
    let manifest = image(&small, std::slice::from_ref(&large), "x", None);
    store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(noise(700_000, 3)).await.unwrap();
    let upload = staged.suspend().await.unwrap();
    let gone = push(&*store, &noise(100_000, 4)).await;
    store.delete_blob(&gone.digest).await.unwrap();

    let to = tempfile::tempdir().unwrap();
    let report = engine.registry.backup(to.path(), |_| {}).await.unwrap();
    assert_eq!((report.blobs, report.objects, report.bytes), (2, 1, 900_000));
    let refused = engine.registry.backup(to.path(), |_| {}).await;
    assert_kind(refused, ErrorKind::Invalid);

    let copy = opened(to).await;
    assert_eq!(copy.assert_sound().await.objects, 1);
    let copied = copy.repository("a/b").await;
    let found = copied.manifest(&tag("t").into()).await.unwrap();
    assert_eq!(found.bytes(), manifest.bytes());
    for (blob, bytes) in [(&small, noise(500, 1)), (&large, noise(900_000, 2))] {
        assert_eq!(pull(&*copied, &blob.digest, ByteRange::All).await.unwrap(), bytes);
    }
    // Uploads stay with the original, where they go on.
    assert!(copied.upload_offset(&upload).await.is_err());
    assert_eq!(store.upload_offset(&upload).await.unwrap(), 700_000);
    push(&*copied, &noise(100_000, 9)).await;
    assert_eq!(engine.objects().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_not_passed_on() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(100_000, 1)).await;
    let file = engine.objects().pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[5] ^= 1;
    fs::write(&file, bytes).unwrap();
    let to = tempfile::tempdir().unwrap();
    let error = error_of(engine.registry.backup(to.path(), |_| {}).await);
    let said = error.to_string();
    assert!(said.contains(blob.digest.as_str()) && said.contains("fsck"), "{said}");
    // What there is of it is no data directory.
    let mut options = EngineOptions::default();
    options.create = false;
    assert_kind(DurableRegistry::open(to.path(), options).await, ErrorKind::Invalid);
}

/// Whatever happens meanwhile, the copy is as of one moment: each tag has all that its manifest references.
#[tokio::test(flavor = "multi_thread")]
async fn backups_under_load_are_whole() {
    let mut options = EngineOptions::default();
    options.longest_read = std::time::Duration::ZERO;
    options.grace = std::time::Duration::ZERO;
    options.sync = false;
    let engine = Arc::new(TestEngine::with(options).await);
    let done = Arc::new(AtomicBool::new(false));
    let load = (0..3_u64).map(|task| {
        let (engine, done) = (Arc::clone(&engine), Arc::clone(&done));
        tokio::spawn(async move {
            let store = engine.repository(&format!("r{task}")).await;
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                let seed = task * 1_000_000 + round;
                let layer = push(&*store, &noise(40_000, seed)).await;
                let manifest = image(&layer, &[], &seed.to_string(), None);
                // Without any grace it may be gone already.
                let put = store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await;
                if round % 3 == 2 && put.is_ok() {
                    store.delete_manifest(manifest.digest()).await.unwrap();
                    let _ = store.delete_blob(&layer.digest).await;
                }
                round += 1;
            }
            round
        })
    });
    let mut load: Vec<_> = load.collect();
    let (collecting, ended) = (Arc::clone(&engine), Arc::clone(&done));
    load.push(tokio::spawn(async move {
        let mut objects = 0;
        while !ended.load(Ordering::Relaxed) {
            objects += collecting.collect().await.objects;
        }
        objects
    }));
    for _ in 0..5 {
        let to = tempfile::tempdir().unwrap();
        engine.registry.backup(to.path(), |_| {}).await.unwrap();
        let copy = opened(to).await;
        copy.assert_sound().await;
        for repository in copy.registry.catalog(None, 9).await.unwrap().items {
            let store = copy.repository(repository.as_str()).await;
            for tag in store.tags(None, 9).await.unwrap().items {
                let manifest = store.manifest(&tag.into()).await.unwrap();
                let layer = &manifest.image().unwrap().config.digest;
                assert_eq!(pull(&*store, layer, ByteRange::All).await.unwrap().len(), 40_000);
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0, "there was no load");
    }
    engine.assert_sound().await;
}
