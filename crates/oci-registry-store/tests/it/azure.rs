//! Content in a container of Azure Blob Storage, as Azurite has it.

use std::time::Duration;

use oci_ref::{ByteRange, ErrorKind};
use oci_registry_store::EngineOptions;
use oci_spec_types::ErrorCode;

use crate::azurite::{Azurite, KEY};
use crate::clouds::{MIB, OFFSETS, contents, refusal, suspended, work};
use crate::support::*;

async fn engine(test: &str) -> Option<(Azurite, TestEngine)> {
    engine_with(test, |_| {}).await
}

async fn engine_with(
    test: &str,
    set: impl Fn(&mut EngineOptions),
) -> Option<(Azurite, TestEngine)> {
    let azurite = Azurite::start(test)?;
    let mut options = azurite.options();
    set(&mut options);
    let engine = TestEngine::with(options).await;
    Some((azurite, engine))
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_takes_and_gives_content_of_any_size() {
    let Some((azurite, engine)) = engine("azure_takes_and_gives_content_of_any_size").await else {
        return;
    };
    let store = engine.repository("a/b").await;
    for length in [0, 1000, 100_000, 8 * MIB, 17 * MIB] {
        let bytes = noise(length, length as u64);
        let blob = push(&*store, &bytes).await;
        assert!(pull(&*store, &blob.digest, ByteRange::All).await.unwrap() == bytes, "{length}");
    }
    assert_eq!(azurite.blobs(), (3, 0));
    let large = describe(&noise(17 * MIB, 17 * MIB as u64)).digest;
    let (from, to) = (8 * MIB - 300, 8 * MIB + 300);
    let part = pull(&*store, &large, ByteRange::Inclusive(from as u64, to as u64)).await.unwrap();
    assert_eq!(part, noise(17 * MIB, 17 * MIB as u64).slice(from..=to));
    let last = pull(&*store, &large, ByteRange::Last(10)).await.unwrap();
    assert_eq!(last, noise(17 * MIB, 17 * MIB as u64).slice(17 * MIB - 10..));
    engine.assert_sound().await;
    work(&*store, &contents()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_uploads_go_on_after_a_restart() {
    for at in OFFSETS {
        let Some((azurite, mut test)) = engine("azure_uploads_go_on_after_a_restart").await else {
            return;
        };
        let bytes = noise(15 * MIB, at as u64);
        let (mut id, mut end) = (None, 0);
        for next in [at, at + 300_000, at + 300_000 + 5 * MIB] {
            let store = test.repository("a/b").await;
            let mut staged = match &id {
                None => store.stage(sha256()).await.unwrap(),
                Some(id) => store.resume(id).await.unwrap(),
            };
            staged.append(bytes.slice(end..next)).await.unwrap();
            (id, end) = (Some(staged.suspend().await.unwrap()), next);
            assert_eq!(azurite.blobs().0, 0, "something can be seen of an upload");
            drop(store);
            test = test.reopen().await;
        }
        let store = test.repository("a/b").await;
        let mut staged = store.resume(&id.unwrap()).await.unwrap();
        assert_eq!(staged.offset(), end as u64);
        staged.append(bytes.slice(end..)).await.unwrap();
        let digest = describe(&bytes).digest;
        staged.commit(&digest).await.unwrap();
        assert!(pull(&*store, &digest, ByteRange::All).await.unwrap() == bytes, "at {at}");
        assert_eq!(azurite.blobs(), (1, 0), "at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_uploads_that_are_given_up_leave_nothing() {
    let Some((azurite, engine)) = engine("azure_uploads_that_are_given_up_leave_nothing").await
    else {
        return;
    };
    let store = engine.repository("a/b").await;
    for length in [100_000, 6 * MIB, 20 * MIB] {
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(length, 1)).await.unwrap();
        staged.cancel().await.unwrap();
        let id = suspended(&*store, noise(length, 2)).await;
        store.resume(&id).await.unwrap().cancel().await.unwrap();
        let mut staged = store.stage(sha256()).await.unwrap();
        staged.append(noise(length, 4)).await.unwrap();
        let result = staged.commit(&describe(b"something else").digest).await;
        assert_code(result, ErrorCode::DigestInvalid);
        // Azure has no way to abort an upload: its blocks would stay for a week.
        assert_eq!(azurite.blobs(), (0, 0), "{length} bytes");
    }
    suspended(&*store, noise(9 * MIB, 5)).await;
    assert_eq!(azurite.blobs(), (0, 1));
    drop(store);
    let engine = engine.expire().await;
    engine.registry.sweep().await.unwrap();
    assert_eq!(azurite.blobs(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_blobs_that_are_deleted_or_lost() {
    let none = |options: &mut EngineOptions| options.longest_read = Duration::ZERO;
    let Some((azurite, engine)) = engine_with("azure_blobs_that_are_deleted_or_lost", none).await
    else {
        return;
    };
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(100_000, 1)).await;
    let large = push(&*store, &noise(9 * MIB, 2)).await;
    store.delete_blob(&blob.digest).await.unwrap();
    store.delete_blob(&large.digest).await.unwrap();
    assert_eq!(azurite.blobs(), (2, 0));
    assert_eq!(engine.collect().await.objects, 2);
    assert_eq!(azurite.blobs(), (0, 0));

    // One that is gone already is no error.
    let (lost, gone) =
        (push(&*store, &noise(100_000, 3)).await, push(&*store, &noise(100_000, 4)).await);
    azurite.clear();
    store.delete_blob(&gone.digest).await.unwrap();
    let report = engine.collect().await;
    assert_eq!((report.objects, report.failed), (1, 0));
    assert_kind(pull(&*store, &lost.digest, ByteRange::All).await, ErrorKind::Internal);
}

/// An upload whose blocks Azure has forgotten is begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn azure_forgets_an_upload() {
    let Some((azurite, engine)) = engine("azure_forgets_an_upload").await else { return };
    let store = engine.repository("a/b").await;
    let bytes = noise(6 * MIB, 1);
    let id = suspended(&*store, bytes.clone()).await;
    azurite.clear();
    let staged = store.resume(&id).await.unwrap();
    assert_code(staged.commit(&describe(&bytes).digest).await, ErrorCode::BlobUploadUnknown);
    assert_code(store.resume(&id).await, ErrorCode::BlobUploadUnknown);
    push(&*store, &bytes).await;
    assert_eq!(azurite.blobs(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_urls_of_blobs() {
    let redirects = |options: &mut EngineOptions| options.redirect_reads = true;
    let Some((azurite, engine)) = engine_with("azure_urls_of_blobs", redirects).await else {
        return;
    };
    let store = engine.repository("a/b").await;
    let blob = push(&*store, &noise(100_000, 1)).await;
    let url = store.blob_url(&blob.digest).await.unwrap().unwrap();
    let expected = format!("{}/{}/some/prefix/objects/", azurite.endpoint(), azurite.container);
    assert!(url.starts_with(&expected) && url.contains("sig=") && !url.contains(KEY), "{url}");
    let path = &url[url.find("/registry/").unwrap()..];
    let whole = azurite.send("GET", path, "", b"");
    assert!(whole.status == 200 && whole.body == noise(100_000, 1), "{}", whole.status);
    let part = azurite.send("GET", path, "Range: bytes=1000-1999\r\n", b"");
    assert!(part.status == 206 && part.body == noise(100_000, 1).slice(1000..2000));
    // For nothing else.
    assert_eq!(azurite.send("DELETE", path, "", b"").status, 403);
    assert_eq!(azurite.send("GET", path.split('?').next().unwrap(), "", b"").status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_containers_that_cannot_be_used() {
    let Some(azurite) = Azurite::start("azure_containers_that_cannot_be_used") else { return };
    let (kind, message) = refusal(azurite.named("az://missing/p")).await;
    assert_eq!(kind, ErrorKind::Invalid, "{message}");
    assert!(message.contains("az://missing/p") && message.contains("no such bucket"), "{message}");
    let wrong = "bm90IHRoZSBrZXkgb2YgdGhlIGFjY291bnQ=";
    for (name, value) in
        [("AZURE_STORAGE_ACCOUNT_KEY", wrong), ("AZURE_STORAGE_ACCOUNT_NAME", "nobody")]
    {
        let (kind, message) = refusal(azurite.storage().set(name, value)).await;
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("credentials") && !message.contains(value), "{message}");
    }
    let (kind, message) =
        refusal(azurite.storage().set("AZURE_STORAGE_ACCOUNT_KEY", "no base64")).await;
    assert_eq!(kind, ErrorKind::Invalid, "{message}");
    assert_eq!(azurite.blobs(), (0, 0));
}
