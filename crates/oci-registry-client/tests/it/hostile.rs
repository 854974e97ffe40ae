//! Servers that mean harm: they are told no secret, they make nobody wait for ever, and fill no memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{Blob, ByteRange, ErrorKind, Source, Store};
use oci_registry_client::{
    ClientBuilder, Credentials, PlainHttp, RetryPolicy, StaticCredentials, UploadMode,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Host, MediaType, Tag};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::server::{Answer, Server, builder};

fn blob() -> Digest {
    Digest::sha256(b"blob")
}

fn tag() -> Tag {
    "1".parse().unwrap()
}

fn knowing(host: &Host, credentials: Credentials) -> ClientBuilder {
    builder().credentials(StaticCredentials::new().with(host.clone(), credentials))
}

/// A registry that wants a token from there.
async fn sending_to(realm: String) -> Server {
    let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
    Server::start(move |_| Answer::status(401).header("WWW-Authenticate", &challenge)).await
}

#[tokio::test]
async fn an_identity_token_is_not_sent_on_to_another_host() {
    for status in [301, 302, 307, 308] {
        let thief = Server::start(|_| Answer::ok(r#"{"token":"t"}"#)).await;
        let location = thief.url("/token");
        let service =
            Server::start(move |_| Answer::status(status).header("Location", &location)).await;
        let registry = sending_to(service.url("/token")).await;
        let builder = knowing(&registry.host, Credentials::IdentityToken("topsecret".into()));
        let error = registry.repository_of(builder).blob_size(&blob()).await.unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
        let error: &oci_registry_client::Error = error.find_source().unwrap();
        assert!(error.to_string().contains("not sent on to another host"), "{error}");
        assert!(!format!("{error:?}").contains("topsecret"));
        assert!(thief.seen().is_empty(), "{status}");
        assert_eq!(service.lines(), ["POST /token"]);
    }
}

#[tokio::test]
async fn a_password_goes_by_plain_http_to_no_other_host_unless_allowed() {
    let service = Server::start(|_| Answer::ok(r#"{"token":"t"}"#)).await;
    // Another name, which happens to lead to the same machine.
    let port = service.host.as_str().rsplit_once(':').unwrap().1.to_owned();
    let registry = sending_to(format!("http://localhost:{port}/token")).await;
    let allowed: Host = format!("localhost:{port}").parse().unwrap();
    let cases = [
        (PlainHttp::Hosts([registry.host.clone()].into()), false),
        (PlainHttp::Hosts([registry.host.clone(), allowed].into()), true),
        (PlainHttp::Loopback, true),
    ];
    for (plain, goes) in cases {
        let before = service.seen().len();
        let builder = knowing(&registry.host, Credentials::basic("alice", "secret"));
        let repository = registry.repository_of(builder.plain_http(plain.clone()));
        let error = repository.blob_size(&blob()).await.unwrap_err();
        assert!(error.is_unauthorized(), "{error}");
        assert_eq!(service.seen().len() > before, goes, "{plain:?}: {error}");
    }
}

#[tokio::test]
async fn a_challenge_that_is_too_long_is_none() {
    for (length, asked) in [(1000, true), (17 << 10, false)] {
        let service = Server::start(|_| Answer::ok(r#"{"token":"t"}"#)).await;
        let challenge =
            format!("Bearer realm=\"{}\",scope=\"{}\"", service.url("/token"), "x".repeat(length));
        let registry =
            Server::start(move |_| Answer::status(401).header("WWW-Authenticate", &challenge))
                .await;
        assert!(registry.repository().blob_size(&blob()).await.unwrap_err().is_unauthorized());
        assert_eq!(!service.seen().is_empty(), asked, "{length}");
    }
}

/// A registry that sends a byte of its answer each second.
async fn dripping(status: u16) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufStream::new(stream);
                let mut line = String::new();
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                }
                let head = format!("HTTP/1.1 {status} Slow\r\nContent-Length: 1000000\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
    });
    host
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_drips_is_not_waited_for() {
    for status in [200, 500] {
        let client = builder().idle_timeout(Duration::from_secs(20)).build().unwrap();
        let registry = client.registry(&dripping(status).await).unwrap();
        let begun = Instant::now();
        let error = registry.repository("a/b".parse().unwrap()).manifest(&tag().into()).await;
        let error = error.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        if status == 200 {
            assert!(error.to_string().contains("too slowly"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_drips_is_given_up() {
    let host = dripping(200).await;
    let content = vec![b' '; 1_000_000];
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &content);
    for (rate, retries, within) in [(Some(2), 0, 60), (Some(1024), 3, 300), (None, 0, 0)] {
        let retried = Arc::new(AtomicUsize::new(0));
        let counted = retried.clone();
        let policy =
            RetryPolicy::new(move |retry| (retry < retries).then_some(Duration::from_secs(1)));
        let client = builder()
            .idle_timeout(Duration::from_secs(20))
            .min_rate(rate)
            .retry(policy)
            .on_retry(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .build()
            .unwrap();
        let repository = client.registry(&host).unwrap().repository("a/b".parse().unwrap());
        let begun = Instant::now();
        let blob = Blob::open(&repository, &descriptor).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(900), blob.into_bytes(1 << 20)).await;
        let Ok(read) = read else {
            assert_eq!(rate, None, "it is waited for where that is wanted");
            continue;
        };
        let error = read.unwrap_err();
        let error: &oci_registry_client::Error = error.find_source().unwrap();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("comes too slowly") || retries > 0, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(within), "{:?}", begun.elapsed());
        assert_eq!(retried.load(Ordering::Relaxed), retries as usize);
    }
}

#[tokio::test]
async fn what_was_sent_is_not_shown_when_it_comes_back() {
    let secrets = ["SECRETPW", "Ym9iOlNFQ1JFVFBX", "TOKENTOKEN"];
    let said = "you sent Basic Ym9iOlNFQ1JFVFBX, SECRETPW and TOKENTOKEN\u{202e}";
    let error = serde_json::json!({"code": said, "message": said, "detail": said});
    let errors = serde_json::json!({ "errors": [error] }).to_string();
    let echoes = [
        Answer::status(403).body(said),
        Answer::status(403).body(&errors),
        Answer::ok("blob").header("Docker-Content-Digest", "sha256:SECRETPW"),
        Answer::ok("blob").header("Content-Encoding", "TOKENTOKEN"),
        Answer::status(206).header("Content-Range", "SECRETPW"),
        Answer::status(307).header("Location", "ftp://x/SECRETPW"),
        Answer::status(307).header("Location", "http://[SECRETPW"),
        Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"http://[SECRETPW\""),
        Answer::status(403).header("Warning", "299 - \"SECRETPW and TOKENTOKEN\""),
    ];
    for scheme in ["Basic", "Bearer realm=\"/token\""] {
        for echo in echoes.clone() {
            let server = Server::start(move |seen| match seen.header("authorization") {
                _ if seen.target.starts_with("/token") => Answer::ok(r#"{"token":"TOKENTOKEN"}"#),
                None => Answer::status(401).header("WWW-Authenticate", scheme),
                Some(_) => echo.clone(),
            })
            .await;
            let warned: Arc<Mutex<String>> = Arc::default();
            let kept = warned.clone();
            let builder = knowing(&server.host, Credentials::basic("bob", "SECRETPW"));
            let builder = builder.on_warning(move |it| kept.lock().unwrap().push_str(&it.text));
            let repository = server.repository_of(builder);
            let error = repository.blob(&blob(), ByteRange::All).await.err().unwrap();
            let source: &oci_registry_client::Error = error.find_source().unwrap();
            let shown = format!(
                "{} {error:?} {source} {source:?} {:?} {:?} {}",
                error.chain(),
                source.errors(),
                source.body(),
                warned.lock().unwrap(),
            );
            let own = "TOKENTOKEN";
            for secret in secrets {
                // Where it was never sent, a word is a word.
                assert!(
                    !shown.contains(secret) || (secret == own && scheme == "Basic"),
                    "{scheme}: {shown}"
                );
            }
            assert!(!error.to_string().contains('\u{202e}'), "{error}");
        }
    }
    // A token service has it from us, too.
    let service = Server::start(move |_| Answer::status(500).body(&errors)).await;
    let registry = sending_to(service.url("/token")).await;
    let builder = knowing(&registry.host, Credentials::basic("bob", "SECRETPW"));
    let error = registry.repository_of(builder).blob_size(&blob()).await.unwrap_err();
    assert!(error.to_string().contains("you sent Basic REDACTED"), "{error}");
    assert!(!format!("{error:?}").contains("SECRETPW"), "{error:?}");
}

#[tokio::test]
async fn lists_without_end_are_given_up() {
    let asked = AtomicUsize::new(0);
    let empty = Server::start(move |seen| {
        let next = asked.fetch_add(1, Ordering::Relaxed);
        let body = match seen.target.contains("referrers") {
            true => r#"{"schemaVersion":2,"manifests":[]}"#,
            false => r#"{"tags":[],"repositories":[]}"#,
        };
        let path = seen.target.split('?').next().unwrap();
        Answer::ok(body)
            .header("Content-Type", MediaType::OCI_IMAGE_INDEX)
            .header("Link", format!("<{path}?page={next}>; rel=next"))
    })
    .await;
    let repository = empty.repository();
    let tags: Result<Vec<_>, _> = repository.tags_stream(None, 10).try_collect().await;
    assert!(tags.unwrap_err().to_string().contains("pages in a row"));
    let names: Result<Vec<_>, _> =
        repository.registry().catalog_stream(None, 10).try_collect().await;
    assert!(names.unwrap_err().to_string().contains("pages in a row"));
    let error = repository.predecessors(&blob()).await.unwrap_err();
    assert!(error.to_string().contains("pages in a row"), "{error}");

    // With something on each page, it has an end as well.
    let entry =
        serde_json::to_string(&Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"x")).unwrap();
    let page = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; 1000].join(","));
    let asked = AtomicUsize::new(0);
    let full = Server::start(move |seen| {
        let next = asked.fetch_add(1, Ordering::Relaxed);
        let path = seen.target.split('?').next().unwrap();
        Answer::ok(&page)
            .header("Content-Type", MediaType::OCI_IMAGE_INDEX)
            .header("Link", format!("<{path}?page={next}>; rel=next"))
    })
    .await;
    let error = full.repository().predecessors(&blob()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 100_000 });
    assert_eq!(full.seen().len(), 101);
}

#[tokio::test]
async fn a_chunk_that_is_taken_byte_by_byte_is_given_up() {
    let taken = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up"),
        "PATCH" => {
            let range = format!("0-{}", taken.fetch_add(1, Ordering::Relaxed) + 1);
            Answer::status(202).header("Location", "/up").header("Range", range)
        }
        _ => Answer::status(204),
    })
    .await;
    let content = Bytes::from(vec![7; 100_000]);
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &content);
    let builder = builder().upload_mode(UploadMode::Chunked).chunk_size(50_000);
    let error = server.repository_of(builder).put_blob(&descriptor, &content).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::BlobUploadInvalid), "{error}");
    assert!(server.seen().len() < 200);
    assert_eq!(server.lines().last().unwrap(), "DELETE /up");
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_wants_to_be_left_alone_for_ever_breaks_nothing() {
    let mirror = Server::start(|_| Answer::status(503).header("Retry-After", u64::MAX)).await;
    let primary = Server::start(|_| Answer::ok("blob")).await;
    let repository =
        primary.repository_of(builder().mirrors(primary.host.clone(), [mirror.host.clone()]));
    let read = repository.blob(&blob(), oci_ref::ByteRange::All).await.unwrap();
    assert_eq!(read.size, 4);
    assert_eq!(mirror.seen().len(), 1);

    // Nor does a registry: there is an end to what can be waited for.
    let policy = RetryPolicy::new(|_| Some(Duration::ZERO)).deadline(Duration::from_secs(60));
    let busy = Server::start(|_| Answer::status(503).header("Retry-After", u64::MAX)).await;
    let repository = busy.repository_of(builder().retry(policy));
    let error = repository.blob_size(&blob()).await.unwrap_err();
    assert_eq!(busy.seen().len(), 1);
    let error: &oci_registry_client::Error = error.find_source().unwrap();
    assert!(error.to_string().contains("past the deadline"), "{error}");
}
