//! Pushing blobs whose digest is known, mounting them, and pushing manifests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{
    Body, ErrorKind, Manifest, Mounted, Precondition, Reopen, Result, SourceBlob, Store,
};
use oci_registry_client::{RetryPolicy, UploadMode};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Tag};

use crate::server::{Answer, Seen, Server, builder};

/// More than what is read before a request begins.
fn large() -> Bytes {
    (0..200_000u32).map(|number| number as u8).collect::<Vec<_>>().into()
}

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, content)
}

/// A registry that takes any blob at the given Location.
async fn taking(location: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", location(seen)),
        "PUT" => Answer::status(201).header("Location", "/done"),
        _ => Answer::status(500),
    })
    .await
}

// covers: O5
#[tokio::test]
async fn in_one_request_to_wherever_the_location_leads() {
    let other = Server::start(|_| Answer::status(201).header("Location", "/done")).await;
    let elsewhere = other.url("/up?state=a%2Bb");
    let locations: [(&str, &str); 5] = [
        ("/v2/a/b/blobs/uploads/1", "/v2/a/b/blobs/uploads/1?"),
        ("1?_state=x%3D%3D&y", "/v2/a/b/blobs/uploads/1?_state=x%3D%3D&y&"),
        ("?x=1", "/v2/a/b/blobs/uploads/?x=1&"),
        ("ABSOLUTE/up?a=b", "/up?a=b&"),
        (&elsewhere, "/up?state=a%2Bb&"),
    ];
    for content in [Bytes::new(), Bytes::from_static(b"hello"), large()] {
        for (location, expected) in locations {
            let location = location.to_owned();
            let server = taking(move |seen| {
                location.replace("ABSOLUTE", &format!("http://{}", seen.header("host").unwrap()))
            })
            .await;
            let descriptor = descriptor(&content);
            server.repository().put_blob(&descriptor, &content).await.unwrap();
            let mut seen = server.seen();
            if expected.contains("state=a") {
                seen.push(other.seen().pop().unwrap());
            }
            assert_eq!(seen.len(), 2, "no HEAD, no PATCH");
            assert_eq!(seen[0].line(), "POST /v2/a/b/blobs/uploads/");
            assert_eq!(seen[0].header("content-length"), Some("0"));
            let digest = descriptor.digest.as_str().replace(':', "%3A");
            assert_eq!(seen[1].line(), format!("PUT {expected}digest={digest}"));
            assert_eq!(seen[1].header("content-length"), Some(content.len().to_string().as_str()));
            assert_eq!(seen[1].header("content-type"), Some("application/octet-stream"));
            assert_eq!(seen[1].body, content);
        }
    }
}

#[tokio::test]
async fn other_algorithms_are_announced() {
    let server = taking(|_| "/up".into()).await;
    let content = Bytes::from_static(b"hello");
    let digest = Algorithm::Sha512.digest(&content);
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, 5);
    server.repository().put_blob(&descriptor, &content).await.unwrap();
    assert_eq!(server.lines()[0], "POST /v2/a/b/blobs/uploads/?digest-algorithm=sha512");
    let unknown = Descriptor::new(MediaType::OCTET_STREAM, "other:abc".parse().unwrap(), 5);
    let error = server.repository().put_blob(&unknown, &content).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    assert_eq!(server.seen().len(), 2);
}

