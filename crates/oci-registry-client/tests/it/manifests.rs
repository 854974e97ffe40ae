//! Pulling manifests: what is verified, and what of an answer is trusted.

use oci_ref::{Error, ErrorKind, Source, Store, Target};
use oci_spec_types::{Algorithm, Digest, ErrorCode, MediaType, Tag};

use crate::server::{Answer, Server, builder};

const INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

fn digest() -> Digest {
    Digest::sha256(INDEX)
}

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

fn other_digest() -> Digest {
    Digest::sha256(b"other")
}

fn index_answer() -> Answer {
    Answer::ok(INDEX).header("Content-Type", INDEX_TYPE)
}

// covers: M8, O1
#[tokio::test]
async fn by_tag_by_digest_and_by_tag_verified_by_digest() {
    let cases = [
        (Some(tag()), None, "/v2/a/b/manifests/1.0".to_owned()),
        (None, Some(digest()), format!("/v2/a/b/manifests/{}", digest())),
        (Some(tag()), Some(digest()), "/v2/a/b/manifests/1.0".to_owned()),
    ];
    let server = Server::start(|_| index_answer()).await;
    let repository = server.repository();
    for (tag, digest, target) in cases {
        let read = repository.read(tag.as_ref(), digest.as_ref()).await.unwrap();
        assert_eq!(read.as_index().unwrap().manifest().bytes().as_ref(), INDEX);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.line(), format!("GET {target}"));
        assert!(seen.header("accept").unwrap().contains(INDEX_TYPE));
    }
    let neither = repository.read(None, None).await.unwrap_err();
    assert_eq!(*neither.kind(), ErrorKind::Invalid);

    let wrong = repository.read(Some(&tag()), Some(&other_digest())).await.unwrap_err();
    assert_eq!(wrong.code(), Some(&ErrorCode::DigestInvalid));
    assert!(wrong.to_string().contains(other_digest().as_str()), "{wrong}");

    // By a whole reference, and by a clone, which shares all with the first.
    let whole = format!("{}/a/b:1.0@{}", server.host, digest()).parse().unwrap();
    let client = builder().build().unwrap();
    let named = client.clone().repository(&whole).unwrap().clone();
    assert_eq!(named.to_string(), repository.to_string());
    named.read(whole.tag(), whole.digest()).await.unwrap();
    assert_eq!(server.lines().pop().unwrap(), "GET /v2/a/b/manifests/1.0");

    let sibling = repository.sibling("c".parse().unwrap());
    sibling.read(Some(&tag()), None).await.unwrap();
    assert_eq!(server.lines().pop().unwrap(), "GET /v2/c/manifests/1.0");
}

#[tokio::test]
async fn the_manifest_types_asked_for_can_be_chosen() {
    let server = Server::start(|_| index_answer()).await;
    let repository = server.repository_of(builder().manifest_types([MediaType::OCI_IMAGE_INDEX]));
    repository.manifest(&tag().into()).await.unwrap();
    assert_eq!(server.seen()[0].header("accept"), Some(INDEX_TYPE));
}

