//! What survives a restart and a crash.

use bytes::Bytes;
use oci_ref::{ByteRange, ErrorKind, Precondition, Registry, Source, Store};
use oci_spec_types::ErrorCode;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let (small, large) = (noise(3000, 1), noise(900_000, 2));
    let config = push(&*store, &small).await;
    let layer = push(&*store, &large).await;
    let manifest = image(&config, std::slice::from_ref(&layer), "x", None);
    let referrer = image(&config, &[], "y", Some(manifest.descriptor()));
    for (manifest, tags) in [(&manifest, vec![tag("t"), tag("u")]), (&referrer, vec![])] {
        store.put_manifest(manifest, &tags, &Precondition::None).await.unwrap();
    }
    drop(store);
    check_all(&engine.crashed().await, &small, &large, &manifest, &referrer).await;
    check_all(&engine.reopen().await, &small, &large, &manifest, &referrer).await;
}

async fn check_all(
    engine: &TestEngine,
    small: &Bytes,
    large: &Bytes,
    manifest: &oci_ref::Manifest,
    referrer: &oci_ref::Manifest,
) {
    let store = engine.repository("a/b").await;
    assert_eq!(pull(&*store, &describe(small).digest, ByteRange::All).await.unwrap(), small);
    assert_eq!(pull(&*store, &describe(large).digest, ByteRange::All).await.unwrap(), large);
    let found = store.manifest(&tag("t").into()).await.unwrap();
    assert_eq!((found.bytes(), found.descriptor()), (manifest.bytes(), manifest.descriptor()));
    assert_eq!(store.tags(None, 10).await.unwrap().items, [tag("t"), tag("u")]);
    let referrers = store.referrers(manifest.digest(), None, None, 10).await.unwrap();
    assert_eq!(referrers.page.items, [referrer.as_referrer().unwrap()]);
    assert_eq!(engine.registry.catalog(None, 10).await.unwrap().items, [name("a/b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_an_upload_leaves_nothing() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let kept = push(&*store, &noise(100_000, 7)).await;
    let mut staged = store.stage(sha256()).await.unwrap();
    // The third chunk is taken when the first has been written.
    staged.append(noise(3 * (256 << 10), 1)).await.unwrap();
    assert_eq!(engine.objects().len(), 2);
    let crashed = engine.crashed().await;
    assert_eq!(crashed.objects().len(), 1);
    let store = crashed.repository("a/b").await;
    assert_eq!(pull(&*store, &kept.digest, ByteRange::All).await.unwrap(), noise(100_000, 7));
    staged.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_suspend_keeps_what_was_recorded() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let bytes = noise(700_000, 1);
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes.slice(..600_000)).await.unwrap();
    let id = staged.suspend().await.unwrap();
    let mut staged = store.resume(&id).await.unwrap();
    staged.append(noise(3 * (256 << 10), 99)).await.unwrap();
    assert!(engine.object_bytes() > 600_000);

    let crashed = engine.crashed().await;
    let other = crashed.repository("a/b").await;
    let mut resumed = other.resume(&id).await.unwrap();
    assert_eq!(resumed.offset(), 600_000);
    resumed.append(bytes.slice(600_000..)).await.unwrap();
    resumed.commit(&describe(&bytes).digest).await.unwrap();
    assert_eq!(
        crashed.object_bytes(),
        700_000,
        "what was written after the suspend is still there"
    );
    assert_eq!(pull(&*other, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
    staged.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pushes_share_commits_and_are_all_there() {
    let engine = TestEngine::new().await;
    let pushes = (0..200_u64).map(|n| {
        let engine = &engine;
        async move {
            let store = engine.repository(&format!("r{}", n % 7)).await;
            let blob = push(&*store, &noise(1000, n)).await;
            let manifest = image(&blob, &[], &n.to_string(), None);
            store
                .put_manifest(&manifest, &[tag(&format!("t{n}"))], &Precondition::None)
                .await
                .unwrap();
            manifest
        }
    });
    let pushed = futures_util::future::join_all(pushes).await;
    let crashed = engine.crashed().await;
    for (n, manifest) in pushed.iter().enumerate() {
        let store = crashed.repository(&format!("r{}", n % 7)).await;
        let found = store.manifest(&tag(&format!("t{n}")).into()).await.unwrap();
        assert_eq!(found.bytes(), manifest.bytes());
        assert!(store.blob_size(&manifest.image().unwrap().config.digest).await.unwrap().is_some());
    }
}

/// A failure among requests that share a commit is nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_does_not_harm_those_beside_it() {
    let engine = TestEngine::new().await;
    let requests = (0..200_u64).map(|n| {
        let engine = &engine;
        async move {
            let store = engine.repository("r").await;
            if n % 3 == 0 {
                let missing = image(&describe(b"not pushed"), &[], &n.to_string(), None);
                let result = store.put_manifest(&missing, &[tag("t")], &Precondition::None).await;
                assert_code(result, ErrorCode::ManifestBlobUnknown);
            } else {
                push(&*store, &noise(1000, n)).await;
            }
        }
    });
    futures_util::future::join_all(requests).await;
    let store = engine.repository("r").await;
    for n in (0..200).filter(|n| n % 3 != 0) {
        assert_eq!(store.blob_size(&describe(&noise(1000, n)).digest).await.unwrap(), Some(1000));
    }
    assert_eq!(store.tags(None, 10).await.unwrap().items, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_bytes_are_an_error_and_never_a_short_blob() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(900_000, 1)).await;
    let file = engine.objects().pop().unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(500_000).unwrap();
    assert_kind(pull(&*store, &blob.digest, ByteRange::All).await, ErrorKind::Internal);
    assert_eq!(
        pull(&*store, &blob.digest, ByteRange::Inclusive(0, 9)).await.unwrap(),
        noise(10, 1)
    );
    std::fs::remove_file(&file).unwrap();
    assert_kind(pull(&*store, &blob.digest, ByteRange::All).await, ErrorKind::Io);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sync_everything_works_too() {
    let mut options = oci_registry_store::EngineOptions::default();
    options.sync = false;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let bytes = noise(900_000, 1);
    let blob = push(&*store, &bytes).await;
    drop(store);
    let engine = engine.reopen().await;
    let store = engine.repository("a/b").await;
    assert_eq!(pull(&*store, &blob.digest, ByteRange::All).await.unwrap(), bytes);
}
