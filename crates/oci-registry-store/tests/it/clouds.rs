//! Content in buckets.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use oci_ref::{Access, ByteRange, Error, ErrorKind, Registry, Store, UploadId};
use oci_registry_store::{DurableRegistry, EngineOptions, Storage};
use oci_spec_types::{Algorithm, ErrorCode};

use crate::s3::{Fault, S3, SECRET};
use crate::support::*;

pub(crate) const MIB: usize = 1 << 20;

/// Offsets at which uploads rest: in the database, there although it is more than that takes, in parts, and in parts with
/// something aside.
pub(crate) const OFFSETS: [usize; 6] = [0, 1000, 40_000, 700_000, 6 * MIB, 9 * MIB + 1];

#[tokio::test(flavor = "multi_thread")]
async fn small_content_is_one_request_and_large_content_is_parts() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    s3.forget();
    push(&*store, &noise(1000, 1)).await;
    assert_eq!(s3.seen(), []);

    let small = push(&*store, &noise(5 * MIB, 2)).await;
    let seen = s3.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((&seen[0].method, seen[0].length), (&Method::PUT, 5 << 20));
    assert!(seen[0].path.starts_with("/bucket/some/prefix/objects/"), "{}", seen[0].path);

    s3.forget();
    let large = push(&*store, &noise(17 * MIB, 3)).await;
    let seen = s3.seen();
    let of = |method: Method| seen.iter().filter(move |seen| seen.method == method);
    let mut parts: Vec<u64> = of(Method::PUT).map(|seen| seen.length).collect();
    parts.sort_unstable();
    assert_eq!(parts, [1 << 20, 8 << 20, 8 << 20]);
    assert_eq!(of(Method::POST).count(), 2, "begun and completed: {seen:?}");
    assert_eq!(seen.len(), 5);

    assert_eq!(pull(&*store, &small.digest, ByteRange::All).await.unwrap(), noise(5 * MIB, 2));
    assert_eq!(pull(&*store, &large.digest, ByteRange::All).await.unwrap(), noise(17 * MIB, 3));
    let part = pull(&*store, &large.digest, ByteRange::Inclusive(8_388_000, 8_389_000)).await;
    assert_eq!(part.unwrap(), noise(17 * MIB, 3).slice(8_388_000..=8_389_000));
    assert_eq!((s3.objects().len(), s3.uploads()), (2, (0, 0)));
    assert!(engine.objects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_after_a_restart() {
    for at in OFFSETS {
        let s3 = S3::start().await;
        let mut engine = TestEngine::with(s3.options()).await;
        let bytes = noise(15 * MIB, at as u64);
        let mut end = at;
        let mut id = None;
        // By chunks that leave something aside, and by one that does not.
        for next in [at, at + 300_000, at + 300_000 + 5 * MIB] {
            let store = engine.repository("a/b").await;
            let mut staged = match &id {
                None => store.stage(sha256()).await.unwrap(),
                Some(id) => store.resume(id).await.unwrap(),
            };
            if id.is_some() {
                assert_eq!(staged.offset(), end as u64);
                staged.append(bytes.slice(end..next)).await.unwrap();
            } else {
                staged.append(bytes.slice(..next)).await.unwrap();
            }
            end = next;
            id = Some(staged.suspend().await.unwrap());
            let id = id.as_ref().unwrap();
            assert_eq!(store.upload_offset(id).await.unwrap(), end as u64);
            assert!(s3.objects().is_empty(), "something can be seen of an upload");
            drop(store);
            engine = engine.reopen().await;
        }
        let store = engine.repository("a/b").await;
        let mut staged = store.resume(&id.unwrap()).await.unwrap();
        staged.append(bytes.slice(end..)).await.unwrap();
        let digest = describe(&bytes).digest;
        staged.commit(&digest).await.unwrap();
        assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes, "at {at}");
        assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)), "at {at}");
    }
}

