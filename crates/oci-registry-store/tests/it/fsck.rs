//! What a check finds, and what it mends.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use oci_ref::{ByteRange, ErrorKind, Manifest, Precondition, Source, Store};
use oci_registry_store::{FsckEvent, FsckOptions, FsckStage};
use oci_spec_types::{Descriptor, ErrorCode};

use crate::support::*;

struct Content {
    config: Descriptor,
    layer: Descriptor,
    image: Manifest,
    index: Manifest,
    signature: Manifest,
}

/// An index with an image and its signature, of a blob in the database and one in a file.
async fn content(engine: &TestEngine) -> Content {
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let layer = push(&*store, &noise(100_000, 1)).await;
    let image = image(&config, std::slice::from_ref(&layer), "x", None);
    let index = index(&[&image]);
    let signature = crate::support::image(&config, &[], "s", Some(image.descriptor()));
    for (manifest, tags) in [(&image, vec![]), (&signature, vec![]), (&index, vec![tag("t")])] {
        store.put_manifest(manifest, &tags, &Precondition::None).await.unwrap();
    }
    Content { config, layer, image, index, signature }
}

fn the_file(engine: &TestEngine) -> PathBuf {
    engine.objects().pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let mut staged = engine.repository("a/b").await.stage(sha256()).await.unwrap();
    staged.append(noise(700_000, 2)).await.unwrap();
    staged.suspend().await.unwrap();
    let report = engine.assert_sound().await;
    assert_eq!((report.blobs, report.manifests, report.objects), (2, 3, 2));
    assert!(report.bytes > 100_002 && report.is_sound());
    assert_eq!(engine.fsck(true).await.0, report, "a repair of nothing is a check");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_blobs_are_taken_out_and_come_back_with_a_push() {
    for damage in ["missing", "cut off", "changed", "in the database"] {
        let mut engine = TestEngine::new().await;
        let content = content(&engine).await;
        let other = engine.repository("other").await;
        let mut blob = &content.layer;
        other.mount(blob, Some(&name("a/b"))).await.unwrap();
        drop(other);
        let file = the_file(&engine);
        match damage {
            "missing" => fs::remove_file(&file).unwrap(),
            "cut off" => {
                fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(50).unwrap()
            }
            "changed" => {
                let mut bytes = fs::read(&file).unwrap();
                bytes[77_777] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
            _ => {
                engine = engine.tamper("UPDATE blob SET data = x'7b7c' WHERE data = x'7b7d'").await;
                blob = &content.config;
            }
        }
        let (report, told) = engine.fsck(false).await;
        assert_eq!((report.problems, report.mended), (1, 0), "{damage}: {told:?}");
        assert!(told[0].contains(blob.digest.as_str()) && told[0].contains("a/b"), "{told:?}");
        // Nothing has been changed.
        let (report, again) = engine.fsck(true).await;
        assert_eq!(again, told);
        assert!(report.is_sound() && report.mended == 1, "{damage}");

        let store = engine.repository("a/b").await;
        assert_eq!(store.blob_size(&blob.digest).await.unwrap(), None, "{damage}");
        assert_eq!(engine.assert_sound().await.blobs, 1);
        // Nothing that still is there is garbage now.
        drop(store);
        let engine = engine.age(2 * DAY).await;
        engine.collect().await;
        let store = engine.repository("a/b").await;
        let found = store.manifest(&tag("t").into()).await.unwrap();
        assert_eq!(found.digest(), content.index.digest());
        let bytes = if damage == "in the database" { Bytes::from("{}") } else { noise(100_000, 1) };
        push(&*store, &bytes).await;
        assert_eq!(pull(&*store, &blob.digest, ByteRange::All).await.unwrap(), bytes);
        // And it is referenced as before.
        assert_code(store.delete_blob(&blob.digest).await, ErrorCode::Denied);
        engine.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_nobody_are_deleted() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let key = "00112233445566778899aabbccddeeff";
    let orphan = engine.directory.path().join("objects/00").join(key);
    fs::write(&orphan, "bytes").unwrap();
    let (report, told) = engine.fsck(false).await;
    assert_eq!((report.problems, report.objects), (1, 2));
    assert!(told[0].contains(key) && told[0].contains("5 bytes"), "{told:?}");
    assert!(orphan.exists());
    assert!(engine.fsck(true).await.0.is_sound());
    assert!(!orphan.exists());
    engine.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_references_are_recorded_anew() {
    let wrongs = [
        "DELETE FROM manifest_blob WHERE blob = 2",
        "DELETE FROM manifest_child",
        "INSERT INTO manifest_child SELECT id, repository, 'sha256:0' FROM repository_manifest LIMIT 1",
        "DELETE FROM referrer",
        "UPDATE referrer SET descriptor = json_set(descriptor, '$.size', 1)",
        "UPDATE repository_manifest SET artifact_type = 'a/b' WHERE id = 1",
        "INSERT INTO missing_blob SELECT parent, repository, digest FROM manifest_blob JOIN blob ON blob.id = blob
         LIMIT 1",
        "INSERT INTO missing_blob SELECT id, repository, 'sha256:0' FROM repository_manifest LIMIT 1",
    ];
    for wrong in wrongs {
        let engine = TestEngine::new().await;
        let content = content(&engine).await;
        let engine = engine.tamper(wrong).await;
        let (report, told) = engine.fsck(true).await;
        assert!(report.problems == 1 && report.is_sound(), "{wrong}: {told:?}");
        engine.assert_sound().await;
        // What is recorded is what counts.
        let store = engine.repository("a/b").await;
        assert_code(store.delete_blob(&content.layer.digest).await, ErrorCode::Denied);
        let referrers = store.referrers(content.image.digest(), None, None, 9).await.unwrap();
        assert_eq!(referrers.page.items, [content.signature.as_referrer().unwrap()]);
        drop(store);
        let engine = engine.age(2 * DAY).await;
        assert_eq!(engine.collect_untagged().await, Default::default(), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_goes_only_if_it_has_no_tag() {
    for tagged in [false, true] {
        let engine = TestEngine::new().await;
        let content = content(&engine).await;
        let damaged = if tagged { &content.index } else { &content.signature };
        let sql = format!(
            "UPDATE manifest SET data = CAST(replace(CAST(data AS TEXT), '2', '3') AS BLOB) WHERE digest = '{}'",
            damaged.digest()
        );
        let engine = engine.tamper(&sql).await;
        let (report, told) = engine.fsck(true).await;
        assert_eq!((report.problems, report.mended), (1, u64::from(!tagged)), "{told:?}");
        assert!(told[0].contains(damaged.digest().as_str()), "{told:?}");
        assert_eq!(told[0].contains("tags t,"), tagged, "{told:?}");
        let store = engine.repository("a/b").await;
        let found = store.resolve(&damaged.digest().clone().into()).await;
        assert_eq!(found.is_ok(), tagged);
        // A push heals both.
        let tags = if tagged { vec![tag("t")] } else { vec![] };
        store.put_manifest(damaged, &tags, &Precondition::None).await.unwrap();
        drop(store);
        let engine = engine.reopen().await;
        let store = engine.repository("a/b").await;
        let found = store.manifest(&damaged.digest().clone().into()).await.unwrap();
        assert_eq!(found.bytes(), damaged.bytes());
        engine.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_told() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let engine = engine.tamper("DELETE FROM repository_blob WHERE blob = 2").await;
    let (report, told) = engine.fsck(true).await;
    assert!(!report.is_sound());
    assert!(told[0].contains("manifest_blob") && told[0].contains("backup"), "{told:?}");
}

/// A check that was broken off goes on, counts what it had found, and reads nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_goes_on_where_it_was_left() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for seed in 0..250 {
        push(&*store, &noise(100, seed)).await;
    }
    content(&engine).await;
    fs::remove_file(the_file(&engine)).unwrap();
    let bytes = noise(100, 0);
    drop(store);
    let digest = describe(&bytes).digest;
    let engine = engine
        .tamper(&format!("UPDATE blob SET data = zeroblob(100) WHERE digest = '{digest}'"))
        .await;
    let whole = engine.fsck(false).await.0;
    assert_eq!(whole.problems, 2);

    let mut options = FsckOptions::default();
    options.resume = true;
    let (stop, stopped) = tokio::sync::mpsc::unbounded_channel::<()>();
    let (stop, mut stopped) = (Mutex::new(Some(stop)), stopped);
    let seen = AtomicUsize::new(0);
    let tell = |event: &FsckEvent<'_>| {
        if let FsckEvent::Progress(FsckStage::Blobs, _) = event
            && seen.fetch_add(1, Ordering::Relaxed) == 150
        {
            stop.lock().unwrap().take();
        }
    };
    let cut_off = tokio::select! {
        biased;
        _ = stopped.recv() => true,
        _ = engine.registry.fsck(&options, tell) => false,
    };
    assert!(cut_off);
    let (engine, told) = (engine.reopen().await, Mutex::new(Vec::new()));
    let again = AtomicUsize::new(0);
    let tell = |event: &FsckEvent<'_>| match event {
        FsckEvent::Progress(FsckStage::Blobs, _) => {
            again.fetch_add(1, Ordering::Relaxed);
        }
        FsckEvent::Problem(problem) => told.lock().unwrap().push(problem.what.clone()),
        _ => {}
    };
    let report = engine.registry.fsck(&options, tell).await.unwrap();
    assert_eq!(report, whole);
    // The first was told by the one that was cut off.
    assert_eq!(told.into_inner().unwrap().len(), 1);
    assert!(again.into_inner() < 160);
    // That one came to its end, so there is nothing to go on with.
    assert_eq!(engine.registry.fsck(&options, |_| {}).await.unwrap(), whole);
}

#[tokio::test]
async fn reading_is_held_to_a_rate() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    tokio::time::pause();
    let mut options = FsckOptions::default();
    options.rate = Some(1000);
    let begun = tokio::time::Instant::now();
    let report = engine.registry.fsck(&options, |_| {}).await.unwrap();
    let least = std::time::Duration::from_millis(report.bytes);
    assert!(begun.elapsed() >= least, "{:?} for {} bytes", begun.elapsed(), report.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_check_at_a_time() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let other = Mutex::new(None);
    let registry = engine.registry.clone();
    let tell = |_: &FsckEvent<'_>| {
        let mut other = other.lock().unwrap();
        if other.is_none() {
            let options = FsckOptions::default();
            let check = registry.fsck(&options, |_| {});
            *other = Some(futures_util::FutureExt::now_or_never(check));
        }
    };
    engine.registry.fsck(&FsckOptions::default(), tell).await.unwrap();
    assert_kind(other.into_inner().unwrap().unwrap().unwrap(), ErrorKind::Unavailable);
}
