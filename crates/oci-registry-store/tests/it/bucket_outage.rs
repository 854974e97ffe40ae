//! What clients of a server see when its bucket fails.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use oci_ref::{ByteRange, ErrorKind};
use oci_registry_server::{ServerOptions, TestRegistry};

use crate::clouds::MIB;
use crate::http::{Answer, ask};
use crate::s3::{Fault, S3};
use crate::support::*;

/// A request that must be answered by asking to come back.
async fn told_to_come_back(host: &str, method: &str, path: &str, headers: &str, body: &[u8]) {
    let answer = ask(host, method, path, headers, body).await;
    let case = format!("{method} {path}: {}", answer.head);
    assert_eq!(answer.status, 503, "{case}");
    assert!(answer.header("retry-after").is_some_and(|it| it.parse::<u32>().is_ok()), "{case}");
}

fn location(answer: &Answer) -> String {
    answer.header("location").unwrap().to_owned()
}

/// Reads, writes, commits and deletions, while every request fails in one way, and after that.
#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_to_come_back_when_the_bucket_fails() {
    static NOW: AtomicI64 = AtomicI64::new(1_800_000_000);
    let stream = "Content-Type: application/octet-stream\r\n";
    for fault in [Fault::Status(500), Fault::Dropped] {
        let s3 = S3::start().await;
        let mut options = s3.options();
        options.storage = options.storage.retries(0);
        options.longest_read = Duration::ZERO;
        options.clock = || NOW.load(Ordering::SeqCst);
        let engine = TestEngine::with(options).await;
        let server =
            TestRegistry::with(engine.registry.clone(), ServerOptions::new()).await.unwrap();
        let host = &server.host();
        let store = engine.repository("a/b").await;
        let (kept, gone) =
            (push(&*store, &noise(100_000, 1)).await, push(&*store, &noise(100_000, 2)).await);
        let of = |digest| format!("/v2/a/b/blobs/{digest}");
        let begun = ask(host, "POST", "/v2/a/b/blobs/uploads/", "", b"").await;
        let large = noise(12 * MIB, 3);
        let patched = ask(host, "PATCH", &location(&begun), stream, &large[..6 * MIB]).await;
        assert_eq!(patched.status, 202);
        let upload = location(&patched);

        s3.fail(move |_, _| Some(fault));
        told_to_come_back(host, "GET", &of(&kept.digest), "", b"").await;
        told_to_come_back(host, "GET", &of(&kept.digest), "Range: bytes=5-9\r\n", b"").await;
        assert_eq!(ask(host, "HEAD", &of(&kept.digest), "", b"").await.status, 200);
        let new = noise(100_000, 4);
        let refused = describe(&new).digest;
        let whole = format!("/v2/a/b/blobs/uploads/?digest={refused}");
        told_to_come_back(host, "POST", &whole, stream, &new).await;
        told_to_come_back(host, "PATCH", &upload, stream, &large[6 * MIB..]).await;
        let digest = describe(&large[..6 * MIB]).digest;
        told_to_come_back(host, "PUT", &format!("{upload}?digest={digest}"), "", b"").await;
        // The database is there, and the bytes go later, with those of the push that was refused.
        assert_eq!(ask(host, "DELETE", &of(&gone.digest), "", b"").await.status, 202);
        let report = engine.collect().await;
        assert_eq!((report.objects, report.failed), (0, 2));
        s3.heal();

        for digest in [&refused, &gone.digest, &digest] {
            assert_eq!(ask(host, "GET", &of(digest), "", b"").await.status, 404, "{fault:?}");
        }
        assert_eq!(ask(host, "GET", &of(&kept.digest), "", b"").await.body, noise(100_000, 1));
        // The upload is where it was when the last chunk was acknowledged.
        let status = ask(host, "GET", &upload, "", b"").await;
        assert_eq!((status.status, status.header("range")), (204, Some("0-6291455")));
        let rest = format!("{stream}Content-Range: 6291456-12582911\r\n");
        let patched = ask(host, "PATCH", &upload, &rest, &large[6 * MIB..]).await;
        assert_eq!(patched.status, 202, "{}", patched.head);
        let digest = describe(&large).digest;
        let put = format!("{}?digest={digest}", location(&patched));
        assert_eq!(ask(host, "PUT", &put, "", b"").await.status, 201);
        assert!(ask(host, "GET", &of(&digest), "", b"").await.body == large);
        assert_eq!(ask(host, "POST", &whole, stream, &new).await.status, 201);
        NOW.fetch_add(61, Ordering::SeqCst);
        let report = engine.collect().await;
        assert_eq!((report.objects, report.failed), (2, 0));
        engine.registry.sweep().await.unwrap();
        assert_eq!((s3.objects().len(), s3.uploads()), (3, (0, 0)), "{fault:?}");
        engine.assert_sound().await;
    }
}

/// What a bucket breaks off in the middle is taken up again; if that is not possible, the client's connection breaks, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_the_bucket_breaks_off() {
    let s3 = S3::start().await;
    for retries in [0, 3] {
        let mut options = s3.options();
        options.storage = options.storage.retries(retries);
        let engine = TestEngine::with(options).await;
        let server =
            TestRegistry::with(engine.registry.clone(), ServerOptions::new()).await.unwrap();
        let store = engine.repository("a/b").await;
        let bytes = noise(3 * MIB, 1);
        let digest = push(&*store, &bytes).await.digest;
        let path = format!("/v2/a/b/blobs/{digest}");
        s3.fail(|n, _| (n == 0).then_some(Fault::Cut));
        let answer = ask(&server.host(), "GET", &path, "", b"").await;
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("3145728")));
        if retries == 0 {
            assert!(answer.body.len() < bytes.len() && bytes.starts_with(&answer.body));
        } else {
            assert!(answer.body == bytes);
        }
        s3.fail(|n, _| (n == 0).then_some(Fault::Cut));
        let read = pull(&*store, &digest, ByteRange::All).await;
        match retries {
            0 => assert_kind(read, ErrorKind::Unavailable),
            _ => assert!(read.unwrap() == bytes),
        }
        s3.heal();
    }
}