pub(crate) async fn suspended(store: &dyn Store, bytes: Bytes) -> UploadId {
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes).await.unwrap();
    staged.suspend().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_are_given_up_leave_nothing() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.session_idle = Duration::from_secs(3600);
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    for length in [1000, 700_000, 6 * MIB, 20 * MIB] {
        // Cancelled at once, or after it was suspended.
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(length, 1)).await.unwrap();
        staged.cancel().await.unwrap();
        let id = suspended(&*store, noise(length, 2)).await;
        let mut staged = store.resume(&id).await.unwrap();
        staged.append(noise(length, 3)).await.unwrap();
        staged.cancel().await.unwrap();
        assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
        // Of another digest than it was said to have.
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(length, 4)).await.unwrap();
        let result = staged.commit(&describe(b"something else").digest).await;
        assert_code(result, ErrorCode::DigestInvalid);
        assert_eq!((s3.objects().len(), s3.uploads()), (0, (0, 0)), "{length} bytes");
    }
    // Never gone on with.
    suspended(&*store, noise(9 * MIB, 5)).await;
    assert_eq!(s3.uploads().0, 1);
    drop(store);
    let engine = engine.tamper("UPDATE session SET touched = 0 WHERE touched IS NOT NULL").await;
    engine.registry.sweep().await.unwrap();
    assert_eq!((s3.objects().len(), s3.uploads()), (0, (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_an_upload_leaves_nothing() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    let kept = push(&*store, &noise(100_000, 7)).await;
    let going_on = suspended(&*store, noise(6 * MIB, 8)).await;
    s3.forget();
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(noise(17 * MIB, 1)).await.unwrap();
    // The beginning and two parts. What is still being sent when a process ends would end with it.
    s3.ended(3).await;
    assert_eq!(s3.uploads(), (2, 3));
    let crashed = engine.crashed().await;
    assert_eq!((s3.objects().len(), s3.uploads()), (1, (1, 1)));
    let other = crashed.repository("a/b").await;
    assert_eq!(pull(&*other, &kept.digest, ByteRange::All).await.unwrap(), noise(100_000, 7));
    let mut resumed = other.resume(&going_on).await.unwrap();
    resumed.append("x".into()).await.unwrap();
    resumed.commit(&describe(&[&noise(6 * MIB, 8)[..], b"x"].concat()).digest).await.unwrap();
    assert_eq!((s3.objects().len(), s3.uploads()), (2, (0, 0)));
    staged.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_stored_once() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let pushes = (0..6).map(|n| {
        let engine = &engine;
        async move {
            let store = engine.repository(&format!("r{n}")).await;
            push(&*store, &noise(6 * MIB, 1)).await;
        }
    });
    futures_util::future::join_all(pushes).await;
    assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)));
}

