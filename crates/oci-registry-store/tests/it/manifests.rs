//! Manifests, tags, and the conditions under which they move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use oci_ref::suite::content;
use oci_ref::{
    Access, ByteRange, ErrorKind, Manifest, Precondition, Registry, Source, Store, Target,
};
use oci_registry_store::{DurableRegistry, EngineOptions, References};
use oci_spec_types::{Algorithm, Descriptor, ErrorCode, MediaType};

use tempfile::TempDir;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn by_tag_and_by_digest() {
    for cache in [0, 16 << 20] {
        let mut options = EngineOptions::default();
        options.cache = cache;
        let engine = TestEngine::with(options).await;
        let store = engine.repository("a/b").await;
        let manifest = push_image(&*store, "x", &[tag("t"), tag("u")]).await;
        let digest = manifest.digest().clone();
        let other = describe(b"other").digest;
        for target in [
            Target::Tag(tag("t")),
            Target::Digest(digest.clone()),
            Target::Pinned(tag("u"), digest.clone()),
        ] {
            for _ in 0..2 {
                let found = store.manifest(&target).await.unwrap();
                assert_eq!(found.bytes(), manifest.bytes());
                assert_eq!(found.descriptor(), manifest.descriptor());
            }
            assert_eq!(store.resolve(&target).await.unwrap(), *manifest.descriptor());
        }
        for target in
            [Target::Tag(tag("v")), Target::Digest(other.clone()), Target::Pinned(tag("t"), other)]
        {
            assert_code(store.manifest(&target).await, ErrorCode::ManifestUnknown);
            assert_code(store.resolve(&target).await, ErrorCode::ManifestUnknown);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_must_be_there() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let missing = describe(b"missing");
    let broken = image(&config, std::slice::from_ref(&missing), "x", None);
    let error = error_of(store.put_manifest(&broken, &[tag("t")], &Precondition::None).await);
    assert_eq!(error.code(), Some(&ErrorCode::ManifestBlobUnknown));
    assert!(error.to_string().contains(missing.digest.as_str()), "{error}");
    assert_eq!(store.tags(None, 10).await.unwrap().items, []);

    let foreign = MediaType::OCI_LAYER_NONDISTRIBUTABLE;
    assert!(foreign.is_non_distributable());
    let foreign = Descriptor::new(foreign, missing.digest.clone(), 7);
    let subject = Descriptor::new(MediaType::OCI_IMAGE_MANIFEST, missing.digest.clone(), 7);
    let fine = image(&config, &[foreign], "y", Some(&subject));
    store.put_manifest(&fine, &[], &Precondition::None).await.unwrap();
    let children = index(&[&fine, &broken]);
    let result = store.put_manifest(&children, &[], &Precondition::None).await;
    assert_code(result, ErrorCode::ManifestBlobUnknown);
    assert_eq!(store.capabilities().sparse, Some(false));

    let mut options = EngineOptions::default();
    options.references = References::SparseIndexes;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.capabilities().sparse, Some(true));
    store.put_manifest(&children, &[tag("t")], &Precondition::None).await.unwrap();
    assert_eq!(store.manifest(&tag("t").into()).await.unwrap(), children);
}

#[tokio::test(flavor = "multi_thread")]
async fn sha512_manifests() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let bytes = image(&config, &[], "x", None).bytes().clone();
    let digest = Algorithm::Sha512.digest(&bytes);
    let manifest = Manifest::parse(bytes, None, Some(&digest)).unwrap();
    store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    assert_eq!(store.resolve(&tag("t").into()).await.unwrap().digest, digest);
    drop(store);
    let engine = engine.reopen().await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.manifest(&digest.into()).await.unwrap(), manifest);
}

/// Large ones are sent from it part by part, so this must not become `None` unnoticed.
#[tokio::test(flavor = "multi_thread")]
async fn parts_are_what_is_stored() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let text = "x".repeat(400_000);
    let manifest = image(&config, &[], &text, None);
    store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    let (digest, size) = (manifest.digest(), manifest.descriptor().size);
    let all = store.manifest_part(digest, 0..size).await.unwrap().unwrap();
    assert_eq!(all, manifest.bytes());
    drop(store);
    // Damage is for the reader to find.
    let mut damaged = manifest.bytes().to_vec();
    damaged[300_000] ^= 1;
    let engine = engine.tamper(&format!("UPDATE manifest SET data = {}", literal(&damaged))).await;
    let store = engine.repository("a/b").await;
    let part = store.manifest_part(digest, 200_000..size).await.unwrap().unwrap();
    assert_eq!(part, damaged[200_000..]);
}