// covers: O5
#[tokio::test]
async fn content_that_is_not_what_it_should_be_never_arrives_whole() {
    let right = large();
    let mut wrong = right.to_vec();
    wrong[1000] ^= 1;
    let cases = [
        (Bytes::from(wrong), ErrorCode::DigestInvalid),
        (right.slice(..right.len() - 1), ErrorCode::SizeInvalid),
        (Bytes::from([&right[..], b"!"].concat()), ErrorCode::SizeInvalid),
        (Bytes::from_static(b"hallo"), ErrorCode::SizeInvalid),
    ];
    for (content, code) in cases {
        let server = taking(|_| "/up".into()).await;
        let error = server.repository().put_blob(&descriptor(&right), &content).await.unwrap_err();
        assert_eq!(error.code(), Some(&code), "{error:?}");
        let lines = server.lines();
        assert!(lines.iter().all(|line| !line.starts_with("PUT")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "DELETE /up", "the upload is cancelled");
    }
}

/// Content that fails to be read the first times.
struct Unsteady {
    content: Bytes,
    fails: Mutex<u32>,
}

#[async_trait::async_trait]
impl Reopen for Unsteady {
    async fn open(&self, _offset: u64) -> Result<Body> {
        let content = self.content.clone();
        let mut fails = self.fails.lock().unwrap();
        let broken = *fails > 0;
        *fails = fails.saturating_sub(1);
        let error = || oci_ref::Error::new(ErrorKind::Io, "the disk is gone");
        let half = content.slice(..content.len() / 2);
        let chunks = if broken { vec![Ok(half), Err(error())] } else { vec![Ok(content)] };
        Ok(futures_util::stream::iter(chunks).boxed())
    }
}

#[tokio::test]
async fn content_that_cannot_be_read_is_the_source_s_error() {
    let content = Unsteady { content: large(), fails: Mutex::new(1) };
    let server = taking(|_| "/up".into()).await;
    let error =
        server.repository().put_blob(&descriptor(&content.content), &content).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert_eq!(server.lines().last().unwrap(), "DELETE /up");
}

// covers: M10
#[tokio::test(start_paused = true)]
async fn a_failed_push_begins_anew_with_a_new_upload() {
    let content = large();
    let puts = Mutex::new(0);
    let server = Server::start(move |seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up"),
        "PUT" => {
            *puts.lock().unwrap() += 1;
            Answer::status(if *puts.lock().unwrap() == 1 { 502 } else { 201 })
        }
        _ => Answer::status(404),
    })
    .await;
    let policy = RetryPolicy::new(|retry| (retry < 2).then_some(Duration::from_secs(1)));
    server
        .repository_of(builder().retry(policy))
        .put_blob(&descriptor(&content), &content)
        .await
        .unwrap();
    let methods: Vec<_> = server.seen().iter().map(|seen| seen.method.clone()).collect();
    // It is asked what it has, and whether the answer alone was lost.
    assert_eq!(methods, ["POST", "PUT", "GET", "HEAD", "POST", "PUT"]);
    assert_eq!(server.seen()[5].body, content);
}

// covers: O5
#[tokio::test]
async fn a_registry_that_finds_it_too_large_gets_chunks() {
    let content = large();
    for status in [413, 416] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "POST" => Answer::status(202).header("Location", "/up"),
            "PUT" if !seen.body.is_empty() => Answer::status(status),
            "PUT" => Answer::status(201),
            "PATCH" => Answer::status(202).header("Location", "/up"),
            _ => Answer::status(204),
        })
        .await;
        let chunked = builder().chunk_size(80_000);
        server.repository_of(chunked).put_blob(&descriptor(&content), &content).await.unwrap();
        let patches: Vec<_> =
            server.seen().into_iter().filter(|seen| seen.method == "PATCH").collect();
        assert_eq!(
            patches.iter().map(|patch| patch.body.len()).collect::<Vec<_>>(),
            [80_000, 80_000, 40_000]
        );
        let monolithic = builder().upload_mode(UploadMode::Monolithic);
        server
            .repository_of(monolithic)
            .put_blob(&descriptor(&content), &content)
            .await
            .unwrap_err();
    }
}

