//! Blobs as files: downloaded with resumption across restarts, read and sought in, closed from elsewhere.

use std::io::SeekFrom;
use std::path::PathBuf;

use oci_ref::{Source, Target};
use oci_registry_client::{BlobReader, Error};
use oci_spec_types::{Descriptor, Digest, MediaType};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::server::{Answer, Seen, Server, builder};

const CONTENT: &[u8] = b"0123456789";

fn descriptor() -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, CONTENT)
}

/// A registry that gives parts, or at least says so.
fn with_ranges(seen: &Seen) -> Answer {
    let answer = match seen.header("range").and_then(|range| range.strip_prefix("bytes=")) {
        Some(range) => {
            let start: usize = range.trim_end_matches('-').parse().unwrap();
            let part = format!("bytes {start}-{}/{}", CONTENT.len() - 1, CONTENT.len());
            Answer::status(206).body(&CONTENT[start..]).header("Content-Range", part)
        }
        None => Answer::ok(CONTENT),
    };
    answer.header("Accept-Ranges", "bytes")
}

fn requests(server: &Server) -> Vec<String> {
    let seen = server.seen();
    seen.iter()
        .map(|seen| format!("{} {}", seen.method, seen.header("range").unwrap_or("-")))
        .collect()
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("layer.tar")
    }

    fn part(&self) -> PathBuf {
        let digits = &descriptor().digest.encoded()[..12].to_owned();
        self.directory.path().join(format!("layer.tar.{digits}.part"))
    }

    /// The one file that is there, and its content.
    fn only(&self) -> (PathBuf, Vec<u8>) {
        let mut files = std::fs::read_dir(self.directory.path()).unwrap();
        let path = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        let content = std::fs::read(&path).unwrap();
        (path, content)
    }
}

// covers: O4
#[tokio::test]
async fn a_download_has_its_name_when_it_is_verified() {
    let place = Place::new();
    let server = Server::start(with_ranges).await;
    let repository = server.repository();
    assert_eq!(repository.download(&descriptor(), place.target()).await.unwrap(), 10);
    assert_eq!(place.only(), (place.target(), CONTENT.to_vec()));
    assert_eq!(requests(&server), ["GET -"]);
    // A complete file transfers nothing.
    assert_eq!(repository.download(&descriptor(), place.target()).await.unwrap(), 0);
    assert_eq!(server.seen().len(), 1);
    // Another file is replaced.
    std::fs::write(place.target(), b"abcdefghij").unwrap();
    assert_eq!(repository.download(&descriptor(), place.target()).await.unwrap(), 10);
    assert_eq!(place.only().1, CONTENT);

    let empty = Descriptor::of(MediaType::OCTET_STREAM, b"");
    let server = Server::start(|_| Answer::ok("")).await;
    assert_eq!(server.repository().download(&empty, place.target()).await.unwrap(), 0);
    assert_eq!(place.only(), (place.target(), Vec::new()));
}