/// The same bytes mean what they were pushed as, in each repository for itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_media_type_is_as_pushed() {
    let engine = TestEngine::new().await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    let config = push(&*one, &Bytes::from_static(b"{}")).await;
    push(&*two, &Bytes::from_static(b"{}")).await;
    let bytes = Bytes::from(
        serde_json::json!({"schemaVersion": 2, "config": config, "layers": []}).to_string(),
    );
    for (store, media_type) in
        [(&one, MediaType::OCI_IMAGE_MANIFEST), (&two, MediaType::DOCKER_MANIFEST)]
    {
        let manifest = Manifest::parse(bytes.clone(), Some(&media_type), None).unwrap();
        store.put_manifest(&manifest, &[tag("t")], &Precondition::None).await.unwrap();
    }
    for (store, media_type) in
        [(&one, MediaType::OCI_IMAGE_MANIFEST), (&two, MediaType::DOCKER_MANIFEST)]
    {
        assert_eq!(*store.manifest(&tag("t").into()).await.unwrap().media_type(), media_type);
    }
    let again = Manifest::parse(bytes, Some(&MediaType::DOCKER_MANIFEST), None).unwrap();
    one.put_manifest(&again, &[], &Precondition::None).await.unwrap();
    assert_eq!(
        *one.manifest(&tag("t").into()).await.unwrap().media_type(),
        MediaType::DOCKER_MANIFEST
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let image_1 = push_image(&*store, "1", &[tag("a"), tag("b")]).await;
    let image_2 = push_image(&*store, "2", &[tag("c")]).await;
    let config = describe(b"{}");
    let referrer = image(&config, &[], "r", Some(image_1.descriptor()));
    store.put_manifest(&referrer, &[tag("r")], &Precondition::None).await.unwrap();
    let list = index(&[&image_1, &image_2]);
    store.put_manifest(&list, &[], &Precondition::None).await.unwrap();

    store.delete_tag(&tag("a")).await.unwrap();
    assert_code(store.delete_tag(&tag("a")).await, ErrorCode::ManifestUnknown);
    assert_eq!(store.tags(None, 9).await.unwrap().items, [tag("b"), tag("c"), tag("r")]);
    assert!(store.manifest(&image_1.digest().clone().into()).await.is_ok());

    store.delete_manifest(image_1.digest()).await.unwrap();
    assert_code(store.delete_manifest(image_1.digest()).await, ErrorCode::ManifestUnknown);
    assert_code(store.manifest(&image_1.digest().clone().into()).await, ErrorCode::ManifestUnknown);
    assert_eq!(store.tags(None, 9).await.unwrap().items, [tag("c"), tag("r")]);
    assert_eq!(store.referrers(image_1.digest(), None, None, 9).await.unwrap().page.items.len(), 1);

    store.delete_manifest(referrer.digest()).await.unwrap();
    assert_eq!(store.referrers(image_1.digest(), None, None, 9).await.unwrap().page.items, []);
    assert_eq!(store.tags(None, 9).await.unwrap().items, [tag("c")]);

    // What was deleted can be pushed again.
    store.put_manifest(&referrer, &[tag("r")], &Precondition::None).await.unwrap();
    assert_eq!(store.referrers(image_1.digest(), None, None, 9).await.unwrap().page.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let one = push_image(&*store, "1", &[tag("one")]).await;
    let two = image(&describe(b"{}"), &[], "2", None);
    let matches = |manifest: &Manifest| Precondition::Matches(vec![manifest.digest().clone()]);
    for (tags, when) in [
        (["one"].as_slice(), Precondition::Absent),
        (&["one"], matches(&two)),
        (&["new"], Precondition::Exists),
        (&["new"], matches(&one)),
        (&["one", "new"], Precondition::Exists),
        (&["new", "one"], Precondition::Absent),
    ] {
        let tags: Vec<_> = tags.iter().map(|text| tag(text)).collect();
        assert_kind(store.put_manifest(&two, &tags, &when).await, ErrorKind::PreconditionFailed);
        assert_code(store.resolve(&two.digest().clone().into()).await, ErrorCode::ManifestUnknown);
    }
    assert_eq!(store.tags(None, 9).await.unwrap().items, [tag("one")]);
    store.put_manifest(&two, &[tag("one")], &matches(&one)).await.unwrap();
    store.put_manifest(&two, &[tag("one")], &Precondition::Exists).await.unwrap();
    store.put_manifest(&two, &[tag("new")], &Precondition::Absent).await.unwrap();
    assert_eq!(store.resolve(&tag("one").into()).await.unwrap().digest, *two.digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_compare_and_set_one_wins() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let mut now = push_image(&*store, "first", &[tag("t")]).await;
    for round in 0..10 {
        let when = Precondition::Matches(vec![now.digest().clone()]);
        let racers = (0..16).map(|racer| {
            let (store, when) = (&store, &when);
            async move {
                let manifest = image(&describe(b"{}"), &[], &format!("{round}/{racer}"), None);
                let result = store.put_manifest(&manifest, &[tag("t")], when).await;
                (manifest, result)
            }
        });
        let mut winners = Vec::new();
        for (manifest, result) in futures_util::future::join_all(racers).await {
            match result {
                Ok(()) => winners.push(manifest),
                Err(error) => assert_eq!(*error.kind(), ErrorKind::PreconditionFailed),
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(store.resolve(&tag("t").into()).await.unwrap().digest, *winners[0].digest());
        now = winners.remove(0);
    }
    // The same for a tag that does not exist: spread over real threads.
    let racers = (0..16).map(|racer| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            let manifest = image(&describe(b"{}"), &[], &format!("absent/{racer}"), None);
            store.put_manifest(&manifest, &[tag("u")], &Precondition::Absent).await.is_ok()
        })
    });
    let won = futures_util::future::join_all(racers).await;
    assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
}

#[tokio::test]
async fn unchecked_references_count_once_their_content_comes() {
    let directory = TempDir::new().unwrap();
    let mut options = EngineOptions::default();
    options.references = References::Unchecked;
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    let store = registry.repository(&"a/b".parse().unwrap(), Access::Write).await.unwrap();
    let packed = content::image("unchecked").unwrap();
    store.put_manifest(&packed.manifest, &[], &Precondition::None).await.unwrap();
    for blob in &packed.blobs {
        let digest = &blob.descriptor.digest;
        assert!(store.delete_blob(digest).await.unwrap_err().is_not_found());
        blob.put(&*store).await.unwrap();
        // It is referenced like any other now, so it stays.
        assert!(store.delete_blob(digest).await.unwrap_err().is_denied());
    }
    store.delete_manifest(packed.manifest.digest()).await.unwrap();
    for blob in &packed.blobs {
        store.delete_blob(&blob.descriptor.digest).await.unwrap();
    }
}

/// What was read is kept in memory. Once a change is acknowledged, nobody sees what was before, however busy the readers are.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_what_an_acknowledged_change_has_replaced() {
    const VERSIONS: usize = 60;
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let mut versions = Vec::new();
    for n in 0..VERSIONS {
        versions.push(push_image(&*store, &format!("{n}"), &[]).await);
    }
    let digests: Arc<[_]> = versions.iter().map(|version| version.digest().clone()).collect();
    let latest = Arc::new(AtomicUsize::new(0));
    store.put_manifest(&versions[0], &[tag("t")], &Precondition::None).await.unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, digests, latest) =
                (Arc::clone(&store), Arc::clone(&digests), Arc::clone(&latest));
            tokio::spawn(async move {
                loop {
                    let acknowledged = latest.load(Ordering::SeqCst);
                    let found = store.resolve(&tag("t").into()).await.unwrap().digest;
                    let found = digests.iter().position(|digest| *digest == found).unwrap();
                    assert!(found >= acknowledged, "version {found} after {acknowledged}");
                    if acknowledged == VERSIONS - 1 {
                        return;
                    }
                }
            })
        })
        .collect();
    for (n, version) in versions.iter().enumerate().skip(1) {
        store.put_manifest(version, &[tag("t")], &Precondition::None).await.unwrap();
        latest.store(n, Ordering::SeqCst);
    }
    for reader in readers {
        reader.await.unwrap();
    }

    store.delete_tag(&tag("t")).await.unwrap();
    assert_code(store.resolve(&tag("t").into()).await, ErrorCode::ManifestUnknown);
    for version in &versions {
        let digest = version.digest();
        assert!(store.resolve(&digest.clone().into()).await.is_ok());
        store.delete_manifest(digest).await.unwrap();
        assert_code(store.resolve(&digest.clone().into()).await, ErrorCode::ManifestUnknown);
    }
    for blob in versions.iter().flat_map(Manifest::blobs) {
        // Some have a blob in common.
        if pull(&*store, &blob.digest, ByteRange::All).await.is_ok() {
            store.delete_blob(&blob.digest).await.unwrap();
        }
        let gone = pull(&*store, &blob.digest, ByteRange::All).await;
        assert_code(gone, ErrorCode::BlobUnknown);
    }
    let again = engine.registry.repository(&name("a/b"), Access::Read).await;
    assert_code(again, ErrorCode::NameUnknown);
}
