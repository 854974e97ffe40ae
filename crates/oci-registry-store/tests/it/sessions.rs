//! Uploads that rest and go on.

use std::time::Duration;

use oci_ref::{ByteRange, ErrorKind, Staged, Store, UploadId};
use oci_registry_store::EngineOptions;
use oci_spec_types::{Algorithm, Digest, ErrorCode};

use crate::support::*;

/// Offsets at which uploads rest: nothing, in the database, in an object.
const OFFSETS: [usize; 5] = [0, 1000, 32 << 10, 40_000, 700_000];

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_after_a_restart() {
    for at in OFFSETS {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut engine = TestEngine::new().await;
            let bytes = noise(1_500_000, at as u64);
            let store = engine.repository("a/b").await;
            let mut staged = store.stage(algorithm).await.unwrap();
            staged.append(bytes.slice(..at)).await.unwrap();
            let id = staged.suspend().await.unwrap();
            assert!(
                id.0.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)),
                "{}",
                id.0
            );

            drop(store);
            engine = engine.reopen().await;
            let store = engine.repository("a/b").await;
            assert_eq!(store.upload_offset(&id).await.unwrap(), at as u64);
            let mut staged = store.resume(&id).await.unwrap();
            assert_eq!(staged.offset(), at as u64);
            staged.append(bytes.slice(at..at + 300_000)).await.unwrap();
            let id = staged.suspend().await.unwrap();

            drop(store);
            engine = engine.reopen().await;
            let store = engine.repository("a/b").await;
            let mut staged = store.resume(&id).await.unwrap();
            assert_eq!(staged.offset(), at as u64 + 300_000);
            staged.append(bytes.slice(at + 300_000..)).await.unwrap();
            let digest = algorithm.digest(&bytes);
            staged.commit(&digest).await.unwrap();
            assert_eq!(pull(&*store, &digest, ByteRange::All).await.unwrap(), bytes);
            assert_eq!(engine.objects().len(), 1);
            assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
            assert_code(store.upload_offset(&id).await, ErrorCode::BlobUploadUnknown);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beginning_an_upload_writes_nothing() {
    let engine = TestEngine::new().await;
    if engine.options.database.is_shared() {
        // There is no such file.
        return;
    }
    let store = engine.repository("a/b").await;
    let log = engine.directory.path().join("metadata.sqlite-wal");
    let before = std::fs::read(&log).unwrap();
    let id = store.stage(sha256()).await.unwrap().suspend().await.unwrap();
    let id = store.resume(&id).await.unwrap().suspend().await.unwrap();
    assert_eq!(store.upload_offset(&id).await.unwrap(), 0);
    assert!(std::fs::read(&log).unwrap() == before, "the write-ahead log has changed");
    let mut staged = store.resume(&id).await.unwrap();
    staged.append("x".into()).await.unwrap();
    staged.suspend().await.unwrap();
    assert!(std::fs::read(&log).unwrap() != before);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_one_wins() {
    for at in OFFSETS {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let bytes = noise(800_000, 1);
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();

        let (one, two) = tokio::join!(store.resume(&id), store.resume(&id));
        let (mut winner, loser) = match (one, two) {
            (Ok(winner), loser) | (loser, Ok(winner)) => (winner, loser),
            _ => panic!("nobody won"),
        };
        assert_kind(loser, ErrorKind::RangeInvalid { size: at as u64 });
        winner.append(bytes.slice(at..)).await.unwrap();
        assert_kind(store.resume(&id).await, ErrorKind::RangeInvalid { size: at as u64 });
        assert_eq!(store.upload_offset(&id).await.unwrap(), at as u64);
        winner.commit(&describe(&bytes).digest).await.unwrap();
        assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
        assert_eq!(pull(&*store, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
    }
}

/// Resumes as soon as the one before has let go.
pub(crate) async fn resume(store: &dyn Store, id: &UploadId) -> Box<dyn Staged> {
    for _ in 0..2000 {
        match store.resume(id).await {
            Ok(staged) => return staged,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::RangeInvalid { .. }), "{error:?}")
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("upload {} stays claimed", id.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_leaves_the_session_where_it_was() {
    for at in OFFSETS {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let bytes = noise(1_500_000, 1);
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();

        let mut staged = store.resume(&id).await.unwrap();
        staged.append(noise(600_000, 99)).await.unwrap();
        drop(staged);

        let mut staged = resume(&*store, &id).await;
        assert_eq!(staged.offset(), at as u64);
        staged.append(bytes.slice(at..)).await.unwrap();
        staged.commit(&describe(&bytes).digest).await.unwrap();
        assert_eq!(pull(&*store, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
        drop(store);
        assert_eq!(objects_in(engine.close().await.path()).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_for_one_repository() {
    let engine = TestEngine::new().await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    for at in [0, 1000] {
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(noise(at, 1)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        assert_code(two.resume(&id).await, ErrorCode::BlobUploadUnknown);
        assert_code(two.upload_offset(&id).await, ErrorCode::BlobUploadUnknown);
    }
    for bad in ["", "..", "../../etc/passwd", "0", &"x".repeat(100_000)] {
        assert_code(one.resume(&UploadId(bad.to_owned())).await, ErrorCode::BlobUploadUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_is_gone_for_good() {
    for at in OFFSETS {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(at, 1)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        store.resume(&id).await.unwrap().cancel().await.unwrap();
        assert_eq!(engine.objects().len(), 0);
        assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
        drop(store);
        let engine = engine.reopen().await;
        let store = engine.repository("a/b").await;
        assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_ends_the_session() {
    for at in OFFSETS {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(at, 1)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let staged = store.resume(&id).await.unwrap();
        let digest = describe(b"something else").digest;
        assert_code(staged.commit(&digest).await, ErrorCode::DigestInvalid);
        assert_eq!(engine.objects().len(), 0);
        assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let mut ids = Vec::new();
    for at in OFFSETS {
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(at, at as u64)).await.unwrap();
        ids.push(staged.suspend().await.unwrap());
    }
    engine.registry.sweep().await.unwrap();
    for (at, id) in OFFSETS.iter().zip(&ids) {
        assert_eq!(store.upload_offset(id).await.unwrap(), *at as u64);
    }
    assert_eq!(engine.objects().len(), 2);

    drop(store);
    let engine = engine.tamper("UPDATE session SET touched = touched - 3000").await;
    let store = engine.repository("a/b").await;
    assert_eq!(store.upload_offset(&ids[4]).await.unwrap(), 700_000);
    drop(store);
    // Opening it again removes what has expired.
    let engine = engine.tamper("UPDATE session SET touched = touched - 3000").await;
    assert_eq!(engine.objects().len(), 0);
    let store = engine.repository("a/b").await;
    for id in &ids[1..] {
        assert_code(store.resume(id).await, ErrorCode::BlobUploadUnknown);
        assert_code(store.upload_offset(id).await, ErrorCode::BlobUploadUnknown);
    }
    assert_eq!(store.upload_offset(&ids[0]).await.unwrap(), 0);
}

/// What expires is removed by a sweep, but not while somebody writes to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_spares_what_is_being_written() {
    let mut options = EngineOptions::default();
    options.session_idle = Duration::from_secs(1000);
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let mut ids = Vec::new();
    for seed in 0..2 {
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(700_000, seed)).await.unwrap();
        ids.push(staged.suspend().await.unwrap());
    }
    let busy = store.resume(&ids[0]).await.unwrap();
    let (data, database) = (engine.directory.path(), &engine.options.database);
    change(data, database, "UPDATE session SET touched = touched - 2000").await;
    engine.registry.sweep().await.unwrap();
    assert_eq!(engine.objects().len(), 1);
    assert_code(store.resume(&ids[1]).await, ErrorCode::BlobUploadUnknown);
    busy.commit(&describe(&noise(700_000, 0)).digest).await.unwrap();
    engine.registry.sweep().await.unwrap();
    assert_eq!(engine.objects().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_hash_state_is_hashed_again() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let bytes = noise(700_000, 1);
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes.slice(..500_000)).await.unwrap();
    let id = staged.suspend().await.unwrap();
    drop(store);
    let engine = engine.tamper("UPDATE session SET hash_state = x'ff00'").await;
    let store = engine.repository("a/b").await;
    let mut staged = store.resume(&id).await.unwrap();
    staged.append(bytes.slice(500_000..)).await.unwrap();
    staged.commit(&describe(&bytes).digest).await.unwrap();
    assert_eq!(pull(&*store, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
}

// jib#4301: who has not heard that an upload was committed asks again, of another server or one
// that was started since, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_an_upload_is_remembered() {
    let mut engine = TestEngine::new().await;
    let mut committed = Vec::new();
    for length in [10, 100_000] {
        let (store, other) = (engine.repository("a/b").await, engine.repository("c").await);
        let bytes = noise(length, 1);
        let digest = Digest::sha256(&bytes);
        let id = store.stage(Algorithm::Sha256).await.unwrap().suspend().await.unwrap();
        assert_eq!(store.committed_upload(&id).await.unwrap(), None);
        let mut staged = store.resume(&id).await.unwrap();
        staged.append(bytes).await.unwrap();
        staged.commit(&digest).await.unwrap();
        assert_eq!(store.committed_upload(&id).await.unwrap(), Some(digest.clone()));
        assert_code(other.committed_upload(&id).await, ErrorCode::BlobUploadUnknown);
        committed.push((id, digest));
    }
    let cancelled = {
        let store = engine.repository("a/b").await;
        let id = store.stage(Algorithm::Sha256).await.unwrap().suspend().await.unwrap();
        store.resume(&id).await.unwrap().cancel().await.unwrap();
        id
    };
    engine = engine.reopen().await;
    let store = engine.repository("a/b").await;
    for (id, digest) in committed {
        assert_eq!(store.committed_upload(&id).await.unwrap(), Some(digest));
    }
    assert_eq!(store.committed_upload(&cancelled).await.unwrap(), None);
}