struct Case {
    content_type: Option<&'static str>,
    length: Option<usize>,
    server_digest: Option<String>,
    client_digest: Option<Digest>,
    head: Expect,
    get: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// It suffices.
    Fine,
    /// It does not suffice, and the manifest is read instead.
    Reads,
    /// It is an error with this code.
    Fails(ErrorCodeName),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ErrorCodeName {
    Digest,
    Manifest,
}

// covers: O8, O9, O7
#[tokio::test]
async fn what_an_answer_must_have_and_must_not_contradict() {
    use ErrorCodeName::{Digest as BadDigest, Manifest as BadManifest};
    use Expect::{Fails, Fine, Reads};
    let (right, wrong) = (digest().to_string(), other_digest().to_string());
    let sha512 = Algorithm::Sha512.digest(INDEX);
    let case = |content_type, server: Option<&str>, client: Option<Digest>, head, get| Case {
        content_type,
        length: None,
        server_digest: server.map(str::to_owned),
        client_digest: client,
        head,
        get,
    };
    let index = Some(INDEX_TYPE);
    let cases = [
        case(index, Some(&right), None, Fine, Fine),
        case(index, Some(&right), Some(digest()), Fine, Fine),
        case(index, None, Some(digest()), Fine, Fine),
        case(index, None, None, Reads, Fine),
        case(
            Some("Application/vnd.oci.image.index.v1+json; charset=utf-8"),
            Some(&right),
            None,
            Fine,
            Fine,
        ),
        case(None, Some(&right), None, Reads, Fine),
        case(Some("text/plain"), Some(&right), None, Reads, Fine),
        case(Some("nonsense"), Some(&right), None, Reads, Fine),
        case(
            Some("application/vnd.oci.image.manifest.v1+json"),
            Some(&right),
            None,
            Fine,
            Fails(BadManifest),
        ),
        case(index, Some(&wrong), None, Fine, Fails(BadDigest)),
        case(index, Some(&wrong), Some(digest()), Fails(BadDigest), Fails(BadDigest)),
        case(index, Some(&right), Some(other_digest()), Fails(BadDigest), Fails(BadDigest)),
        case(index, None, Some(other_digest()), Fine, Fails(BadDigest)),
        case(index, Some("nonsense"), None, Fails(BadDigest), Fails(BadDigest)),
        case(index, Some("nonsense"), Some(digest()), Fails(BadDigest), Fails(BadDigest)),
        case(index, Some(&right), Some(sha512.clone()), Reads, Fine),
        case(index, Some(&wrong), Some(sha512.clone()), Reads, Fails(BadDigest)),
        case(index, Some(sha512.as_str()), None, Fine, Fine),
        case(index, Some("other:abc"), None, Reads, Fine),
        Case { length: Some(7), ..case(index, Some(&right), None, Fine, Fine) },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let mut answer = Answer::ok(INDEX);
        for (name, value) in [
            ("Content-Type", case.content_type),
            ("Docker-Content-Digest", case.server_digest.as_deref()),
        ] {
            if let Some(value) = value {
                answer = answer.header(name, value);
            }
        }
        let head = match case.length {
            Some(length) => answer.clone().header("Content-Length", length),
            None => answer.clone(),
        };
        let get = answer;
        let server = Server::start(
            move |seen| if seen.method == "HEAD" { head.clone() } else { get.clone() },
        )
        .await;
        let target = match case.client_digest.clone() {
            Some(digest) => Target::Digest(digest),
            None => Target::Tag(tag()),
        };

        let resolved = server.repository().resolve(&target).await;
        let lines: Vec<_> = server.seen().iter().map(|seen| seen.method.clone()).collect();
        match (case.head, resolved) {
            (Expect::Fails(code), Err(error)) => check(number, code, &error),
            (Expect::Fine, Ok(found)) => {
                assert_eq!(lines, ["HEAD"], "case {number}");
                assert_eq!(found.size, case.length.unwrap_or(INDEX.len()) as u64, "case {number}");
            }
            (Expect::Reads, found) => {
                assert_eq!(lines, ["HEAD", "GET"], "case {number}");
                assert_eq!(found.is_ok(), case.get == Fine, "case {number}: {found:?}");
            }
            (expected, found) => {
                panic!("case {number}: expected {expected:?} of HEAD, found {found:?}")
            }
        }

        match (case.get, server.repository().manifest(&target).await) {
            (Expect::Fails(code), Err(error)) => check(number, code, &error),
            (Expect::Fine, Ok(found)) => {
                assert_eq!(found.bytes().as_ref(), INDEX, "case {number}");
                assert_eq!(found.media_type(), &MediaType::OCI_IMAGE_INDEX, "case {number}");
                if let Some(expected) = &case.client_digest {
                    assert_eq!(found.digest(), expected, "case {number}");
                }
            }
            (expected, found) => {
                panic!("case {number}: expected {expected:?} of GET, found {found:?}")
            }
        }
    }
}

fn check(number: usize, code: ErrorCodeName, error: &Error) {
    let expected = match code {
        ErrorCodeName::Digest => ErrorCode::DigestInvalid,
        ErrorCodeName::Manifest => ErrorCode::ManifestInvalid,
    };
    assert_eq!(error.code(), Some(&expected), "case {number}: {error:?}");
}

// covers: M9, O11 (a length that is not known)
#[tokio::test]
async fn manifests_are_limited_whether_their_length_is_said_or_not() {
    for answer in [index_answer(), index_answer().lengthless()] {
        let server = Server::start(move |_| answer.clone()).await;
        let repository = server.repository_of(builder().manifest_limit(INDEX.len() as u64 - 1));
        let error = repository.manifest(&tag().into()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: INDEX.len() as u64 - 1 });
        let repository = server.repository_of(builder().manifest_limit(INDEX.len() as u64));
        repository.manifest(&tag().into()).await.unwrap();
    }
    // 50 MiB if nothing else is said.
    let limit = 50 << 20;
    let server =
        Server::start(move |_| index_answer().header("Content-Length", limit + 1).cut(2)).await;
    let error = server.repository().manifest(&tag().into()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit });
    let padded = [INDEX, &vec![b' '; limit as usize - INDEX.len()]].concat();
    let server = Server::start(move |_| Answer::ok(&padded)).await;
    let largest = server.repository().manifest(&tag().into()).await.unwrap();
    assert_eq!(largest.bytes().len() as u64, limit);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    for body in ["", "{", "[]", "null", r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#] {
        let server = Server::answering([Answer::ok(body).header("Content-Type", INDEX_TYPE)]).await;
        let error = server.repository().manifest(&tag().into()).await.unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{body}: {error}");
    }
}

