//! What errors and warnings say, and what they do not.

use std::sync::{Arc, Mutex};

use oci_ref::Source;
use oci_registry_client::{Client, Error, PlainHttp, Warning};
use oci_spec_types::{Digest, ErrorCode, Host, Tag};

use crate::server::{Answer, Server, builder};

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

// covers: M13, M14
#[tokio::test]
async fn errors_name_the_request_and_what_was_answered() {
    let server = Server::start(|_| Answer::error(404, "MANIFEST_UNKNOWN")).await;
    let error = server.repository().manifest(&tag().into()).await.unwrap_err();
    assert!(error.is_not_found());
    let host = &server.host;
    assert_eq!(
        error.to_string(),
        format!(
            "GET http://{host}/v2/a/b/manifests/1.0: 404 Not Found: MANIFEST_UNKNOWN: scripted"
        )
    );
    assert_eq!(error.chain(), error.to_string(), "each is said once");
    let client = error.find_source::<Error>().unwrap();
    assert_eq!(
        client.to_string(),
        format!(
            "GET http://{host}/v2/a/b/manifests/1.0: 404 Not Found: MANIFEST_UNKNOWN: scripted"
        )
    );
    assert_eq!((client.status(), client.code()), (Some(404), Some(&ErrorCode::ManifestUnknown)));
    assert!(!client.is_retryable());
}

// covers: M9, M14
#[tokio::test]
async fn at_most_two_kibibytes_of_a_body_are_shown() {
    let server = Server::start(|_| Answer::status(500).body("x".repeat(1 << 20))).await;
    let error = server.repository().manifest(&tag().into()).await.unwrap_err();
    let client = error.find_source::<Error>().unwrap();
    assert_eq!(client.body().unwrap().len(), 2048 + '…'.len_utf8());
    assert!(client.is_retryable());
}

// covers: O20
#[tokio::test]
async fn warnings_are_handed_over_once() {
    let told: Arc<Mutex<Vec<Warning>>> = Arc::default();
    let kept = told.clone();
    let server = Server::start(|seen| {
        Answer::status(if seen.target.contains("blobs") { 404 } else { 401 })
            .header("Warning", r#"299 - "use \"c\" instead""#)
            .header("Warning", r#"199 - "not for people""#)
            .header("Warning", format!(r#"299 - "{}""#, seen.method))
    })
    .await;
    let repository = server.repository_of(
        builder().on_warning(move |warning| kept.lock().unwrap().push(warning.clone())),
    );
    for _ in 0..2 {
        let _ = repository.manifest(&tag().into()).await;
        let _ = repository.blob_size(&Digest::sha256(b"")).await;
    }
    let texts: Vec<_> = told.lock().unwrap().iter().map(|warning| warning.text.clone()).collect();
    assert_eq!(texts, [r#"use "c" instead"#, "GET", "HEAD"]);
    assert_eq!(told.lock().unwrap()[0].host, server.host);
}

/// OpenShift's registries say with every answer that they keep signatures, by an extension.
// covers: C11
#[tokio::test]
async fn a_registry_that_keeps_signatures_elsewhere_is_known_once_it_has_answered() {
    for (value, known) in [("1", true), ("0", false)] {
        let server = Server::start(move |_| {
            Answer::status(404).header("X-Registry-Supports-Signatures", value)
        })
        .await;
        let repository = server.repository();
        assert_eq!(repository.signatures_elsewhere(), None);
        repository.manifest(&tag().into()).await.unwrap_err();
        let place = repository.signatures_elsewhere();
        assert_eq!(place.is_some_and(|place| place.contains(server.host.as_str())), known);
    }
}

#[tokio::test]
async fn ping() {
    let there = Server::answering([Answer::ok("{}")]).await;
    there.repository().registry().ping().await.unwrap();
    assert_eq!(there.lines(), ["GET /v2/"]);
    let absent = Server::answering([Answer::status(404)]).await;
    let error = absent.repository().registry().ping().await.unwrap_err();
    assert_eq!(*error.kind(), oci_ref::ErrorKind::Code(ErrorCode::Unsupported));
}

#[tokio::test]
async fn plain_http_is_for_those_it_is_for() {
    let server = Server::start(|_| Answer::ok("{}")).await;
    let other: Host = "registry.example".parse().unwrap();
    let cases = [
        (PlainHttp::LoopbackAnd([other.clone()].into()), true),
        (PlainHttp::Loopback, true),
        (PlainHttp::Always, true),
        (PlainHttp::Hosts([server.host.clone()].into()), true),
        (PlainHttp::Never, false),
        (PlainHttp::Hosts([other].into()), false),
    ];
    for (plain, reached) in cases {
        let client = builder().plain_http(plain.clone()).build().unwrap();
        let answer = client.registry(&server.host).unwrap().ping().await;
        assert_eq!(answer.is_ok(), reached, "{plain:?}: {answer:?}");
        if let Err(error) = answer {
            assert!(error.to_string().starts_with("GET https://"), "{error}");
        }
    }
}

#[test]
fn a_builder_fails_rather_than_falls_back() {
    assert!(Client::builder().concurrency(0).build().is_err());
    assert!(Client::builder().chunk_size(0).build().is_err());
    assert!(Client::builder().add_root_certificates("nonsense").build().is_err());
    assert!(Client::builder().client_certificate("nonsense", "nonsense").build().is_err());
    assert!(Client::builder().user_agent("a\nb").build().is_err());
}

#[test]
fn docker_hub_is_where_its_registry_answers() {
    let client = Client::builder().build().unwrap();
    let registry = client.registry(&"docker.io".parse().unwrap()).unwrap();
    assert_eq!(registry.host().as_str(), "docker.io");
    assert!(format!("{registry:?}").contains("https://registry-1.docker.io/v2/"));
}