// covers: O5
#[tokio::test]
async fn a_registry_that_says_how_large_chunks_are_to_be_gets_chunks() {
    let content = large();
    for (min_chunk, mode, expected) in [
        (90_000, UploadMode::Auto, vec![90_000, 90_000, 20_000]),
        (1, UploadMode::Auto, vec![80_000, 80_000, 40_000]),
        // It fits into one, or what is wanted is too large, or one request was asked for.
        (300_000, UploadMode::Auto, vec![]),
        (u64::MAX, UploadMode::Auto, vec![]),
        (90_000, UploadMode::Monolithic, vec![]),
    ] {
        let server = Server::start(move |seen| match seen.method.as_str() {
            "POST" => Answer::status(202)
                .header("Location", "/up")
                .header("OCI-Chunk-Min-Length", min_chunk),
            "PATCH" => Answer::status(202).header("Location", "/up"),
            _ => Answer::status(201),
        })
        .await;
        let repository = server.repository_of(builder().chunk_size(80_000).upload_mode(mode));
        repository.put_blob(&descriptor(&content), &content).await.unwrap();
        let seen = server.seen();
        let methods = |method| seen.iter().filter(move |seen| seen.method == method);
        let lengths: Vec<_> = methods("PATCH").map(|patch| patch.body.len()).collect();
        assert_eq!(lengths, expected, "{min_chunk} {mode:?}");
        let sent: Vec<u8> = seen.iter().flat_map(|seen| seen.body.clone()).collect();
        assert_eq!(sent, content);
        assert_eq!((methods("POST").count(), methods("PUT").count()), (1, 1));
    }
}

#[tokio::test]
async fn odd_answers_to_uploads() {
    let content = Bytes::from_static(b"hello");
    let wrong = Digest::sha256(b"other");
    let cases = [
        (Answer::status(202), Answer::status(201), "has no Location"),
        (Answer::status(200).header("Location", "/up"), Answer::status(201), "200"),
        (Answer::status(202).header("Location", "ftp://x/"), Answer::status(201), "scheme"),
        (Answer::status(202).header("Location", "/up"), Answer::status(202), "202"),
        (
            Answer::status(202).header("Location", "/up"),
            Answer::status(201).header("Docker-Content-Digest", &wrong),
            "expected",
        ),
        (Answer::status(404), Answer::status(201), "404"),
    ];
    for (post, put, text) in cases {
        let server = Server::start(
            move |seen| if seen.method == "POST" { post.clone() } else { put.clone() },
        )
        .await;
        let error =
            server.repository().put_blob(&descriptor(&content), &content).await.unwrap_err();
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}

// covers: O6
#[tokio::test]
async fn mounts() {
    let content = Bytes::from_static(b"hello");
    let descriptor = descriptor(&content);
    let from = "lib/c".parse().unwrap();
    let digest = descriptor.digest.as_str().replace(':', "%3A");

    let done = Server::start(|_| Answer::status(201).header("Location", "/x")).await;
    assert!(matches!(
        done.repository().mount(&descriptor, Some(&from)).await.unwrap(),
        Mounted::Done
    ));
    assert!(matches!(done.repository().mount(&descriptor, None).await.unwrap(), Mounted::Done));
    let post = format!("POST /v2/a/b/blobs/uploads/?mount={digest}");
    assert_eq!(done.lines(), [format!("{post}&from=lib%2Fc"), post]);

    let wrong =
        Server::start(|_| Answer::status(201).header("Docker-Content-Digest", Digest::sha256(b"")))
            .await;
    let error = wrong.repository().mount(&descriptor, None).await.err().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));

    // What it began instead is used.
    let server = taking(|_| "/up?s=1".into()).await;
    let Mounted::Upload(mut staged) =
        server.repository().mount(&descriptor, Some(&from)).await.unwrap()
    else {
        panic!("expected an upload");
    };
    staged.append(content.clone()).await.unwrap();
    staged.commit(&descriptor.digest).await.unwrap();
    assert_eq!(server.lines()[1], format!("PUT /up?s=1&digest={digest}"));
    assert_eq!(server.seen()[1].body, content);

    // However large it is, in one request: some registries take no chunks.
    let content = large();
    let blob = self::descriptor(&content);
    let server = taking(|_| "/up?s=1".into()).await;
    let repository = server.repository_of(builder().chunk_size(10));
    let Mounted::Upload(staged) = repository.mount(&blob, Some(&from)).await.unwrap() else {
        panic!("expected an upload");
    };
    staged.put(&blob, &content).await.unwrap();
    assert_eq!(server.seen().len(), 2);
    assert_eq!(server.seen()[1].body, content);

    // The content is fetched only then.
    let source = Server::start(|_| Answer::ok("hello")).await;
    let hello = Bytes::from_static(b"hello");
    let other = source.repository().sibling("lib/c".parse().unwrap());
    let fetched = SourceBlob::new(Arc::new(other), Digest::sha256(&hello));
    let server = taking(|_| "/up?s=1".into()).await;
    let blob = self::descriptor(&hello);
    let Mounted::Upload(staged) = server.repository().mount(&blob, Some(&from)).await.unwrap()
    else {
        panic!("expected an upload");
    };
    assert!(source.seen().is_empty());
    staged.put(&blob, &fetched).await.unwrap();
    assert_eq!(source.lines(), [format!("GET /v2/lib/c/blobs/{}", blob.digest)]);
    assert_eq!((server.seen().len(), &server.seen()[1].body[..]), (2, &hello[..]));

    // An upload that fails is cancelled; that a part has been written before is minded.
    let server = taking(|_| "/up".into()).await;
    let repository = server.repository();
    for (content, text) in
        [(&b"hel"[..], "3 bytes"), (b"hello?", "6 bytes"), (b"jello", "expected")]
    {
        for begun in ["", "h"] {
            let Mounted::Upload(mut staged) = repository.mount(&descriptor, None).await.unwrap()
            else {
                panic!("expected an upload");
            };
            staged.append(Bytes::from_static(begun.as_bytes())).await.unwrap();
            let content = Bytes::copy_from_slice(content);
            let put = staged.put(&descriptor, &content).await;
            if begun == "h" && text == "expected" {
                // What is sent is `h` and `ello`.
                put.unwrap();
                continue;
            }
            let error = put.unwrap_err();
            assert!(error.to_string().contains(text), "{begun}: {error}");
            assert_eq!(server.lines().last().unwrap(), "DELETE /up");
        }
    }

    for status in [400, 401, 403, 404, 405] {
        let server = Server::start(move |_| Answer::status(status)).await;
        assert!(
            matches!(
                server.repository().mount(&descriptor, Some(&from)).await.unwrap(),
                Mounted::No
            ),
            "{status}"
        );
    }
}