// covers: O19
#[tokio::test]
async fn deleting() {
    let server =
        Server::start(|seen| match (seen.method.as_str(), seen.target.contains("sha256")) {
            ("GET", _) => index_answer(),
            (_, true) => Answer::status(202).header("Docker-Content-Digest", digest()),
            (_, false) => Answer::status(202),
        })
        .await;
    let repository = server.repository();
    repository.delete_tag(&tag()).await.unwrap();
    repository.delete_manifest(&digest()).await.unwrap();
    assert_eq!(server.lines().last().unwrap(), &format!("DELETE /v2/a/b/manifests/{}", digest()));
    assert_eq!(server.lines()[0], "DELETE /v2/a/b/manifests/1.0");

    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => index_answer(),
        _ => Answer::status(202).header("Docker-Content-Digest", other_digest()),
    })
    .await;
    let error = server.repository().delete_manifest(&digest()).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    let error = server.repository().delete_blob(&digest()).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));

    for (status, check) in
        [(404, Error::is_not_found as fn(&Error) -> bool), (405, Error::is_unsupported)]
    {
        let server = Server::start(move |_| Answer::status(status)).await;
        assert!(check(&server.repository().delete_tag(&tag()).await.unwrap_err()), "{status}");
        assert!(
            check(&server.repository().delete_manifest(&digest()).await.unwrap_err()),
            "{status}"
        );
        assert!(check(&server.repository().delete_blob(&digest()).await.unwrap_err()), "{status}");
    }
}

// covers: M9, O8
#[tokio::test]
async fn what_is_fetched_by_its_descriptor_is_what_the_descriptor_says() {
    let server = Server::start(|_| index_answer()).await;
    let right = oci_spec_types::Descriptor::of(MediaType::OCI_IMAGE_INDEX, INDEX);
    let mut wrong = [right.clone(), right.clone(), right.clone()];
    wrong[0].size -= 1;
    wrong[1].size += 1;
    wrong[2].media_type = MediaType::DOCKER_MANIFEST_LIST;
    for (descriptor, said) in
        wrong.iter().zip(["bytes, expected", "bytes, expected", "manifest came as"])
    {
        let error = server.repository().fetch(descriptor).await.err().unwrap();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.is_retryable());
    }
    server.repository().fetch(&right).await.unwrap();
    // Nothing is asked for but the type that it has.
    let accepted: Vec<_> =
        server.seen().iter().map(|seen| seen.header("accept").unwrap().to_owned()).collect();
    let docker = MediaType::DOCKER_MANIFEST_LIST.to_string();
    assert_eq!(accepted, [INDEX_TYPE, INDEX_TYPE, &docker, INDEX_TYPE]);

    let claims = index_answer().header("Docker-Content-Digest", other_digest());
    let server = Server::start(move |_| claims.clone()).await;
    let error = server.repository().fetch(&right).await.err().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
}

