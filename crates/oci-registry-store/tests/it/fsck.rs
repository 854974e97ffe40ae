//! What a check finds, and what it mends.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use oci_ref::{ByteRange, ErrorKind, Manifest, Precondition, Registry, Source, Store};
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
        r#"UPDATE referrer SET descriptor = replace(descriptor, '"size":', '"size":1')"#,
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

/// What changes the bytes of a manifest, and not their number.
fn spoil(manifest: &Manifest) -> String {
    let bytes = std::str::from_utf8(manifest.bytes()).unwrap().replace('2', "3");
    let data = literal(bytes.as_bytes());
    format!("UPDATE manifest SET data = {data} WHERE digest = '{}'", manifest.digest())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_mended_by_a_push_to_another_repository() {
    let engine = TestEngine::new().await;
    let damaged = content(&engine).await.index;
    let engine = engine.tamper(&spoil(&damaged)).await;
    let other = engine.repository("other").await;
    for child in damaged.manifests() {
        let here = engine.repository("a/b").await.manifest(&child.digest.clone().into()).await;
        for blob in here.as_ref().unwrap().blobs() {
            other.mount(blob, Some(&name("a/b"))).await.unwrap();
        }
        other.put_manifest(&here.unwrap(), &[], &Precondition::None).await.unwrap();
    }
    other.put_manifest(&damaged, &[tag("t")], &Precondition::None).await.unwrap();
    drop(other);
    let engine = engine.reopen().await;
    for repository in ["other", "a/b"] {
        let found = engine.repository(repository).await.manifest(&tag("t").into()).await;
        assert_eq!(found.unwrap().bytes(), damaged.bytes());
    }
    engine.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_goes_only_if_it_has_no_tag() {
    for tagged in [false, true] {
        let engine = TestEngine::new().await;
        let content = content(&engine).await;
        let damaged = if tagged { &content.index } else { &content.signature };
        let engine = engine.tamper(&spoil(damaged)).await;
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

/// What lost its mark would stay forever: collections look at nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_garbage_is_found_and_marked() {
    let engine = TestEngine::new().await;
    let Content { image, signature, .. } = content(&engine).await;
    let store = engine.repository("a/b").await;
    let unused = push(&*store, &noise(50_000, 7)).await;
    // A circle, which holds itself and what it lists, if anything held it.
    let circle = index_about(&[&image], Some(&image));
    store.put_manifest(&circle, &[], &Precondition::None).await.unwrap();
    let listing = index(&[&circle]);
    store.put_manifest(&listing, &[], &Precondition::None).await.unwrap();
    store.delete_tag(&tag("t")).await.unwrap();
    let other = engine.repository("other").await;
    other.mount(&unused, Some(&name("a/b"))).await.unwrap();
    drop((store, other));
    let engine = engine.tamper("UPDATE repository_blob SET candidate_since = NULL").await;
    let engine = engine.tamper("UPDATE repository_manifest SET candidate_since = NULL").await;
    let engine = engine.age(2 * DAY).await;
    assert_eq!(engine.collect_untagged().await, Default::default(), "it is forgotten");

    let (report, told) = engine.fsck(false).await;
    // The blob once for all repositories, and each manifest: the image, its index, its signature, the circle and its list.
    assert_eq!((report.problems, report.mended), (6, 0), "{told:#?}");
    assert!(told[0].contains(unused.digest.as_str()) && told[0].contains("a/b"), "{told:#?}");
    for manifest in [&image, &signature, &circle, &listing] {
        let digest = manifest.digest().as_str();
        assert_eq!(told.iter().filter(|told| told.contains(digest)).count(), 1, "{told:#?}");
    }
    let (report, again) = engine.fsck(true).await;
    assert!(report.is_sound() && again == told, "{again:#?}");
    engine.assert_sound().await;
    // They have their grace from now on, and then they go.
    assert_eq!(engine.collect_untagged().await, Default::default());
    let engine = engine.age(DAY).await;
    let collected = engine.collect_untagged().await;
    assert_eq!((collected.manifests, collected.links), (5, 2));
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.links, 2, "what the manifests held");
    assert_eq!(engine.assert_sound().await.blobs, 0);
    assert!(engine.registry.catalog(None, 9).await.unwrap().items.is_empty());
}

/// What a tag holds, however far above, is not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_needs_no_mark() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let engine = engine.tamper("UPDATE repository_blob SET candidate_since = NULL").await;
    let engine = engine.tamper("UPDATE repository_manifest SET candidate_since = NULL").await;
    engine.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_nothing_are_deleted() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let key = "00112233445566778899aabbccddeeff";
    let file = engine.directory.path().join("objects/00").join(key);
    fs::write(&file, noise(40_000, 3)).unwrap();
    let (small, large) = (noise(10, 4), noise(40_000, 3));
    let data = literal(&small);
    let [small, large] = [&small, &large].map(|bytes| describe(bytes).digest);
    let rows = [
        format!("INSERT INTO blob (digest, size, data) VALUES ('{small}', 10, {data})"),
        format!("INSERT INTO blob (digest, size, object) VALUES ('{large}', 40000, '{key}')"),
        format!("INSERT INTO manifest (digest, size, data) VALUES ('{small}', 10, {data})"),
        "INSERT INTO repository (name) VALUES ('empty')".to_owned(),
    ];
    let mut damaged = engine;
    for row in &rows {
        damaged = damaged.tamper(row).await;
    }
    let engine = damaged;
    let (report, told) = engine.fsck(false).await;
    assert_eq!((report.problems, report.mended), (4, 0), "{told:#?}");
    for (told, what) in told.iter().zip([small.as_str(), large.as_str(), small.as_str(), "empty"]) {
        assert!(told.contains(what), "{told}");
    }
    let (report, again) = engine.fsck(true).await;
    assert!(report.is_sound() && report.mended == 4 && again == told, "{again:#?}");
    engine.assert_sound().await;
    // Somebody may be reading it.
    assert!(file.exists());
    let engine = engine.age(2 * 60 * 60).await;
    assert_eq!(engine.collect().await.objects, 1);
    assert!(!file.exists());
    assert_eq!(engine.registry.catalog(None, 9).await.unwrap().items, [name("a/b")]);
}

/// A blob that is stored must not lose its file to a collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_marked_to_be_deleted_is_kept() {
    let engine = TestEngine::new().await;
    let layer = content(&engine).await.layer;
    let engine = engine
        .tamper(
            "INSERT INTO pending_object (key, delete_after)
             SELECT object, 9000000000 FROM blob WHERE object IS NOT NULL",
        )
        .await;
    let (report, told) = engine.fsck(true).await;
    assert!(report.is_sound() && report.mended == 1, "{told:?}");
    assert!(told[0].contains(layer.digest.as_str()), "{told:?}");
    engine.assert_sound().await;
    let engine = engine.age(9_000_000_000).await;
    assert_eq!(engine.collect().await.objects, 0);
    let store = engine.repository("a/b").await;
    assert_eq!(pull(&*store, &layer.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
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
        .tamper(&format!("UPDATE blob SET data = {} WHERE digest = '{digest}'", literal(&[0; 100])))
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
            && seen.fetch_add(1, Ordering::Relaxed) == 220
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

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_held_to_a_rate() {
    let engine = TestEngine::new().await;
    content(&engine).await;
    let bytes = engine.assert_sound().await.bytes;
    let mut options = FsckOptions::default();
    // A fifth of a second. Time does not stand still here, for what a database server takes is none of this program's.
    options.rate = Some(5 * bytes);
    let begun = std::time::Instant::now();
    let report = engine.registry.fsck(&options, |_| {}).await.unwrap();
    assert_eq!(report.bytes, bytes);
    assert!(begun.elapsed().as_millis() >= 200, "{:?} for {bytes} bytes", begun.elapsed());
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