fn manifest() -> Manifest {
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    Manifest::parse(index.as_slice().into(), None, None).unwrap()
}

fn tags(names: &[&str]) -> Vec<Tag> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

// covers: O10
#[tokio::test]
async fn manifests_by_digest_and_by_tag() {
    let manifest = manifest();
    let server = Server::start(|_| Answer::status(201)).await;
    let repository = server.repository();
    repository.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
    repository.put_manifest(&manifest, &tags(&["1"]), &Precondition::None).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].line(), format!("PUT /v2/a/b/manifests/{}", manifest.digest()));
    assert_eq!(seen[1].line(), "PUT /v2/a/b/manifests/1");
    for put in seen {
        assert_eq!(put.body, manifest.bytes()[..]);
        assert_eq!(put.header("content-type"), Some(manifest.media_type().as_str()));
    }
    let wrong =
        Server::start(|_| Answer::status(201).header("Docker-Content-Digest", Digest::sha256(b"")))
            .await;
    let error =
        wrong.repository().put_manifest(&manifest, &[], &Precondition::None).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    // The same content under a digest of another algorithm is the same content.
    let sha512 = Algorithm::Sha512.digest(manifest.bytes());
    let other =
        Server::start(move |_| Answer::status(201).header("Docker-Content-Digest", &sha512)).await;
    other.repository().put_manifest(&manifest, &tags(&["1"]), &Precondition::None).await.unwrap();
}