/// The saved state of a hash can be of a format that this program does not know. The bytes cannot be read before the upload is
/// whole.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_hash_state_is_hashed_again() {
    for right in [true, false] {
        let s3 = S3::start().await;
        let engine = TestEngine::with(s3.options()).await;
        let bytes = noise(9 * MIB, 1);
        let id = suspended(&*engine.repository("a/b").await, bytes.slice(..6 * MIB)).await;
        let engine = engine.tamper("UPDATE session SET hash_state = x'ff01'").await;
        let store = engine.repository("a/b").await;
        let mut staged = store.resume(&id).await.unwrap();
        staged.append(bytes.slice(6 * MIB..)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let staged = store.resume(&id).await.unwrap();
        if right {
            staged.commit(&describe(&bytes).digest).await.unwrap();
        } else {
            let result = staged.commit(&describe(b"something else").digest).await;
            assert_code(result, ErrorCode::DigestInvalid);
        }
        assert_eq!((s3.objects().len(), s3.uploads()), (usize::from(right), (0, 0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_of_blobs() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.redirect_reads = true;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.capabilities().min_chunk, Some(5 << 20));
    let small = push(&*store, &noise(1000, 1)).await;
    let large = push(&*store, &noise(100_000, 2)).await;
    let url = store.blob_url(&large.digest).await.unwrap().unwrap();
    assert!(url.starts_with(&format!("{}/bucket/some/prefix/objects/", s3.endpoint)), "{url}");
    assert!(url.contains("X-Amz-Signature=") && url.contains("X-Amz-Expires=1200"), "{url}");
    assert!(!url.contains(SECRET), "{url}");
    assert_eq!(store.blob_url(&small.digest).await.unwrap(), None);
    // What another repository has is not here.
    let other = engine.repository("c/d").await;
    assert_eq!(other.blob_url(&large.digest).await.unwrap(), None);
    drop((store, other));

    // Neither without being asked for, nor where there are no URLs.
    for storage in [s3.storage(), Storage::default(), "memory:".parse().unwrap()] {
        let mut options = EngineOptions::default();
        options.redirect_reads = storage.to_string() != s3.storage().to_string();
        options.storage = storage;
        let engine = TestEngine::with(options).await;
        let store = engine.repository("a/b").await;
        let large = push(&*store, &noise(100_000, 2)).await;
        assert_eq!(store.blob_url(&large.digest).await.unwrap(), None);
    }
}

/// Nothing is hashed that was not asked for, so content of another algorithm is read once it is whole.
#[tokio::test(flavor = "multi_thread")]
async fn another_algorithm_than_was_begun_with() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    let bytes = noise(9 * MIB, 1);
    let mut staged = store.stage(Algorithm::Sha256).await.unwrap();
    staged.append(bytes.clone()).await.unwrap();
    let digest = Algorithm::Sha512.digest(&bytes);
    staged.commit(&digest).await.unwrap();
    assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes);
}

/// Where no time is left to those who read, a blob can go between being looked up and being read.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_goes_before_it_can_be_read() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.longest_read = Duration::ZERO;
    let engine = TestEngine::with(options).await;
    for comes_back in [false, true] {
        let store = engine.repository("a/b").await;
        let bytes = noise(100_000, 1);
        let blob = push(&*store, &bytes).await;
        let registry = engine.registry.clone();
        let runtime = tokio::runtime::Handle::current();
        let (deleting, digest) = (store.clone(), blob.digest.clone());
        s3.fail(move |n, _| {
            let work = async {
                deleting.delete_blob(&digest).await.unwrap();
                registry.collect(&Default::default(), |_| {}).await.unwrap();
                if comes_back {
                    push(&*deleting, &noise(100_000, 1)).await;
                }
            };
            if n == 0 {
                tokio::task::block_in_place(|| runtime.block_on(work));
            }
            None
        });
        let read = store.blob(&blob.digest, ByteRange::All).await.map(|read| read.size);
        s3.heal();
        match comes_back {
            false => assert_code(read, ErrorCode::BlobUnknown),
            true => assert_kind(read, ErrorKind::Unavailable),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_bytes_are_an_error_and_never_a_short_blob() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(900_000, 1)).await;
    let file = s3.objects().pop().unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(500_000).unwrap();
    assert_kind(pull(&*store, &blob.digest, ByteRange::All).await, ErrorKind::Internal);
    let part = pull(&*store, &blob.digest, ByteRange::Inclusive(0, 9)).await.unwrap();
    assert_eq!(part, noise(10, 1));
    std::fs::remove_file(&file).unwrap();
    assert_kind(pull(&*store, &blob.digest, ByteRange::All).await, ErrorKind::Internal);
}

/// What a client does: a small blob, and a large one whose upload rests three times; then it reads both.
pub(crate) async fn work(store: &dyn Store, [small, large]: &[Bytes; 2]) -> Result<(), Error> {
    store.put_blob(&describe(small), small).await?;
    let mut staged = store.stage(sha256()).await?;
    staged.append(large.slice(..5 * MIB)).await?;
    for (from, to) in [(5 * MIB, 5 * MIB + 1000), (5 * MIB + 1000, 5 * MIB + 1000)] {
        let id = staged.suspend().await?;
        staged = store.resume(&id).await?;
        staged.append(large.slice(from..to)).await?;
    }
    staged.append(large.slice(5 * MIB + 1000..)).await?;
    staged.commit(&describe(large).digest).await?;
    for bytes in [small, large] {
        assert_eq!(pull(store, &describe(bytes).digest, ByteRange::All).await?, bytes);
    }
    Ok(())
}

pub(crate) fn contents() -> [Bytes; 2] {
    [noise(100_000, 1), noise(6 * MIB, 2)]
}

/// Each request to the bucket fails once, in each way: the work fails in a way that one can act on, what can be seen is
/// whole, the same work can be done again, and nothing is left over.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_to_the_bucket_can_fail() {
    let contents = contents();
    for fault in [Fault::Status(500), Fault::Dropped, Fault::Unanswered] {
        for at in 0.. {
            let s3 = S3::start().await;
            let mut options = s3.options();
            options.storage = options.storage.retries(0);
            let engine = TestEngine::with(options).await;
            let store = engine.repository("a/b").await;
            s3.fail(move |n, _| (n == at).then_some(fault));
            let result = work(&*store, &contents).await;
            let failed = s3.seen().get(at).cloned();
            s3.heal();
            let case = format!("{fault:?} of request {at}, {failed:?}");
            let Some(failed) = failed else {
                result.unwrap();
                assert!(at >= 6, "the work took {at} requests only");
                break;
            };
            if let Err(error) = result {
                assert_eq!(*error.kind(), ErrorKind::Unavailable, "{case}: {error:?}");
            }
            for bytes in &contents {
                let descriptor = describe(bytes);
                if store.blob_size(&descriptor.digest).await.unwrap().is_some() {
                    let found = pull(&*store, &descriptor.digest, ByteRange::All).await;
                    assert_eq!(found.unwrap(), bytes, "{case}");
                }
            }
            work(&*store, &contents).await.unwrap();
            drop(store);
            let engine = engine.reopen().await;
            let engine = engine.expire().await;
            engine.registry.sweep().await.unwrap();
            engine.collect().await;
            let (uploads, parts) = s3.uploads();
            // Of an upload whose beginning was not answered, nobody knows the name. It holds no bytes.
            let unknown = usize::from(fault == Fault::Unanswered && failed.query == "uploads=");
            assert_eq!((s3.objects().len(), uploads, parts), (2, unknown, 0), "{case}");
        }
    }
}