// covers: O4
#[tokio::test]
async fn what_an_earlier_run_left_is_gone_on_with() {
    let place = Place::new();
    let breaking = Server::start(|_| Answer::ok(CONTENT).cut(4)).await;
    let error = breaking.repository().download(&descriptor(), place.target()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(place.only(), (place.part(), CONTENT[..4].to_vec()));
    let server = Server::start(with_ranges).await;
    assert_eq!(server.repository().download(&descriptor(), place.target()).await.unwrap(), 6);
    assert_eq!(requests(&server), ["HEAD -", "GET bytes=4-"]);
    assert_eq!(place.only(), (place.target(), CONTENT.to_vec()));
}

// covers: O4
#[tokio::test]
async fn parts_that_cannot_be_gone_on_with_are_begun_anew() {
    // What is there, whether the registry gives parts, what it sends, what it is asked.
    let cases: [(&[u8], bool, u64, &[&str]); 6] = [
        (b"01x3", true, 16, &["HEAD -", "GET bytes=4-", "GET -"]),
        (b"0123", false, 10, &["HEAD -", "GET -"]),
        (b"0123456789", true, 0, &[]),
        (b"012345678x", true, 10, &["GET -"]),
        (b"0123456789x", true, 10, &["GET -"]),
        (b"", true, 10, &["GET -"]),
    ];
    for (left, ranges, sent, asked) in cases {
        let place = Place::new();
        std::fs::write(place.part(), left).unwrap();
        let server = Server::start(move |seen| match ranges {
            true => with_ranges(seen),
            false => Answer::ok(CONTENT),
        })
        .await;
        let received = server.repository().download(&descriptor(), place.target()).await.unwrap();
        let received = if left.len() > CONTENT.len() { 10 } else { received };
        assert_eq!(received, sent, "{left:?}");
        assert_eq!(place.only(), (place.target(), CONTENT.to_vec()), "{left:?}");
        if left.len() <= CONTENT.len() {
            assert_eq!(requests(&server), asked, "{left:?}");
        }
    }
}

// covers: O4
#[tokio::test]
async fn nothing_wrong_is_left_behind() {
    type Check = fn(&oci_ref::Error) -> bool;
    let cases: [(Answer, Check); 3] = [
        (Answer::ok("012345678x"), |error| error.to_string().contains("expected sha256:")),
        (Answer::ok("012345678"), |error| error.to_string().contains("expected 10")),
        (Answer::status(404), oci_ref::Error::is_not_found),
    ];
    for (answer, check) in cases {
        let place = Place::new();
        std::fs::write(place.target(), b"old").unwrap();
        let server = Server::start(move |_| answer.clone()).await;
        let error = server.repository().download(&descriptor(), place.target()).await.unwrap_err();
        assert!(check(&error), "{error}");
        assert_eq!(place.only(), (place.target(), b"old".to_vec()), "{error}");
    }
    let place = Place::new();
    let held = std::fs::File::create(place.part()).unwrap();
    held.lock().unwrap();
    let server = Server::start(with_ranges).await;
    let error = server.repository().download(&descriptor(), place.target()).await.unwrap_err();
    assert!(error.to_string().contains("being written by another"), "{error}");
    assert!(place.part().exists() && server.seen().is_empty());
}

async fn open(server: &Server) -> BlobReader {
    server.repository().open(&descriptor()).await.unwrap()
}

async fn rest(reader: &mut BlobReader) -> std::io::Result<String> {
    let mut text = String::new();
    reader.read_to_string(&mut text).await.map(|_| text)
}

// covers: O3
#[tokio::test]
async fn a_reader_reads_and_seeks() {
    let server = Server::start(with_ranges).await;
    let mut reader = open(&server).await;
    assert!(reader.is_seekable());
    assert_eq!(reader.size(), 10);
    let mut three = [0; 3];
    reader.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"012");
    assert_eq!(rest(&mut reader).await.unwrap(), "3456789");
    assert_eq!(rest(&mut reader).await.unwrap(), "");
    assert_eq!(reader.seek(SeekFrom::End(-2)).await.unwrap(), 8);
    assert_eq!(rest(&mut reader).await.unwrap(), "89");
    assert_eq!(reader.seek(SeekFrom::Current(-6)).await.unwrap(), 4);
    reader.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"456");
    // Seeking to where it stands asks for nothing.
    assert_eq!(reader.seek(SeekFrom::Start(7)).await.unwrap(), 7);
    assert_eq!(rest(&mut reader).await.unwrap(), "789");
    assert_eq!(reader.seek(SeekFrom::Start(99)).await.unwrap(), 99);
    assert_eq!(rest(&mut reader).await.unwrap(), "");
    reader.rewind().await.unwrap();
    assert_eq!(rest(&mut reader).await.unwrap(), "0123456789");
    assert!(reader.seek(SeekFrom::Current(-11)).await.is_err());
    assert_eq!(requests(&server), ["HEAD -", "GET -", "GET bytes=8-", "GET bytes=4-", "GET -"]);
}

