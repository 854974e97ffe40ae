//! Content in a bucket of Google Cloud Storage. Its XML interface, by which the bytes move, is that of S3 but for who may use it, so
//! that a server that speaks S3 and asks nobody stands in for it.

use oci_ref::{ByteRange, ErrorKind, Store};
use oci_registry_store::Storage;

use crate::clouds::{MIB, OFFSETS, contents, refusal, suspended, work};
use crate::clouds_over::forget_an_upload;
use crate::s3::{Fault, S3, SECRET};
use crate::support::*;

/// An account that asks nobody for a token.
const ACCOUNT: &str =
    r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;

fn storage(s3: &S3) -> Storage {
    named(s3, "gs://bucket/some/prefix")
}

fn named(s3: &S3, url: &str) -> Storage {
    url.parse::<Storage>()
        .unwrap()
        .set("GOOGLE_BASE_URL", &s3.endpoint)
        .set("GOOGLE_ALLOW_HTTP", "true")
        .set("GOOGLE_SERVICE_ACCOUNT_KEY", ACCOUNT)
}

async fn engine(s3: &S3) -> TestEngine {
    let mut options = s3.options();
    options.storage = storage(s3);
    TestEngine::with(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn google_takes_and_gives_content_of_any_size() {
    let s3 = S3::without_credentials().await;
    let engine = engine(&s3).await;
    let store = engine.repository("a/b").await;
    for length in [0, 1000, 100_000, 8 * MIB, 17 * MIB] {
        let bytes = noise(length, length as u64);
        let blob = push(&*store, &bytes).await;
        assert!(pull(&*store, &blob.digest, ByteRange::All).await.unwrap() == bytes, "{length}");
        if length > 0 {
            let last = pull(&*store, &blob.digest, ByteRange::Last(10)).await.unwrap();
            assert_eq!(last, bytes.slice(length - 10..));
        }
    }
    assert_eq!((s3.objects().len(), s3.uploads()), (3, (0, 0)));
    engine.assert_sound().await;
    work(&*store, &contents()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn google_uploads_rest_and_go_on_or_are_given_up() {
    for at in OFFSETS {
        let s3 = S3::without_credentials().await;
        let engine = engine(&s3).await;
        let store = engine.repository("a/b").await;
        let bytes = noise(15 * MIB, at as u64);
        let given_up = suspended(&*store, bytes.slice(..at)).await;
        let id = suspended(&*store, bytes.slice(..at)).await;
        drop(store);
        let engine = engine.reopen().await;
        let store = engine.repository("a/b").await;
        store.resume(&given_up).await.unwrap().cancel().await.unwrap();
        let mut staged = store.resume(&id).await.unwrap();
        staged.append(bytes.slice(at..)).await.unwrap();
        let digest = describe(&bytes).digest;
        staged.commit(&digest).await.unwrap();
        assert!(pull(&*store, &digest, ByteRange::All).await.unwrap() == bytes, "at {at}");
        assert_eq!((s3.objects().len(), s3.uploads()), (1, (0, 0)), "at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn google_forgets_an_upload() {
    let s3 = S3::without_credentials().await;
    let engine = engine(&s3).await;
    let store = engine.repository("a/b").await;
    forget_an_upload(&s3, &*store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_buckets_that_cannot_be_used() {
    let s3 = S3::without_credentials().await;
    let (kind, message) = refusal(named(&s3, "gs://missing/p")).await;
    assert_eq!(kind, ErrorKind::Invalid, "{message}");
    assert!(message.contains("gs://missing/p") && message.contains("no such bucket"), "{message}");
    for status in [401, 403] {
        s3.fail(move |_, _| Some(Fault::Status(status)));
        let (kind, message) = refusal(storage(&s3)).await;
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("credentials"), "{message}");
    }
    s3.fail(|_, _| Some(Fault::Status(503)));
    let (kind, message) = refusal(storage(&s3)).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{message}");
    s3.heal();

    let key = format!(
        r#"{{"type": "service_account", "private_key": "{SECRET}", "private_key_id": "1", "client_email": "a@b"}}"#
    );
    let with = |name: &str, value: &str| {
        let storage = "gs://bucket".parse::<Storage>().unwrap();
        storage.set("GOOGLE_BASE_URL", &s3.endpoint).set(name, value)
    };
    for (name, value) in [
        ("GOOGLE_SERVICE_ACCOUNT", "/nowhere/account.json"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", &key[..key.len() - 1]),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", &key),
    ] {
        let (kind, message) = refusal(with(name, value)).await;
        assert_eq!(kind, ErrorKind::Invalid, "{message}");
        assert!(message.contains("settings in the environment"), "{message}");
    }
    assert!(s3.objects().is_empty());
}