/// The same with requests that are repeated, as they are unless it is said: nobody sees it.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_repeated() {
    let contents = contents();
    for fault in [Fault::Status(503), Fault::Unanswered] {
        let s3 = S3::start().await;
        let engine = TestEngine::with(s3.options()).await;
        let store = engine.repository("a/b").await;
        s3.fail(move |n, _| (n % 3 == 0).then_some(fault));
        work(&*store, &contents).await.unwrap();
        s3.heal();
        assert_eq!((s3.objects().len(), s3.uploads().1), (2, 0), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_and_comes_back() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.storage = options.storage.retries(0);
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let small = push(&*store, &noise(1000, 1)).await;
    let large = push(&*store, &noise(100_000, 2)).await;
    let id = suspended(&*store, noise(6 * MIB, 3)).await;
    let elsewhere = s3.bucket().with_file_name("elsewhere");
    std::fs::rename(s3.bucket(), &elsewhere).unwrap();

    let bytes = noise(100_000, 4);
    assert_kind(store.put_blob(&describe(&bytes), &bytes).await, ErrorKind::Unavailable);
    assert_kind(pull(&*store, &large.digest, ByteRange::All).await, ErrorKind::Unavailable);
    assert_eq!(pull(&*store, &small.digest, ByteRange::All).await.unwrap(), noise(1000, 1));
    assert_eq!(store.blob_size(&large.digest).await.unwrap(), Some(100_000));

    std::fs::rename(&elsewhere, s3.bucket()).unwrap();
    push(&*store, &bytes).await;
    assert_eq!(pull(&*store, &large.digest, ByteRange::All).await.unwrap(), noise(100_000, 2));
    let staged = store.resume(&id).await.unwrap();
    staged.commit(&describe(&noise(6 * MIB, 3)).digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_full() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.storage = options.storage.retries(0);
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let kept = push(&*store, &noise(100_000, 1)).await;
    for length in [100_000, 17 * MIB] {
        s3.fail(|_, seen| (seen.method == Method::PUT).then_some(Fault::Status(507)));
        let bytes = noise(length, 2);
        assert_kind(store.put_blob(&describe(&bytes), &bytes).await, ErrorKind::StorageFull);
        assert_eq!(pull(&*store, &kept.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
        s3.heal();
        assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)));
    }
    push(&*store, &noise(100_000, 2)).await;
}

/// The error of opening an engine whose directory must not have come to be.
pub(crate) async fn refusal(storage: Storage) -> (ErrorKind, String) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut options = EngineOptions::default();
    options.storage = storage.retries(0);
    let error = error_of(DurableRegistry::open(&data, options).await);
    assert!(!data.exists());
    let message = error.chain();
    assert!(!message.contains(SECRET) && !message.contains(crate::azurite::KEY), "{message}");
    (error.kind().clone(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_that_cannot_be_used() {
    let s3 = S3::start().await;
    let (kind, message) = refusal(s3.named("s3://missing/p")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("s3://missing/p") && message.contains("no such bucket"), "{message}");

    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "nobody")] {
        let (kind, message) = refusal(s3.storage().set(name, value)).await;
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("credentials"), "{message}");
    }

    s3.fail(|_, seen| (seen.method == Method::PUT).then_some(Fault::Status(403)));
    let (kind, message) = refusal(s3.storage()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("cannot write to it"), "{message}");
    s3.fail(|_, seen| (seen.method == Method::GET).then_some(Fault::Status(403)));
    let (_, message) = refusal(s3.storage()).await;
    assert!(message.contains("cannot read from it"), "{message}");
    s3.heal();
    assert!(s3.objects().is_empty());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (kind, message) =
        refusal(s3.storage().set("AWS_ENDPOINT", format!("http://{nobody}"))).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{message}");

    let (kind, message) = refusal(s3.storage().set("AWS_SPEED", "fast")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("aws_speed"), "{message}");
    let (kind, _) = refusal(s3.storage().set("AWS_ALLOW_HTTP", "perhaps")).await;
    assert_eq!(kind, ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    let mut options = EngineOptions::default();
    options.storage = "memory:".parse().unwrap();
    let engine = TestEngine::with(options).await;
    work(&*engine.repository("a/b").await, &contents()).await.unwrap();
    assert!(engine.objects().is_empty());
}

/// Uploads wait for each other where there is little memory, and all come through.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_share_memory() {
    let s3 = S3::start().await;
    let mut options = s3.options();
    options.upload_memory = 0;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let mut uploads = Vec::new();
    // There is memory for four parts.
    for n in 0..4 {
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(MIB, n)).await.unwrap();
        uploads.push(staged);
    }
    let pushes = (10..16).map(|n| {
        let store = &store;
        async move {
            let bytes = noise(10 * MIB, n);
            store.put_blob(&describe(&bytes), &bytes).await
        }
    });
    let freed = async {
        for (n, staged) in uploads.into_iter().enumerate() {
            staged.commit(&describe(&noise(MIB, n as u64)).digest).await.unwrap();
        }
    };
    let (results, ()) = tokio::join!(futures_util::future::join_all(pushes), freed);
    for result in results {
        result.unwrap();
    }
    assert_eq!((s3.objects().len(), s3.uploads()), (10, (0, 0)));
}

