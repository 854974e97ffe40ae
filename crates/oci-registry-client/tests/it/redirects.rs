//! Redirects: followed, bounded, and without credentials for another host.

use oci_ref::{ByteRange, Source, Target};
use oci_registry_client::{Credentials, Repository, StaticCredentials};
use oci_spec_types::{Digest, ErrorCode, Tag};

use crate::server::{Answer, Server, builder};

const CONTENT: &[u8] = b"0123456789";

fn with_password(server: &Server) -> Repository {
    let credentials =
        StaticCredentials::new().with(server.host.clone(), Credentials::basic("alice", "secret"));
    server.repository_of(builder().credentials(credentials))
}

async fn read(repository: &Repository) -> oci_ref::Result<bytes::Bytes> {
    let descriptor =
        oci_spec_types::Descriptor::of(oci_spec_types::MediaType::OCTET_STREAM, CONTENT);
    oci_ref::Blob::open(repository, &descriptor).await?.into_bytes(100).await
}

// covers: O3
#[tokio::test]
async fn another_host_sees_no_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let storage = Server::start(|_| Answer::ok(CONTENT)).await;
        let location = storage.url("/blob?signature=abc");
        let registry = Server::start(move |seen| match seen.header("authorization") {
            None => Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            Some(_) => Answer::status(status).header("Location", &location),
        })
        .await;
        assert_eq!(read(&with_password(&registry)).await.unwrap(), CONTENT);
        assert_eq!(registry.seen().len(), 2);
        assert_eq!(registry.seen()[1].header("authorization"), Some("Basic YWxpY2U6c2VjcmV0"));
        let seen = storage.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].line(), "GET /blob?signature=abc");
        assert_eq!(seen[0].header("authorization"), None);
    }
}

// covers: O1
#[tokio::test]
async fn the_caller_s_own_http_client_follows_no_redirects_either() {
    let storage = Server::start(|_| Answer::ok(CONTENT)).await;
    let location = storage.url("/blob");
    let registry = Server::start(move |seen| match seen.header("authorization") {
        None => Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::status(307).header("Location", &location),
    })
    .await;
    let own = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5));
    let credentials =
        StaticCredentials::new().with(registry.host.clone(), Credentials::basic("alice", "secret"));
    let repository =
        registry.repository_of(builder().http(own).user_agent("mine/1").credentials(credentials));
    assert_eq!(read(&repository).await.unwrap(), CONTENT);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    assert_eq!(storage.seen()[0].header("user-agent"), Some("mine/1"));
    assert_eq!(storage.seen()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(storage.seen()[0].header("referer"), None);
}

#[tokio::test]
async fn a_demand_of_another_host_is_not_met() {
    // The last would have the password sent to a token service of the thief's.
    for demand in ["Basic realm=\"x\"", "Bearer realm=\"/token\",service=\"s\""] {
        for asks_first in [false, true] {
            let thief = Server::start(move |seen| match seen.target.starts_with("/token") {
                true => Answer::ok(r#"{"token":"t"}"#),
                false => Answer::status(401).header("WWW-Authenticate", demand),
            })
            .await;
            let location = thief.url("/blob");
            let registry = Server::start(move |seen| match seen.header("authorization") {
                None if asks_first => {
                    Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")
                }
                _ => Answer::status(307).header("Location", &location),
            })
            .await;
            let repository = with_password(&registry);
            // The second time the client knows what the registry wants.
            for _ in 0..2 {
                let error = read(&repository).await.unwrap_err();
                assert!(error.is_unauthorized(), "{error}");
            }
            assert_eq!(thief.lines(), ["GET /blob", "GET /blob"]);
            assert!(thief.seen().iter().all(|seen| seen.header("authorization").is_none()));
        }
    }
}

#[tokio::test]
async fn the_same_host_still_sees_them() {
    let registry =
        Server::start(|seen| match (seen.header("authorization"), seen.target.as_str()) {
            (None, _) => Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            (_, "/elsewhere") => Answer::ok(CONTENT),
            _ => Answer::status(307).header("Location", "/elsewhere"),
        })
        .await;
    assert_eq!(read(&with_password(&registry)).await.unwrap(), CONTENT);
    assert!(registry.seen()[2].header("authorization").is_some());
}

#[tokio::test]
async fn they_end_somewhere() {
    let registry = Server::start(|_| Answer::status(307).header("Location", "/again")).await;
    let error = read(&registry.repository()).await.unwrap_err();
    assert!(error.to_string().contains("redirected more than 10 times"), "{error}");
    assert_eq!(registry.seen().len(), 11);
}

#[tokio::test]
async fn what_leads_nowhere_is_an_error() {
    for answer in [
        Answer::status(307),
        Answer::status(307).header("Location", "ftp://r.example/x"),
        Answer::status(307).header("Location", "http://"),
    ] {
        let registry = Server::start(move |_| answer.clone()).await;
        let error = read(&registry.repository()).await.unwrap_err();
        assert!(
            error.to_string().contains("Location") || error.to_string().contains("leads to"),
            "{error}"
        );
    }
}

// covers: M13
#[tokio::test]
async fn errors_after_redirects_hide_secrets() {
    let storage = Server::start(|_| Answer::status(403).body("<Error>no</Error>")).await;
    let location = storage
        .url("/blob?X-Amz-Signature=topsecret&service=s")
        .replace("http://", "http://user:topsecret@");
    let registry = Server::start(move |_| Answer::status(307).header("Location", &location)).await;
    let error = read(&registry.repository()).await.unwrap_err();
    let client: &oci_registry_client::Error = error.find_source().unwrap();
    let expected = format!(
        "GET {}: 403 Forbidden: <Error>no</Error>",
        storage.url("/blob?X-Amz-Signature=REDACTED&service=s")
    );
    assert_eq!(client.to_string(), expected);
    assert!(error.is_denied() && client.is_denied());
    assert!(!format!("{error:?} {client:?}").contains("topsecret"));
    assert!(storage.seen()[0].header("authorization").is_none());
}

#[tokio::test]
async fn manifests_are_followed_too() {
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let registry = Server::start(move |seen| match seen.target.as_str() {
        "/m" => Answer::ok(index),
        _ => Answer::status(303).header("Location", "/m"),
    })
    .await;
    let tag: Tag = "1.0".parse().unwrap();
    let found = registry.repository().manifest(&Target::Tag(tag)).await.unwrap();
    assert_eq!(*found.digest(), Digest::sha256(index));
}

#[tokio::test]
async fn an_answer_that_is_no_answer() {
    for status in [304, 300, 204] {
        let registry = Server::start(move |_| Answer::status(status)).await;
        let error = registry
            .repository()
            .blob(&Digest::sha256(CONTENT), ByteRange::All)
            .await
            .err()
            .unwrap();
        assert_ne!(error.code(), Some(&ErrorCode::BlobUnknown));
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}