// covers: O2, O8
#[tokio::test]
async fn no_manifest_types_are_the_default_ones() {
    let server = Server::start(|_| index_answer()).await;
    let manifest = oci_spec_types::Descriptor::of(MediaType::OCI_IMAGE_INDEX, INDEX);
    for repository in [server.repository(), server.repository_of(builder().manifest_types([]))] {
        assert!(repository.exists(&manifest).await.unwrap());
    }
    let seen = server.seen();
    assert_eq!(seen[1].line(), format!("HEAD /v2/a/b/manifests/{}", digest()));
    assert_eq!(seen[1].header("accept"), seen[0].header("accept"));
    assert!(seen[0].header("accept").unwrap().contains(INDEX_TYPE));
}

// covers: O2, O11 (a tag for what is there)
#[tokio::test]
async fn writing_deleting_and_tagging_choose_by_the_media_type_too() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up"),
        "PUT" => Answer::status(201),
        "DELETE" => Answer::status(202),
        _ if seen.target.contains("missing") => Answer::status(404),
        _ => index_answer(),
    })
    .await;
    let manifest = oci_spec_types::Descriptor::of(MediaType::OCI_IMAGE_INDEX, INDEX);
    let blob = oci_spec_types::Descriptor::of(MediaType::OCTET_STREAM, INDEX);
    let digest = digest();
    let escaped = digest.as_str().replace(':', "%3A");
    let content = bytes::Bytes::from_static(INDEX);
    let as_manifest = [
        format!("PUT /v2/a/b/manifests/{digest}"),
        format!("HEAD /v2/a/b/manifests/{digest}"),
        // Whether something lists it as its subject.
        format!("GET /v2/a/b/manifests/{digest}"),
        format!("DELETE /v2/a/b/manifests/{digest}"),
    ];
    let as_blob = [
        "POST /v2/a/b/blobs/uploads/".to_owned(),
        format!("PUT /up?digest={escaped}"),
        format!("HEAD /v2/a/b/blobs/{digest}"),
        format!("DELETE /v2/a/b/blobs/{digest}"),
    ];
    // The types by which it is told can be others.
    let none = builder().manifest_types([MediaType::OCI_IMAGE_MANIFEST]);
    let cases = [
        (server.repository(), &manifest, &as_manifest),
        (server.repository(), &blob, &as_blob),
        (server.repository_of(none), &manifest, &as_blob),
    ];
    for (repository, descriptor, expected) in cases {
        let before = server.lines().len();
        repository.push(descriptor, content.clone()).await.unwrap();
        repository.push_if_missing(descriptor, content.clone()).await.unwrap();
        repository.delete(descriptor).await.unwrap();
        assert_eq!(server.lines()[before..], expected[..], "{}", descriptor.media_type);
    }
    let before = server.lines().len();
    server.repository().tag(&Target::Digest(digest.clone()), &tag()).await.unwrap();
    let tagged =
        [format!("GET /v2/a/b/manifests/{digest}"), "PUT /v2/a/b/manifests/1.0".to_owned()];
    assert_eq!(server.lines()[before..], tagged);
}

// covers: O2
#[tokio::test]
async fn the_media_type_chooses_between_manifest_and_blob() {
    let server = Server::start(|_| index_answer()).await;
    let repository = server.repository();
    let manifest = oci_spec_types::Descriptor::of(MediaType::OCI_IMAGE_INDEX, INDEX);
    let blob = oci_spec_types::Descriptor::of(MediaType::OCTET_STREAM, INDEX);
    for (descriptor, path) in [(&manifest, "manifests"), (&blob, "blobs")] {
        assert_eq!(
            repository.fetch(descriptor).await.unwrap().into_bytes(1000).await.unwrap(),
            INDEX
        );
        assert!(repository.exists(descriptor).await.unwrap());
        let lines = server.lines();
        let last = &lines[lines.len() - 2..];
        assert_eq!(last[0], format!("GET /v2/a/b/{path}/{}", digest()));
        assert_eq!(last[1], format!("HEAD /v2/a/b/{path}/{}", digest()));
    }
}