/// In another storage than its own, a registry would find all its content lost, and a check would mend that.
#[tokio::test(flavor = "multi_thread")]
async fn another_storage_is_refused() {
    let s3 = S3::start().await;
    let engine = TestEngine::with(s3.options()).await;
    let blob = push(&*engine.repository("a/b").await, &noise(100_000, 1)).await;
    let mut options = engine.options.clone();
    let directory = engine.close().await;
    options.storage = "file:".parse().unwrap();
    let error = error_of(DurableRegistry::open(directory.path(), options.clone()).await);
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("s3://bucket/some/prefix, not in file:"), "{error}");

    // It says so when it has been moved, and is remembered there.
    options.storage = s3.named("s3://bucket/moved");
    std::fs::rename(s3.bucket().join("some/prefix"), s3.bucket().join("moved")).unwrap();
    options.storage_moved = true;
    let open = || DurableRegistry::open(directory.path(), options.clone());
    open().await.unwrap().close().await;
    options.storage_moved = false;
    let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    let store = registry.repository(&name("a/b"), Access::Read).await.unwrap();
    assert_eq!(pull(&*store, &blob.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
}

/// Without the right to sign, each read of a large blob would fail, and nobody would know before.
#[tokio::test(flavor = "multi_thread")]
async fn reads_are_redirected_only_if_urls_can_be_signed() {
    let storage: Storage = "az://images".parse().unwrap();
    // Allows requests, but has no key.
    let storage = storage
        .set("AZURE_STORAGE_ACCOUNT_NAME", "account")
        .set("AZURE_STORAGE_SAS_TOKEN", format!("sv=2024-11-04&sig={SECRET}"))
        .set("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9")
        .set("AZURE_ALLOW_HTTP", "true")
        .retries(0);
    let mut options = EngineOptions::default();
    options.storage = storage;
    options.redirect_reads = true;
    let directory = tempfile::tempdir().unwrap();
    let refused =
        DurableRegistry::open(directory.path().join("data"), options).await.err().unwrap();
    let told = format!("{refused:?} {refused}");
    assert!(told.contains("cannot sign URLs for redirected reads"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
}
