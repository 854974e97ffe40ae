//! Reading blobs, and parts of them.

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{Blob, ByteRange, ErrorKind, Result, Source};
use oci_registry_client::Repository;
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType};

use crate::server::{Answer, Server};

const CONTENT: &[u8] = b"0123456789";

fn digest() -> Digest {
    Digest::sha256(CONTENT)
}

async fn read(repository: &Repository, range: ByteRange) -> Result<Vec<u8>> {
    let read = repository.blob(&digest(), range).await?;
    let expected = read.range.clone();
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    let bytes = chunks.concat();
    assert_eq!(bytes.len() as u64, expected.end - expected.start);
    Ok(bytes)
}

// covers: O3
#[tokio::test]
async fn whole_and_verified() {
    let server = Server::start(|_| Answer::ok(CONTENT)).await;
    let repository = server.repository();
    assert_eq!(read(&repository, ByteRange::All).await.unwrap(), CONTENT);
    let seen = &server.seen()[0];
    assert_eq!(seen.line(), format!("GET /v2/a/b/blobs/{}", digest()));
    assert_eq!(seen.header("range"), None);
    assert_eq!(seen.header("accept-encoding"), Some("identity"));

    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, CONTENT);
    let bytes = Blob::open(&repository, &descriptor).await.unwrap().into_bytes(100).await.unwrap();
    assert_eq!(bytes, CONTENT);
    let other = Descriptor::of(MediaType::OCTET_STREAM, b"abcdefghij");
    let error = Blob::open(&repository, &other).await.unwrap().into_bytes(100).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
}

// covers: O7
#[tokio::test]
async fn by_a_reference_which_is_a_digest() {
    for answer in [Answer::ok(CONTENT), Answer::ok(CONTENT).lengthless()] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" => Answer::ok(CONTENT),
            _ => answer.clone(),
        })
        .await;
        let repository = server.repository();
        let whole = format!("{}/a/b@{}", server.host, digest());
        for text in [digest().to_string(), whole] {
            let target = repository.parse_reference(&text).unwrap();
            // Its size is not known before.
            let read = repository.blob(target.digest().unwrap(), ByteRange::All).await.unwrap();
            let found = Descriptor::new(MediaType::OCTET_STREAM, digest(), read.size);
            let blob = Blob::new(found, read.body).unwrap();
            assert_eq!(blob.into_bytes(100).await.unwrap(), CONTENT);
        }
    }
}

// covers: O7, O3
#[tokio::test]
async fn sizes_and_what_is_missing() {
    let found = Server::start(|_| Answer::ok(CONTENT)).await;
    assert_eq!(found.repository().blob_size(&digest()).await.unwrap(), Some(10));
    assert_eq!(found.seen()[0].method, "HEAD");
    let missing = Server::start(|_| Answer::error(404, "BLOB_UNKNOWN")).await;
    assert_eq!(missing.repository().blob_size(&digest()).await.unwrap(), None);
    let error = read(&missing.repository(), ByteRange::All).await.unwrap_err();
    assert!(error.is_not_found());
    let wrong =
        Server::start(|_| Answer::ok(CONTENT).header("Docker-Content-Digest", Digest::sha256(b"")))
            .await;
    let error = read(&wrong.repository(), ByteRange::All).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
}

#[tokio::test]
async fn a_length_that_is_not_said_is_asked_for() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => Answer::ok(CONTENT),
        _ => Answer::ok(CONTENT).lengthless(),
    })
    .await;
    assert_eq!(read(&server.repository(), ByteRange::All).await.unwrap(), CONTENT);
    assert_eq!(read(&server.repository(), ByteRange::Last(3)).await.unwrap(), b"789");
}

// covers: M11
#[tokio::test]
async fn parts() {
    let cases = [
        (ByteRange::From(0), None, 0..10),
        (ByteRange::From(4), Some("bytes=4-"), 4..10),
        (ByteRange::Inclusive(2, 5), Some("bytes=2-5"), 2..6),
        (ByteRange::Inclusive(8, 99), Some("bytes=8-99"), 8..10),
        (ByteRange::Last(3), Some("bytes=-3"), 7..10),
        (ByteRange::Last(30), Some("bytes=-30"), 0..10),
    ];
    for (range, header, part) in cases {
        let answer = match header {
            Some(_) => Answer::status(206)
                .body(&CONTENT[part.clone()])
                .header("Content-Range", format!("bytes {}-{}/10", part.start, part.end - 1)),
            None => Answer::ok(CONTENT),
        };
        let ranges = Server::start(move |_| answer.clone()).await;
        assert_eq!(
            read(&ranges.repository(), range).await.unwrap(),
            &CONTENT[part.clone()],
            "{range:?}"
        );
        assert_eq!(ranges.seen()[0].header("range"), header, "{range:?}");

        // A registry that cannot do it gives all.
        let whole = Server::start(|_| Answer::ok(CONTENT)).await;
        assert_eq!(read(&whole.repository(), range).await.unwrap(), &CONTENT[part], "{range:?}");
    }
}

// covers: M11
#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    for content_range in [
        "bytes 3-9/10",
        "bytes 5-9/10",
        "bytes 4-8/10",
        "bytes 4-9/11",
        "bytes 4-9",
        "bytes */10",
        "items 4-9/10",
        "",
    ] {
        let answer = Answer::status(206).body(&CONTENT[4..]).header("Content-Range", content_range);
        let server = Server::start(move |_| answer.clone()).await;
        let error = read(&server.repository(), ByteRange::From(4)).await.unwrap_err();
        assert!(!error.is_retryable(), "{content_range}: {error}");
        assert!(
            error.to_string().contains("expected") || error.to_string().contains("Content-"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn parts_outside_of_the_blob() {
    let server = Server::start(|_| Answer::status(416).header("Content-Range", "bytes */10")).await;
    let error = read(&server.repository(), ByteRange::From(10)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::RangeInvalid { size: 10 });
    let whole = Server::start(|_| Answer::ok(CONTENT)).await;
    let error = read(&whole.repository(), ByteRange::From(10)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::RangeInvalid { size: 10 });
    let error = read(&whole.repository(), ByteRange::Inclusive(5, 4)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
}

// covers: M11
#[tokio::test]
async fn a_body_that_is_too_short_or_too_long_is_an_error() {
    let short = Server::start(|_| Answer::ok(CONTENT).cut(7)).await;
    let error = read(&short.repository(), ByteRange::All).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(short.seen().len(), 1, "without a policy nothing is resumed");

    for (body, said) in [(&CONTENT[..7], 10), (CONTENT, 7)] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" => Answer::status(200).header("Content-Length", said),
            _ => Answer::ok(body).lengthless(),
        })
        .await;
        let error = read(&server.repository(), ByteRange::All).await.unwrap_err();
        assert!(
            error.to_string().contains("expected 7")
                || error.to_string().contains("unexpected end"),
            "{error}"
        );
    }
}
