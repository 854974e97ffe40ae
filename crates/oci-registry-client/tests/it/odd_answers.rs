//! Registries, and what stands before them, that answer otherwise than the specification says, and
//! mean the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oci_ref::{Blob, ByteRange, ErrorKind, Precondition, Source, Store};
use oci_registry_client::RetryPolicy;
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Tag};

use crate::server::{Answer, Seen, Server, builder};
use crate::tag_schema::artifact;

const CONTENT: &[u8] = b"0123456789";

const INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn blob() -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, CONTENT)
}

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

/// A registry that gives the content, and answers `HEAD` so.
async fn with_head(head: Answer) -> Server {
    Server::start(move |seen| match (seen.method.as_str(), seen.header("range")) {
        ("HEAD", _) => head.clone(),
        (_, Some("bytes=0-0")) => {
            Answer::status(206).body("0").header("Content-Range", "bytes 0-0/10")
        }
        _ => Answer::ok(CONTENT),
    })
    .await
}

// yusing/godoxy#169, containerd/containerd#5124
// covers: O7
#[tokio::test]
async fn a_blob_whose_size_is_not_said_is_there() {
    let lengthless = Answer::status(200).lengthless();
    let zero = Answer::status(200).header("Content-Length", 0);
    let refused = [400, 403, 405, 501].map(Answer::status);
    for (head, asked) in [(lengthless, 1), (zero, 1)].into_iter().chain(refused.map(|it| (it, 2))) {
        let server = with_head(head.clone()).await;
        let repository = server.repository();
        assert!(repository.has_blob(&blob()).await.unwrap(), "{head:?}");
        assert!(repository.exists(&blob()).await.unwrap(), "{head:?}");
        assert_eq!(server.seen().len(), 2 * asked, "{head:?}");
        let size = repository.blob_size(&blob().digest).await.unwrap();
        assert_eq!(size, Some(10), "{head:?}");
        let reader = repository.open(&blob()).await.unwrap();
        assert_eq!(reader.size(), 10, "{head:?}");
    }
}

#[tokio::test]
async fn a_blob_of_another_size_or_refused_altogether_is_not_there() {
    let other = with_head(Answer::status(200).header("Content-Length", 9)).await;
    let error = other.repository().has_blob(&blob()).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid), "{error}");
    let absent = with_head(Answer::status(404)).await;
    assert!(!absent.repository().has_blob(&blob()).await.unwrap());
    let denied = Server::start(|_| Answer::status(403)).await;
    assert!(denied.repository().has_blob(&blob()).await.unwrap_err().is_denied());
    // A blob of nothing has no bytes, whoever says so.
    let empty = Server::start(|_| Answer::status(200).lengthless()).await;
    let size = empty.repository().blob_size(&Digest::sha256(b"")).await.unwrap();
    assert_eq!((size, empty.seen().len()), (Some(0), 1));
    // Nobody says it.
    let size = empty.repository().blob_size(&blob().digest).await;
    assert_eq!(*size.unwrap_err().kind(), ErrorKind::Internal);
}

// google/go-containerregistry#971
// covers: O9
#[tokio::test]
async fn a_registry_that_refuses_head_is_asked_by_get() {
    let zero = Answer::ok(INDEX).header("Content-Length", 0);
    let heads = [400, 403, 405, 501].map(Answer::status).into_iter().chain([zero]);
    for head in heads {
        let answer = head.clone();
        let get = Answer::ok(INDEX).header("Content-Type", MediaType::OCI_IMAGE_INDEX);
        let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
            "HEAD" => answer.clone(),
            _ => get.clone(),
        })
        .await;
        let found = server.repository().resolve(&tag().into()).await.unwrap();
        assert_eq!(found, Descriptor::of(MediaType::OCI_IMAGE_INDEX, INDEX), "{head:?}");
    }
    // Who may not read it may not read it.
    let denied = Server::start(|_| Answer::error(403, "DENIED")).await;
    let error = denied.repository().resolve(&tag().into()).await.unwrap_err();
    assert!(error.is_denied());
    assert_eq!(denied.lines(), ["HEAD /v2/a/b/manifests/1.0", "GET /v2/a/b/manifests/1.0"]);
}

