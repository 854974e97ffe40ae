//! Blobs: in, out, ranges, isolation, mounts, deletion.

use bytes::Bytes;
use oci_ref::{Access, ByteRange, ErrorKind, Mounted, Precondition, Registry, Source, Store};
use oci_spec_types::{Algorithm, ErrorCode};

use crate::support::*;

/// Sizes around what lies in the database, what is one chunk, and what is several.
const SIZES: [usize; 9] =
    [0, 1, 4096, 32 << 10, (32 << 10) + 1, 256 << 10, (256 << 10) + 1, 1 << 20, 3_000_001];

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_all_sizes_come_back() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for (seed, size) in SIZES.into_iter().enumerate() {
        let bytes = noise(size, seed as u64);
        let blob = push(&*store, &bytes).await;
        assert_eq!(store.blob_size(&blob.digest).await.unwrap(), Some(size as u64));
        assert_eq!(
            pull(&*store, &blob.digest, ByteRange::All).await.unwrap(),
            bytes,
            "{size} bytes"
        );
    }
    let in_files = SIZES.iter().filter(|size| **size > 32 << 10).count();
    assert_eq!(engine.objects().len(), in_files);
}

/// What was stored under another limit is read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_database_can_be_chosen() {
    let mut engine = TestEngine::new().await;
    let mut in_files = 0;
    for (seed, (limit, largest)) in
        [(0, 0), (70_000, 70_000), (usize::MAX, (256 << 10) - 1)].into_iter().enumerate()
    {
        engine.options.inline_limit = limit;
        engine = engine.reopen().await;
        let store = engine.repository("a/b").await;
        for size in [0, 1, 70_000, 70_001, (256 << 10) - 1, 256 << 10] {
            push(&*store, &noise(size, 1000 + seed as u64)).await;
            in_files += usize::from(size > largest);
            assert_eq!(engine.objects().len(), in_files, "{size} bytes, {limit} at most");
        }
        let id = {
            let mut staged = store.stage(sha256()).await.unwrap();
            staged.append(noise(70_000, 2000 + seed as u64)).await.unwrap();
            staged.suspend().await.unwrap()
        };
        drop(store);
        engine.options.inline_limit = 32 << 10;
        engine = engine.reopen().await;
        let store = engine.repository("a/b").await;
        for size in [1, 70_000, 70_001, 256 << 10] {
            let bytes = noise(size, 1000 + seed as u64);
            let digest = describe(&bytes).digest;
            assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes);
        }
        let staged = store.resume(&id).await.unwrap();
        staged.commit(&describe(&noise(70_000, 2000 + seed as u64)).digest).await.unwrap();
        in_files += 1;
        assert_eq!(engine.objects().len(), in_files);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_any_size_make_the_same_blob() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for (seed, piece) in
        [1_usize, 1000, 65_536, 262_144, 300_000, 2_000_000].into_iter().enumerate()
    {
        let bytes = noise(if piece == 1 { 40_000 } else { 700_000 }, 100 + seed as u64);
        let mut staged = store.stage(sha256()).await.unwrap();
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            staged.append(rest.split_to(piece.min(rest.len()))).await.unwrap();
        }
        assert_eq!(staged.offset(), bytes.len() as u64);
        let digest = describe(&bytes).digest;
        staged.commit(&digest).await.unwrap();
        assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for size in [5000_usize, 600_000] {
        let bytes = noise(size, 1);
        let digest = push(&*store, &bytes).await.digest;
        let last = size as u64 - 1;
        for (range, expected) in [
            (ByteRange::From(17), 17..size),
            (ByteRange::Inclusive(0, 0), 0..1),
            (ByteRange::Inclusive(1000, 2999), 1000..3000),
            (ByteRange::Inclusive(last, u64::MAX), size - 1..size),
            (ByteRange::Last(100), size - 100..size),
        ] {
            let read = pull(&*store, &digest, range).await.unwrap();
            assert_eq!(read, bytes.slice(expected), "{range:?} of {size}");
        }
        let beyond = pull(&*store, &digest, ByteRange::From(size as u64)).await;
        assert_kind(beyond, ErrorKind::RangeInvalid { size: size as u64 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_algorithms() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for (announced, used) in
        [(Algorithm::Sha512, Algorithm::Sha512), (Algorithm::Sha256, Algorithm::Sha512)]
    {
        for size in [100, 700_000] {
            let bytes = noise(size, size as u64 + announced as u64);
            let digest = used.digest(&bytes);
            let mut staged = store.stage(announced).await.unwrap();
            staged.append(bytes.clone()).await.unwrap();
            staged.commit(&digest).await.unwrap();
            assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes);
        }
    }
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(noise(700_000, 9)).await.unwrap();
    let unsupported = format!("blake3:{}", "0".repeat(64)).parse().unwrap();
    assert_code(staged.commit(&unsupported).await, ErrorCode::DigestInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_leaves_nothing() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    for size in [10, 700_000] {
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(size, 1)).await.unwrap();
        let other = describe(&noise(size, 2)).digest;
        assert_code(staged.commit(&other).await, ErrorCode::DigestInvalid);
        assert_eq!(store.blob_size(&other).await.unwrap(), None);
        assert_eq!(store.blob_size(&describe(&noise(size, 1)).digest).await.unwrap(), None);
    }
    assert_eq!(engine.objects(), Vec::<std::path::PathBuf>::new());
    let read = engine.registry.repository(&name("a/b"), Access::Read).await;
    assert_code(read, ErrorCode::NameUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_dropped_upload_leaves_nothing() {
    for size in [10, 700_000] {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(size, 1)).await.unwrap();
        staged.cancel().await.unwrap();
        assert_eq!(engine.objects().len(), 0);
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(size, 1)).await.unwrap();
        drop((staged, store));
        // Closing waits for what a dropped upload does in the background.
        let database = engine.options.database.clone();
        let directory = engine.close().await;
        assert_eq!(objects_in(directory.path()).len(), 0);
        assert_eq!(count(directory.path(), &database, "pending_object").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_are_isolated() {
    let engine = TestEngine::new().await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    let bytes = noise(100_000, 1);
    let digest = push(&*one, &bytes).await.digest;
    let manifest = push_image(&*one, "x", &[tag("t")]).await;
    assert_eq!(two.blob_size(&digest).await.unwrap(), None);
    assert_code(pull(&*two, &digest, ByteRange::All).await, ErrorCode::BlobUnknown);
    assert_code(two.delete_blob(&digest).await, ErrorCode::BlobUnknown);
    assert_code(two.manifest(&manifest.digest().clone().into()).await, ErrorCode::ManifestUnknown);
    assert_code(two.resolve(&tag("t").into()).await, ErrorCode::ManifestUnknown);
    assert_code(
        two.put_manifest(&manifest, &[], &Precondition::None).await,
        ErrorCode::ManifestBlobUnknown,
    );
    // None of this has made the other repository exist.
    assert_code(
        engine.registry.repository(&name("two"), Access::Read).await,
        ErrorCode::NameUnknown,
    );
    assert!(engine.registry.repository(&name("one"), Access::Read).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts() {
    let engine = TestEngine::new().await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    let bytes = noise(100_000, 1);
    let blob = push(&*one, &bytes).await;
    assert!(matches!(two.mount(&blob, None).await.unwrap(), Mounted::No));
    assert!(matches!(two.mount(&blob, Some(&name("three"))).await.unwrap(), Mounted::No));
    assert!(matches!(two.mount(&blob, Some(&name("two"))).await.unwrap(), Mounted::No));
    assert_eq!(two.blob_size(&blob.digest).await.unwrap(), None);
    assert_eq!(engine.registry.holders(&blob.digest, 9).await.unwrap(), [name("one")]);
    assert!(matches!(two.mount(&blob, Some(&name("one"))).await.unwrap(), Mounted::Done));
    assert_eq!(engine.registry.holders(&blob.digest, 9).await.unwrap().len(), 2);
    assert_eq!(engine.registry.holders(&blob.digest, 1).await.unwrap().len(), 1);
    assert!(matches!(two.mount(&blob, None).await.unwrap(), Mounted::Done));
    one.delete_blob(&blob.digest).await.unwrap();
    assert_eq!(one.blob_size(&blob.digest).await.unwrap(), None);
    assert_eq!(pull(&*two, &blob.digest, ByteRange::All).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_blobs_are_stored_once() {
    let engine = TestEngine::new().await;
    let bytes = noise(300_000, 1);
    let uploads = (0..8).map(|n| {
        let (engine, bytes) = (&engine, &bytes);
        async move {
            let store = engine.repository(&format!("r{}", n / 2)).await;
            push(&*store, bytes).await
        }
    });
    let pushed = futures_util::future::join_all(uploads).await;
    assert_eq!(engine.objects().len(), 1);
    for n in 0..4 {
        let store = engine.repository(&format!("r{n}")).await;
        assert_eq!(pull(&*store, &pushed[0].digest, ByteRange::All).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referenced_blob_cannot_be_deleted() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let layer = push(&*store, &noise(100_000, 1)).await;
    let manifest = image(&config, &[layer.clone(), layer.clone()], "x", None);
    store.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
    let error = error_of(store.delete_blob(&layer.digest).await);
    assert_eq!(error.code(), Some(&ErrorCode::Denied));
    assert!(error.to_string().contains(manifest.digest().as_str()), "{error}");
    store.delete_manifest(manifest.digest()).await.unwrap();
    store.delete_blob(&layer.digest).await.unwrap();
    assert_code(store.delete_blob(&layer.digest).await, ErrorCode::BlobUnknown);
    // With the last content the repository ends.
    assert!(engine.registry.repository(&name("a/b"), Access::Read).await.is_ok());
    store.delete_blob(&config.digest).await.unwrap();
    assert_code(
        engine.registry.repository(&name("a/b"), Access::Read).await,
        ErrorCode::NameUnknown,
    );
    // And pushing the same again works.
    assert_eq!(push(&*store, &noise(100_000, 1)).await, layer);
    assert_eq!(pull(&*store, &layer.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
}