// covers: O10
#[tokio::test]
async fn several_tags_at_once_where_the_registry_can() {
    let manifest = manifest();
    let by_digest = format!("PUT /v2/a/b/manifests/{}", manifest.digest());
    let names: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    let all: Vec<Tag> = names.iter().map(|name| name.parse().unwrap()).collect();

    let can = Server::start(|seen| {
        let tags = seen.target.split("tag=").skip(1).map(|tag| tag.trim_end_matches('&'));
        tags.fold(Answer::status(201), |answer, tag| answer.header("OCI-Tag", tag))
    })
    .await;
    can.repository().put_manifest(&manifest, &all, &Precondition::None).await.unwrap();
    let first: Vec<_> = names[..10].iter().map(|name| format!("tag={name}")).collect();
    assert_eq!(
        can.lines(),
        [format!("{by_digest}?{}", first.join("&")), format!("{by_digest}?tag=t10&tag=t11")]
    );

    let some = Server::start(|seen| match seen.target.contains("tag=") {
        true => Answer::status(201).header("OCI-Tag", "1, 3"),
        false => Answer::status(201),
    })
    .await;
    some.repository()
        .put_manifest(&manifest, &tags(&["1", "2", "3"]), &Precondition::None)
        .await
        .unwrap();
    assert_eq!(
        some.lines(),
        [format!("{by_digest}?tag=1&tag=2&tag=3"), "PUT /v2/a/b/manifests/2".into()]
    );

    for status in [201, 400, 404] {
        let cannot = Server::start(move |seen| {
            Answer::status(if seen.target.contains("tag=") { status } else { 201 })
        })
        .await;
        cannot
            .repository()
            .put_manifest(&manifest, &tags(&["1", "2"]), &Precondition::None)
            .await
            .unwrap();
        let expected = [
            format!("{by_digest}?tag=1&tag=2"),
            "PUT /v2/a/b/manifests/1".into(),
            "PUT /v2/a/b/manifests/2".into(),
        ];
        assert_eq!(cannot.lines(), expected, "{status}");
    }
}

#[tokio::test]
async fn conditions() {
    let manifest = manifest();
    let (now, other) = (Digest::sha256(b"now"), Digest::sha256(b"other"));
    type Expected<'a> = std::result::Result<(&'a str, String), ()>;
    let cases: [(Precondition, Option<&Digest>, Expected<'_>); 7] = [
        (
            Precondition::Matches(vec![other.clone(), now.clone()]),
            Some(&now),
            Ok(("if-match", "\"version 7\"".into())),
        ),
        (Precondition::Matches(vec![other.clone()]), Some(&now), Err(())),
        (Precondition::Matches(vec![other.clone()]), None, Err(())),
        (Precondition::Exists, Some(&now), Ok(("if-match", "*".into()))),
        (Precondition::Exists, None, Err(())),
        (Precondition::Absent, None, Ok(("if-none-match", "*".into()))),
        (Precondition::Absent, Some(&now), Err(())),
    ];
    for (when, named, expected) in cases {
        let head = match named {
            Some(digest) => Answer::status(200)
                .header("Content-Type", "application/vnd.oci.image.index.v1+json")
                .header("Docker-Content-Digest", digest)
                .header("ETag", "\"version 7\"")
                .header("Content-Length", 10),
            None => Answer::status(404),
        };
        let server =
            Server::start(
                move |seen| if seen.method == "HEAD" { head.clone() } else { Answer::status(201) },
            )
            .await;
        let put = server.repository().put_manifest(&manifest, &tags(&["1"]), &when).await;
        match expected {
            Ok((name, value)) => {
                put.unwrap();
                assert_eq!(server.seen()[1].header(name), Some(value.as_str()));
            }
            Err(()) => {
                assert_eq!(*put.unwrap_err().kind(), ErrorKind::PreconditionFailed, "{when:?}");
                assert_eq!(server.seen().len(), 1);
            }
        }
    }
    // Somebody was quicker.
    let server =
        Server::start(|seen| Answer::status(if seen.method == "HEAD" { 404 } else { 412 })).await;
    let error = server
        .repository()
        .put_manifest(&manifest, &tags(&["1"]), &Precondition::Absent)
        .await
        .unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
}