// covers: O3
#[tokio::test]
async fn a_registry_that_gives_no_parts_lets_a_reader_rewind_only() {
    let server = Server::start(|_| Answer::ok(CONTENT)).await;
    let mut reader = open(&server).await;
    assert!(!reader.is_seekable());
    assert_eq!(rest(&mut reader).await.unwrap(), "0123456789");
    let error = reader.seek(SeekFrom::Start(4)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    reader.rewind().await.unwrap();
    assert_eq!(rest(&mut reader).await.unwrap(), "0123456789");
}

// covers: O3
#[tokio::test]
async fn a_reader_verifies_what_it_reads_as_a_whole() {
    let server = Server::start(|_| Answer::ok("012345678x")).await;
    let mut reader = open(&server).await;
    let mut all = Vec::new();
    let error = reader.read_to_end(&mut all).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(all.len() < 10);
    assert!(reader.read_to_end(&mut all).await.is_err(), "once failed, it stays so");

    let other = Server::start(|_| Answer::ok("012345678")).await;
    let error = other.repository().open(&descriptor()).await.unwrap_err();
    assert!(error.to_string().contains("it has 9 bytes, expected 10"), "{error}");
    let missing = Server::start(|_| Answer::status(404)).await;
    assert!(missing.repository().open(&descriptor()).await.unwrap_err().is_not_found());
}

// covers: M11
#[tokio::test]
async fn a_reader_is_closed_from_another_task() {
    // Half of the body comes, and then nothing more.
    let server = Server::start(|seen| match seen.method.as_str() {
        "HEAD" => Answer::ok(CONTENT),
        _ => Answer::ok(&CONTENT[..5]).header("Content-Length", 10),
    })
    .await;
    let mut reader = open(&server).await;
    let closer = reader.closer();
    let (half_read, is_half_read) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut half = [0; 5];
        reader.read_exact(&mut half).await.unwrap();
        half_read.send(()).unwrap();
        let waiting = reader.read_u8().await.unwrap_err();
        (waiting, reader.read_u8().await.unwrap_err())
    });
    is_half_read.await.unwrap();
    closer.clone().close();
    let (waiting, later) = task.await.unwrap();
    assert_eq!(waiting.kind(), std::io::ErrorKind::ConnectionAborted);
    assert_eq!(later.kind(), std::io::ErrorKind::ConnectionAborted);
}

// covers: O12
#[tokio::test]
async fn references_as_people_write_them() {
    let server = Server::start(|_| Answer::status(404)).await;
    let (repository, host) = (server.repository_of(builder()), &server.host);
    let digest = Digest::sha256(b"x");
    let by_tag = Target::Tag("1.0".parse().unwrap());
    let by_digest = Target::Digest(digest.clone());
    let both = Target::Pinned("1.0".parse().unwrap(), digest.clone());
    let cases = [
        ("1.0".to_owned(), by_tag.clone()),
        (digest.to_string(), by_digest.clone()),
        (format!("@{digest}"), by_digest.clone()),
        (format!("1.0@{digest}"), both.clone()),
        (format!("{host}/a/b:1.0"), by_tag),
        (format!("{host}/a/b@{digest}"), by_digest),
        (format!("{host}/a/b:1.0@{digest}"), both),
    ];
    for (text, expected) in cases {
        assert_eq!(repository.parse_reference(&text).unwrap(), expected, "{text}");
    }
    let refused = [
        String::new(),
        "@".into(),
        "-x".into(),
        "sha256:12".into(),
        format!("1.0@{digest}@{digest}"),
        format!("-@{digest}"),
        // oras drops whatever stands before the digest; here a mistake is told.
        format!("-bad-@{digest}"),
        format!("{host}/a/b"),
        format!("{host}/a/c:1.0"),
        "other.example/a/b:1.0".into(),
        "a/b:1.0".into(),
    ];
    for text in refused {
        let error: Error = repository.parse_reference(&text).unwrap_err();
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
    }
}

