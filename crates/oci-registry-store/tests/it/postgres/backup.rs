//! A backup as the documentation has it: the database first, then the storage, while replicas go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use oci_ref::{Access, ByteRange, Manifest, Precondition, Registry, Source, Store};
use oci_registry_store::{CollectOptions, DurableRegistry, EngineOptions};
use oci_spec_types::Tag;
use tokio::sync::{Mutex, Notify};

use super::server;
use crate::support::*;

/// The time of the test, which goes on by leaps up to the end of it.
static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);
static END: AtomicI64 = AtomicI64::new(i64::MAX);

const MINUTES: i64 = 60;

/// What was acknowledged and is not deleted: the tag, the manifest, and the seed of its layer.
type Kept = Arc<Mutex<Vec<(Tag, Manifest, u64)>>>;

/// Replicas that push, delete and collect until they are told to end.
struct Load {
    engines: [DurableRegistry; 2],
    done: AtomicBool,
    /// Files that were deleted.
    deleted: AtomicU64,
    /// Something was acknowledged, or collected.
    went_on: Notify,
}

impl Load {
    async fn push(self: Arc<Self>, me: u64, kept: Kept) {
        let mut round = 0;
        while !self.done.load(Ordering::Relaxed) {
            let engine = &self.engines[(round % 2) as usize];
            let store = engine.repository(&name("a/b"), Access::Write).await.unwrap();
            let seed = me * 1_000_000 + round;
            round += 1;
            let layer = push(&*store, &noise(40_000, seed)).await;
            let manifest = image(&layer, &[], &seed.to_string(), None);
            let name = tag(&format!("t{seed}"));
            let put = store
                .put_manifest(&manifest, std::slice::from_ref(&name), &Precondition::None)
                .await;
            if put.is_err() {
                // It came so late that its grace was over.
                continue;
            }
            if round.is_multiple_of(3) {
                kept.lock().await.push((name, manifest, seed));
                self.went_on.notify_one();
                continue;
            }
            store.delete_manifest(manifest.digest()).await.unwrap();
            if round.is_multiple_of(2) {
                let _ = store.delete_blob(&layer.digest).await;
            }
        }
    }

    async fn collect(self: Arc<Self>, engine: usize) {
        while !self.done.load(Ordering::Relaxed) {
            let report = self.engines[engine].collect(&CollectOptions::default(), |_| {}).await;
            self.deleted.fetch_add(report.unwrap().objects, Ordering::Relaxed);
            self.went_on.notify_one();
            let end = END.load(Ordering::SeqCst);
            NOW.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                Some(end.min(now + 10 * MINUTES))
            })
            .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_and_then_the_storage_make_a_backup() {
    if !server::is_there("a_dump_and_then_the_storage_make_a_backup") {
        return;
    }
    let url = server::fresh_url().await;
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options.clock = || NOW.load(Ordering::SeqCst);
    // Many leaps of the time longer than a push.
    options.grace = Duration::from_secs(DAY as u64);
    options.sync = false;
    let directory = tempfile::tempdir().unwrap();
    let one = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    let two = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    let store = one.repository(&name("a/b"), Access::Write).await.unwrap();
    let load = Arc::new(Load {
        engines: [one, two],
        done: AtomicBool::default(),
        deleted: AtomicU64::default(),
        went_on: Notify::new(),
    });
    let kept = Kept::default();
    let mut tasks: Vec<_> =
        (1..4).map(|me| tokio::spawn(Arc::clone(&load).push(me, Arc::clone(&kept)))).collect();
    tasks.extend((0..2).map(|engine| tokio::spawn(Arc::clone(&load).collect(engine))));

    // Until something has been acknowledged, and something deleted.
    while kept.lock().await.len() < 10 || load.deleted.load(Ordering::Relaxed) < 5 {
        load.went_on.notified().await;
    }
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(noise(600_000, 97)).await.unwrap();
    let upload = staged.suspend().await.unwrap();
    let deleted_later = push(&*store, &noise(40_000, 96)).await.digest;
    let acknowledged = kept.lock().await.clone();

    let end = NOW.load(Ordering::SeqCst) + 55 * MINUTES;
    END.store(end, Ordering::SeqCst);
    let dump = directory.path().join("dump").display().to_string();
    let (from, to) = (directory.path().to_owned(), tempfile::tempdir().unwrap());
    let restored = server::fresh_url().await;
    let (target, data) = (restored.clone(), to.path().to_owned());
    let written = dump.clone();
    tokio::task::spawn_blocking(move || {
        server::run_client("pg_dump", &["--format=custom", "--file", &written, &url]);
    })
    .await
    .unwrap();
    // What is deleted from now on has its file for another hour.
    store.delete_blob(&deleted_later).await.unwrap();
    NOW.store(end, Ordering::SeqCst);
    load.engines[0].collect(&CollectOptions::default(), |_| {}).await.unwrap();
    tokio::task::spawn_blocking(move || {
        copy_directory(&from, &data);
        server::run_client("pg_restore", &["--exit-on-error", "--dbname", &target, &dump]);
    })
    .await
    .unwrap();
    load.done.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    // The original goes on with the upload, of which the copy has as much as it had then.
    let mut staged = store.resume(&upload).await.unwrap();
    staged.append(noise(50_000, 98)).await.unwrap();
    staged.suspend().await.unwrap();

    options.database = restored.parse().unwrap();
    let registry = DurableRegistry::open(to.path(), options.clone()).await.unwrap();
    let copy = TestEngine { registry, options, directory: to };
    // What came after the dump belongs to nothing in it.
    let (report, told) = copy.fsck(true).await;
    let newer = |told: &String| told.starts_with("file ") && told.contains("belongs to nothing");
    assert!(told.iter().all(newer) && report.is_sound(), "{told:#?}");
    copy.assert_sound().await;
    let copied = copy.repository("a/b").await;
    for (tag, manifest, seed) in acknowledged {
        let found = copied.manifest(&tag.into()).await.unwrap();
        assert_eq!(found.bytes(), manifest.bytes());
        let layer = &manifest.image().unwrap().config.digest;
        let bytes = pull(&*copied, layer, ByteRange::All).await.unwrap();
        assert_eq!(bytes, noise(40_000, seed));
    }
    let bytes = pull(&*copied, &deleted_later, ByteRange::All).await.unwrap();
    assert_eq!(bytes, noise(40_000, 96));
    assert_eq!(copied.upload_offset(&upload).await.unwrap(), 600_000);
    let mut staged = copied.resume(&upload).await.unwrap();
    staged.append(noise(70_000, 99)).await.unwrap();
    let whole = [noise(600_000, 97), noise(70_000, 99)].concat();
    let blob = describe(&whole);
    staged.commit(&blob.digest).await.unwrap();
    assert_eq!(pull(&*copied, &blob.digest, ByteRange::All).await.unwrap(), whole);
    copy.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_way_is_refused_and_leaves_nothing() {
    if !server::is_there("the_embedded_way_is_refused_and_leaves_nothing") {
        return;
    }
    let mut options = EngineOptions::default();
    options.database = server::fresh().await;
    let engine = TestEngine::opened(options).await;
    let to = engine.directory.path().join("backup");
    let error = error_of(engine.registry.backup(&to, |_| {}).await);
    assert!(error.is_unsupported(), "{error:?}");
    assert!(error.to_string().contains("pg_dump") && !to.exists(), "{error}");
}
