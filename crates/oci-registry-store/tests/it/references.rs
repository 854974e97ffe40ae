//! References of manifests, whatever their types, are held: not collected, and not deleted.

use bytes::Bytes;
use oci_ref::{ByteRange, Manifest, Precondition, Source, Store};
use oci_registry_store::{DurableRegistry, EngineOptions, References};
use oci_spec_types::{Descriptor, ErrorCode, MediaType};
use serde_json::json;

use crate::support::*;

async fn put(store: &dyn Store, manifest: &Manifest, name: &str) {
    store.put_manifest(manifest, &[tag(name)], &Precondition::None).await.unwrap();
}

fn with(references: References) -> EngineOptions {
    let mut options = EngineOptions::default();
    options.references = references;
    options
}

/// A blob in a file and one in the database.
fn contents() -> [Bytes; 2] {
    [noise(100_000, 1), Bytes::from_static(b"{\"layers\":[],\"records\":[]}")]
}

/// All that can reference blobs without being an image, each with the subject that it may have.
fn parents(blobs: &[Descriptor], child: &Manifest) -> Vec<Manifest> {
    let parse = |document: serde_json::Value| {
        Manifest::parse(document.to_string().into(), None, None).unwrap()
    };
    vec![
        listing(blobs),
        parse(json!({"mediaType": MediaType::OCI_ARTIFACT_MANIFEST, "blobs": blobs})),
        parse(json!({"mediaType": MediaType::ORAS_ARTIFACT_MANIFEST, "blobs": blobs})),
        bundle(&[blobs, &[child.descriptor().clone()]].concat()),
        parse(json!({
            "mediaType": "application/vnd.example.digests+json",
            "all": [blobs[0].digest, {"more": blobs[1].digest}],
        })),
    ]
}

/// Deletes the references that blobs came to be listed by, as versions had none which only knew of
/// listed manifests, and nothing of unknown types.
async fn made_older(engine: TestEngine) -> TestEngine {
    let TestEngine { registry, options, directory } = engine;
    registry.close().await;
    let is_listed = "parent IN (SELECT parent FROM manifest_child)";
    let is_unknown =
        "(SELECT id FROM repository_manifest WHERE media_type LIKE 'application/vnd.example%'
                       OR media_type LIKE 'application/vnd.cncf%')";
    let mut statements = vec![
        format!("DELETE FROM manifest_blob WHERE {is_listed} OR parent IN {is_unknown}"),
        format!("DELETE FROM manifest_child WHERE parent IN {is_unknown}"),
        "DELETE FROM setting WHERE name = 'references'".to_owned(),
    ];
    for statement in statements.drain(..) {
        change(directory.path(), &options.database, &statement).await;
    }
    match options.database.is_shared() {
        true => {
            let older = "UPDATE oci_registry_schema SET version = 1";
            change(directory.path(), &options.database, older).await;
            let without = "ALTER TABLE session DROP COLUMN digest";
            alter(directory.path(), &options.database, without).await;
        }
        false => {
            let database =
                rusqlite::Connection::open(directory.path().join("metadata.sqlite")).unwrap();
            let without = "ALTER TABLE closed_session DROP COLUMN digest";
            database.execute(without, []).unwrap();
            database.execute("DROP TABLE deleted_subject", []).unwrap();
            database.pragma_update(None, "user_version", 3).unwrap();
        }
    }
    let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    TestEngine { registry, options, directory }
}

