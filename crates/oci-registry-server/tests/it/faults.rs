//! Answers that are not what was asked for.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, StatusCode};
use oci_registry_server::{
    Endpoint, Fault, FaultAnswer, FaultRule, MemoryRegistry, ServerOptions, TestRegistry,
};
use oci_spec_types::{Digest, ErrorCode};
use serde_json::{Value, json};

use crate::raw::{Digits, request};
use crate::support::{IMAGE, descriptor_of, image};

#[tokio::test]
async fn busy() {
    let busy = FaultAnswer::new(StatusCode::TOO_MANY_REQUESTS).error(ErrorCode::TooManyRequests);
    let seconds = busy.clone().retry_after(Duration::from_secs(7));
    let raw = Digits::with(FaultRule::new(seconds)).await.pull().await;
    assert_eq!(raw.status(), 429);
    assert_eq!(raw.header("retry-after"), Some("7"));
    assert_eq!(raw.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    assert_eq!(body["errors"][0]["code"], "TOOMANYREQUESTS");

    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let cases = [
        (at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"),
        (SystemTime::UNIX_EPOCH - Duration::from_secs(1), "Thu, 01 Jan 1970 00:00:00 GMT"),
        (at(1 << 40), "Fri, 31 Dec 9999 23:59:59 GMT"),
    ];
    for (date, expected) in cases {
        let rule = FaultRule::new(busy.clone().retry_after_date(date));
        let raw = Digits::with(rule).await.pull().await;
        assert_eq!(raw.header("retry-after"), Some(expected));
    }
}

#[tokio::test]
async fn any_status_with_any_body() {
    for status in [400, 403, 404, 500, 502, 503, 504] {
        let answer = FaultAnswer::new(StatusCode::from_u16(status).unwrap());
        let raw = Digits::with(FaultRule::new(answer)).await.pull().await;
        assert_eq!((raw.status(), raw.text()), (status, ""));
    }
    let html = HeaderValue::from_static("text/html");
    let answer = FaultAnswer::new(StatusCode::BAD_GATEWAY).body(html, "<h1>Bad gateway</h1>");
    let raw = Digits::with(FaultRule::new(answer)).await.pull().await;
    assert_eq!(raw.header("content-type"), Some("text/html"));
    assert_eq!(raw.text(), "<h1>Bad gateway</h1>");
}

#[tokio::test]
async fn who_sends_a_large_body_reads_the_answer() {
    let answer = FaultAnswer::new(StatusCode::SERVICE_UNAVAILABLE);
    let digits = Digits::with(FaultRule::new(answer)).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256(b""));
    let raw = digits.send(&request("POST", &path, "", &"x".repeat(4 << 20))).await;
    assert_eq!((raw.status(), raw.reset), (503, false));
}

#[tokio::test]
async fn redirects() {
    let memory = MemoryRegistry::new();
    let there = TestRegistry::with(memory, ServerOptions::new()).await.unwrap();
    let here = Digits::with(FaultRule::new(Fault::redirect_to(there.url()))).await;
    let raw = here.ask("GET", "/v2/a/tags/list?n=2", "").await;
    assert_eq!(raw.status(), 307);
    let location = format!("{}/v2/a/tags/list?n=2", there.url());
    assert_eq!(raw.header("location"), Some(location.as_str()));

    let other = FaultAnswer::redirect(StatusCode::FOUND, "https://cdn.example/x?sig=a b");
    let raw = Digits::with(FaultRule::new(other)).await.pull().await;
    assert_eq!(raw.status(), 302);
    assert_eq!(raw.header("location"), Some("https://cdn.example/x?sig=a b"));
}

#[tokio::test]
async fn digests_and_headers() {
    let digits = Digits::with(FaultRule::new(Fault::wrong_digest())).await;
    let raw = digits.pull().await;
    let named: Digest = raw.header("docker-content-digest").unwrap().parse().unwrap();
    assert_ne!(named, Digest::sha256(&raw.body));

    let name = HeaderName::from_static("docker-content-digest");
    let raw = Digits::with(FaultRule::new(Fault::without_header(name))).await.pull().await;
    assert_eq!(raw.header("docker-content-digest"), None);
    assert_eq!(raw.text(), "0123456789");

    let name = HeaderName::from_static("accept-ranges");
    let rule = FaultRule::new(Fault::header(name, HeaderValue::from_static("none")));
    assert_eq!(Digits::with(rule).await.pull().await.header("accept-ranges"), Some("none"));
}

#[tokio::test]
async fn ranges() {
    let range = "Range: bytes=2-4\r\n";
    let digits = Digits::with(FaultRule::new(Fault::wrong_content_range())).await;
    let raw = digits.ask("GET", &digits.path, range).await;
    assert_eq!((raw.status(), raw.text()), (206, "234"));
    assert_eq!(raw.header("content-range"), Some("bytes 3-5/10"));
    assert_eq!(digits.pull().await.header("content-range"), None);

    let digits = Digits::with(FaultRule::new(Fault::whole_for_range())).await;
    let raw = digits.ask("GET", &digits.path, range).await;
    assert_eq!((raw.status(), raw.text()), (200, "0123456789"));
    assert_eq!(raw.header("content-range"), None);
    let recorded = &digits.registry.requests()[0];
    assert_eq!(recorded.headers["range"], "bytes=2-4", "what was asked is recorded");
}

#[tokio::test]
async fn a_mount_becomes_an_upload() {
    let digits = Digits::with(FaultRule::new(Fault::no_mount()).first(1)).await;
    let digest = digits.path.rsplit_once('/').unwrap().1;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let raw = digits.ask("POST", &path, "").await;
    assert_eq!(raw.status(), 202);
    assert!(raw.header("location").unwrap().starts_with("/v2/b/blobs/uploads/"));
    assert_eq!(digits.registry.requests()[0].endpoint, Endpoint::MountBlob);
    assert_eq!(digits.ask("POST", &path, "").await.status(), 201);
}

#[tokio::test]
async fn locations() {
    let begin = request("POST", "/v2/a/blobs/uploads/", "", "");
    let location = |fault| {
        let begin = begin.clone();
        async move {
            let digits = Digits::with(FaultRule::new(fault)).await;
            let raw = digits.send(&begin).await;
            assert_eq!(raw.status(), 202);
            (raw.header("location").map(str::to_owned), digits)
        }
    };
    let (missing, _) = location(Fault::without_header(http::header::LOCATION)).await;
    assert_eq!(missing, None);

    let (relative, digits) = location(Fault::location_relative()).await;
    let id = relative.unwrap();
    assert!(!id.contains('/'), "{id}");
    let raw = digits.ask("GET", &format!("/v2/a/blobs/uploads/{id}"), "").await;
    assert_eq!(raw.status(), 204, "it is where it says, seen from the request");

    let (absolute, _) = location(Fault::location_on("https://other.example/")).await;
    assert!(absolute.unwrap().starts_with("https://other.example/v2/a/blobs/uploads/"));

    let (query, digits) = location(Fault::location_query("_state=a%2Fb")).await;
    let query = query.unwrap();
    assert!(query.ends_with("?_state=a%2Fb"), "{query}");
    let raw = digits.ask("PUT", &format!("{query}&digest={}", Digest::sha256(b"")), "").await;
    assert_eq!(raw.status(), 201, "the registry takes it back");
    let both = raw.header("location").unwrap();
    assert!(both.ends_with("?_state=a%2Fb"), "{both}");
}

#[tokio::test]
async fn lists_that_are_null() {
    let digits = Digits::with(FaultRule::new(Fault::null_lists())).await;
    let raw = digits.ask("GET", "/v2/a/tags/list", "").await;
    assert_eq!(raw.status(), 200);
    assert_eq!(raw.header("content-length"), Some(raw.body.len().to_string().as_str()));
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    assert_eq!(body, json!({"name": "a", "tags": null}));
    let body: Value =
        serde_json::from_slice(&digits.ask("GET", "/v2/_catalog", "").await.body).unwrap();
    assert_eq!(body, json!({"repositories": null}));
    assert_eq!(digits.pull().await.text(), "0123456789", "what is no object stays as it is");
}

#[tokio::test]
async fn a_registry_without_referrers() {
    let digits = Digits::start(TestRegistry::builder().without_referrers()).await;
    let path = format!("/v2/a/referrers/{}", Digest::sha256(b"subject"));
    let raw = digits.ask("GET", &path, "").await;
    assert_eq!((raw.status(), raw.text()), (404, ""));
    let digest = Digest::sha256(b"{}");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(digits.send(&request("POST", &path, "", "{}")).await.status(), 201);
    let mut manifest = image(&[]);
    manifest["subject"] = descriptor_of(&image(&["x"]));
    let content_type = format!("Content-Type: {IMAGE}\r\n");
    let put = request("PUT", "/v2/a/manifests/v1", &content_type, &manifest.to_string());
    let raw = digits.send(&put).await;
    assert_eq!((raw.status(), raw.header("oci-subject")), (201, None));
    digits.registry.clear_faults();
    assert_ne!(digits.send(&put).await.header("oci-subject"), None);
}