// What Renovate, Helm and Kubernetes write down: the tag has moved since, or is gone.
// covers: O12, M8
#[tokio::test]
async fn a_tag_with_a_digest_means_the_digest() {
    let bytes = br#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = Digest::sha256(bytes);
    let right = Answer::ok(bytes).header("Content-Type", MediaType::OCI_IMAGE_INDEX);
    let moved = Answer::ok(br#"{"schemaVersion":2,"manifests":[ ]}"#)
        .header("Content-Type", MediaType::OCI_IMAGE_INDEX);
    let told = moved.clone().header("Docker-Content-Digest", Digest::sha256(b"another"));
    let text = format!("1.0@{digest}");
    let (tag, by_digest) =
        ("/v2/a/b/manifests/1.0".to_owned(), format!("/v2/a/b/manifests/{digest}"));
    for (tagged, asked_again) in [
        (right.clone(), false),
        (moved, true),
        (told, true),
        (Answer::status(404), true),
        (Answer::error(404, "MANIFEST_UNKNOWN"), true),
    ] {
        let answers = (tagged, right.clone().header("Docker-Content-Digest", &digest), tag.clone());
        let server = Server::start(move |seen| match seen.target == answers.2 {
            true => answers.0.clone(),
            false => answers.1.clone(),
        })
        .await;
        let repository = server.repository();
        let target = repository.parse_reference(&text).unwrap();
        let found = oci_ref::Source::manifest(&repository, &target).await.unwrap();
        assert_eq!(*found.digest(), digest);
        let mut expected = vec![format!("GET {tag}")];
        expected.extend(asked_again.then(|| format!("GET {by_digest}")));
        assert_eq!(server.lines(), expected);
        assert_eq!(oci_ref::Source::resolve(&repository, &target).await.unwrap().digest, digest);
        let read = repository.read(Some(&"1.0".parse().unwrap()), Some(&digest)).await.unwrap();
        assert_eq!(*read.digest(), digest);
    }
    // Refused is refused, and what is nowhere is not found.
    for (status, asked) in [(403, 1), (404, 2)] {
        let server = Server::start(move |_| Answer::status(status)).await;
        let repository = server.repository();
        let target = repository.parse_reference(&text).unwrap();
        let error = oci_ref::Source::manifest(&repository, &target).await.unwrap_err();
        assert_eq!(error.is_not_found(), status == 404, "{error}");
        assert_eq!(server.lines().len(), asked);
    }
}

// covers: O4, O11
#[tokio::test]
async fn what_is_there_is_described_and_pushed_by_reference() {
    let registry = oci_registry_server::TestRegistry::start().await.unwrap();
    let host: oci_spec_types::Host = registry.host().parse().unwrap();
    let client = builder().build().unwrap();
    let repository = client.registry(&host).unwrap().repository("a/b".parse().unwrap());
    let kind = MediaType::OCTET_STREAM;
    let layer = oci_ref::LayerContent::blob(kind.clone(), "hello");
    let pushed = oci_ref::ArtifactBuilder::new(kind).layer(layer);
    let pushed = pushed.write(&repository, &[]).await.unwrap();
    let blob = pushed.blobs().last().unwrap().clone();
    let head = repository.fetch_head(&blob).await.unwrap().unwrap();
    assert_eq!((head.size, head.ranges), (5, true));
    let head = repository.fetch_head(pushed.descriptor()).await.unwrap().unwrap();
    assert_eq!((head.size, head.ranges), (pushed.descriptor().size, false));
    let missing = Descriptor::of(MediaType::OCTET_STREAM, b"missing");
    assert_eq!(repository.fetch_head(&missing).await.unwrap(), None);

    let digest = pushed.digest();
    for reference in ["1.0".to_owned(), format!("2.0@{digest}"), format!("{host}/a/b:3.0")] {
        let content = pushed.bytes().clone();
        repository.push_reference(&reference, pushed.descriptor(), content).await.unwrap();
    }
    for tag in ["1.0", "2.0", "3.0"] {
        let tag: oci_spec_types::Tag = tag.parse().unwrap();
        assert_eq!(repository.resolve(&tag.into()).await.unwrap().digest, *digest);
    }
    let wrong = format!("4.0@{}", Digest::sha256(b"other"));
    let content = pushed.bytes().clone();
    let error = repository.push_reference(&wrong, pushed.descriptor(), content).await.unwrap_err();
    assert_eq!(error.code(), Some(&oci_spec_types::ErrorCode::DigestInvalid));
}