// moby/buildkit#1550, #2479, #3781, goharbor/harbor#14774: an index of layers is emptied
// goharbor/harbor#12975, #15445: what manifests of unknown types reference is collected
#[tokio::test(flavor = "multi_thread")]
async fn what_a_manifest_references_is_held_as_long_as_it_is_there() {
    let modes = [References::Complete, References::SparseIndexes, References::Unchecked];
    for (mode, older) in modes.map(|mode| (mode, false)).into_iter().chain([(modes[0], true)]) {
        let mut engine = TestEngine::with(with(mode)).await;
        let store = engine.repository("a/b").await;
        let mut blobs = Vec::new();
        for bytes in contents() {
            blobs.push(push(&*store, &bytes).await);
        }
        let child = push_image(&*store, "child", &[]).await;
        let parents = parents(&blobs, &child);
        for (position, parent) in parents.iter().enumerate() {
            put(&*store, parent, &format!("t{position}")).await;
        }
        drop(store);
        if older {
            engine = made_older(engine).await;
        }
        engine.assert_sound().await;
        for parent in &parents {
            engine = engine.age(2 * DAY).await;
            engine.collect_untagged().await;
            engine.assert_sound().await;
            let store = engine.repository("a/b").await;
            for (blob, bytes) in blobs.iter().zip(contents()) {
                let there = pull(&*store, &blob.digest, ByteRange::All).await;
                assert_eq!(there.unwrap(), bytes, "{} {mode:?}", parent.media_type());
                assert_code(store.delete_blob(&blob.digest).await, ErrorCode::Denied);
            }
            let listed = store.resolve(&child.digest().clone().into()).await;
            assert_eq!(listed.is_ok(), store.resolve(&tag("t3").into()).await.is_ok());
            // One after the other, until the last holds them.
            store.delete_manifest(parent.digest()).await.unwrap();
        }
        // The blobs, and then their files.
        for _ in 0..2 {
            engine = engine.age(2 * DAY).await;
            engine.collect_untagged().await;
        }
        assert_eq!(engine.objects().len(), 0, "{mode:?}");
        let report = engine.assert_sound().await;
        assert_eq!((report.blobs, report.manifests), (0, 0), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_and_comes_later_is_held_in_whatever_form() {
    let engine = TestEngine::with(with(References::SparseIndexes)).await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let (image, [layer, _]) = (image(&config, &[], "late", None), contents());
    let listing = listing(&[image.descriptor().clone(), describe(&layer)]);
    put(&*store, &listing, "t").await;
    store.put_manifest(&image, &[], &Precondition::None).await.unwrap();
    let other = engine.repository("other").await;
    push(&*other, &layer).await;
    store.mount(&describe(&layer), Some(&name("other"))).await.unwrap();
    // The bytes of a manifest as a blob, beside it.
    push(&*store, image.bytes()).await;
    drop((store, other));
    let engine = engine.age(2 * DAY).await;
    engine.collect_untagged().await;
    engine.assert_sound().await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.manifest(&image.digest().clone().into()).await.unwrap(), image);
    for bytes in [&layer, image.bytes()] {
        let digest = describe(bytes).digest;
        assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), *bytes);
        assert_code(store.delete_blob(&digest).await, ErrorCode::Denied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_size_is_refused_whatever_may_be_missing() {
    for mode in [References::Complete, References::SparseIndexes, References::Unchecked] {
        let engine = TestEngine::with(with(mode)).await;
        let store = engine.repository("a/b").await;
        let config = push(&*store, &Bytes::from_static(b"{}")).await;
        let child = push_image(&*store, "child", &[]).await;
        let larger = |of: &Descriptor| Descriptor { size: of.size + 1, ..of.clone() };
        for wrong in [
            image(&larger(&config), &[], "x", None),
            image(&config, &[larger(&config)], "x", None),
            listing(&[larger(&config)]),
            listing(&[larger(child.descriptor())]),
            bundle(&[larger(&config)]),
        ] {
            let stored = store.put_manifest(&wrong, &[tag("t")], &Precondition::None).await;
            assert_code(stored, ErrorCode::ManifestInvalid);
            let found = store.resolve(&wrong.digest().clone().into()).await;
            assert_code(found, ErrorCode::ManifestUnknown);
        }
        // Of a subject nothing is known.
        let about = image(&config, &[], "x", Some(&larger(child.descriptor())));
        put(&*store, &about, "t").await;
        engine.assert_sound().await;
    }
}

// Older versions recorded nothing of what an index lists but manifests, and fsck said that all is
// well.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_what_is_listed_and_not_held() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &contents()[0]).await;
    put(&*store, &listing(std::slice::from_ref(&blob)), "t").await;
    drop(store);
    let engine = engine.tamper("DELETE FROM manifest_blob").await;
    let (report, told) = engine.fsck(false).await;
    assert_eq!((report.problems, report.mended), (1, 0), "{told:?}");
    assert!(told[0].contains(blob.digest.as_str()), "{told:?}");
    let (report, _) = engine.fsck(true).await;
    assert!(report.is_sound() && report.mended == 1);
    engine.assert_sound().await;
    let engine = engine.age(2 * DAY).await;
    engine.collect().await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.blob_size(&blob.digest).await.unwrap(), Some(blob.size));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_deletes_nothing_that_it_does_not_understand() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let unknown = bundle(&[]);
    store.put_manifest(&unknown, &[], &Precondition::None).await.unwrap();
    drop(store);
    // As a version may have stored it that did not look for descriptors.
    let odd = Bytes::from_static(br#"{"a":{"mediaType":"a/b","digest":1,"size":2}}"#);
    let engine = engine
        .tamper(&format!(
            "UPDATE manifest SET data = {}, size = {}, digest = '{}'",
            literal(&odd),
            odd.len(),
            describe(&odd).digest
        ))
        .await;
    let (report, told) = engine.fsck(true).await;
    assert_eq!((report.problems, report.mended), (1, 0), "{told:?}");
    assert!(told[0].contains("cannot be understood"), "{told:?}");
    let store = engine.repository("a/b").await;
    let found = store.resolve(&describe(&odd).digest.into()).await.unwrap();
    assert_eq!(found.size, odd.len() as u64);
}