// containers/image#381 (Quay answers 202), containers/image#1006 (GCR answers 200)
// covers: O10
#[tokio::test]
async fn a_manifest_that_is_stored_may_be_answered_otherwise() {
    let manifest = artifact("x", 1);
    for status in [200, 202] {
        let tags = [tag()];
        for digest in [true, false] {
            let stored = manifest.clone();
            let server = Server::start(move |seen| match seen.method.as_str() {
                "GET" => Answer::ok(stored.bytes()),
                _ if digest => Answer::status(status)
                    .header("OCI-Subject", subject())
                    .header("Docker-Content-Digest", stored.digest()),
                _ => Answer::status(status).header("OCI-Subject", subject()),
            })
            .await;
            let repository = server.repository();
            repository.put_manifest(&manifest, &tags, &Precondition::None).await.unwrap();
            assert_eq!(server.seen().len(), if digest { 1 } else { 2 });
        }
        // A page to log in on has stored nothing.
        let page = Server::start(move |_| Answer::status(status).body("<html>")).await;
        page.repository().put_manifest(&manifest, &tags, &Precondition::None).await.unwrap_err();
        let wrong = Server::start(move |_| {
            Answer::status(status).header("Docker-Content-Digest", Digest::sha256(b""))
        })
        .await;
        let pushed = wrong.repository().put_manifest(&manifest, &tags, &Precondition::None).await;
        assert_eq!(pushed.unwrap_err().code(), Some(&ErrorCode::DigestInvalid));
    }
}

// quay/quay#1310, moby/moby#17595
// covers: O3
#[tokio::test]
async fn nothing_is_asked_for_encoded_and_what_is_encoded_all_the_same_is_named() {
    let server =
        Server::start(|_| Answer::ok("not what it is").header("Content-Encoding", "gzip")).await;
    let repository = server.repository();
    let errors = [
        repository.manifest(&tag().into()).await.unwrap_err(),
        repository.blob(&blob().digest, ByteRange::All).await.err().unwrap(),
        repository.blob(&blob().digest, ByteRange::Last(2)).await.err().unwrap(),
        repository.tags(None, 10).await.unwrap_err(),
        repository.referrers(&blob().digest, None, None, 10).await.unwrap_err(),
        repository.registry().ping().await.unwrap_err().into(),
    ];
    for error in errors {
        let error: &oci_registry_client::Error = error.find_source().unwrap();
        assert!(error.to_string().contains("Content-Encoding: gzip"), "{error}");
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
    // What it is not is no error, nor what is no content.
    let same = Server::start(|_| Answer::ok(CONTENT).header("Content-Encoding", "Identity")).await;
    same.repository().blob(&blob().digest, ByteRange::All).await.unwrap();
    let coded = Server::start(|_| Answer::error(404, "X").header("Content-Encoding", "br")).await;
    assert!(!coded.repository().has_blob(&blob()).await.unwrap());
}

#[tokio::test]
async fn the_length_of_an_encoded_answer_is_not_the_blob_s() {
    let head = Answer::status(200).header("Content-Encoding", "gzip").header("Content-Length", 30);
    let server = with_head(head).await;
    assert!(server.repository().has_blob(&blob()).await.unwrap());
    assert_eq!(server.repository().blob_size(&blob().digest).await.unwrap(), Some(10));
}

/// A registry that breaks off once, and refuses all ranges after that.
async fn without_ranges(answer: fn(&Seen) -> Option<Answer>) -> Server {
    Server::start(move |seen| match (answer(seen), seen.header("range")) {
        (Some(answer), _) => answer,
        (None, Some(_)) => Answer::status(416),
        (None, None) if seen.method == "HEAD" => {
            Answer::ok(CONTENT).header("Accept-Ranges", "bytes")
        }
        (None, None) => Answer::ok(CONTENT).cut(4),
    })
    .await
}

// covers: M11
#[tokio::test]
async fn a_blob_whose_rest_is_refused_is_read_anew() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.header("range") {
        Some(_) => Answer::status(416),
        None if asked.fetch_add(1, Ordering::Relaxed) == 0 => Answer::ok(CONTENT).cut(4),
        None => Answer::ok(CONTENT),
    })
    .await;
    let policy = RetryPolicy::new(|retry| (retry < 2).then_some(Duration::ZERO));
    let repository = server.repository_of(builder().retry(policy.clone()));
    let read = Blob::open(&repository, &blob()).await.unwrap().into_bytes(100).await.unwrap();
    assert_eq!(read, CONTENT);
    let ranges: Vec<_> = server.seen().iter().map(|it| it.header("range").is_some()).collect();
    assert_eq!(ranges, [false, true, false]);

    // Not for ever.
    let never = without_ranges(|_| None).await;
    let repository = never.repository_of(builder().retry(policy));
    let blob = Blob::open(&repository, &blob()).await.unwrap();
    blob.into_bytes(100).await.unwrap_err();
    assert!(never.seen().len() < 10, "{:?}", never.lines());
}

// covers: O4
#[tokio::test]
async fn a_file_whose_rest_is_refused_is_written_anew() {
    let server = without_ranges(|seen| {
        let whole = seen.method == "GET" && seen.header("range").is_none();
        whole.then(|| Answer::ok(CONTENT))
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    let part = format!("blob.{}.part", &blob().digest.encoded()[..12]);
    std::fs::write(directory.path().join(part), &CONTENT[..4]).unwrap();
    server.repository().download(&blob(), &path).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    assert_eq!(server.lines().len(), 3);
}

fn subject() -> Digest {
    crate::tag_schema::subject().digest
}
