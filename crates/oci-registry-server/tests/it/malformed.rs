//! Malformed requests: the right 4xx in the spec's form, whatever is malformed.

use http::Method;
use oci_spec_types::Digest;
use proptest::prelude::*;

use crate::support::Api;

// spec: R4, R5, R17, R51, R70, R71
#[tokio::test]
async fn paths_and_queries() {
    let api = Api::start().await;
    api.push_image("a", "v1", "layer").await;
    let digest = Digest::sha256(b"layer");
    let upper = digest.to_string().to_uppercase();
    let long = "a".repeat(256);
    let get = Method::GET;
    let cases = [
        (&get, "/v2/a".to_owned(), 404, "UNSUPPORTED"),
        (&get, "/v2/a/b/c".to_owned(), 404, "UNSUPPORTED"),
        (&get, "/v2/a/tags/".to_owned(), 404, "UNSUPPORTED"),
        (&get, "/v2/A/tags/list".to_owned(), 400, "NAME_INVALID"),
        (&get, "/v2/-a/tags/list".to_owned(), 400, "NAME_INVALID"),
        (&get, "/v2/a/../a/tags/list".to_owned(), 400, "NAME_INVALID"),
        (&get, "/v2/%2e%2e/tags/list".to_owned(), 400, "NAME_INVALID"),
        (&get, "/v2//tags/list".to_owned(), 400, "NAME_INVALID"),
        (&get, format!("/v2/{long}/tags/list"), 400, "NAME_INVALID"),
        (&get, format!("/v2/{}tags/list", "a/".repeat(1000)), 400, "NAME_INVALID"),
        (&get, "/v2/a%2Fb/tags/list".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/manifests/%".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/manifests/%ff".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/manifests/%00".to_owned(), 400, "MANIFEST_INVALID"),
        (&get, "/v2/a/manifests/-v1".to_owned(), 400, "MANIFEST_INVALID"),
        (&get, format!("/v2/a/manifests/{long}"), 400, "MANIFEST_INVALID"),
        (&get, "/v2/a/manifests/sha256:x".to_owned(), 400, "DIGEST_INVALID"),
        (&get, format!("/v2/a/manifests/v1@{digest}"), 400, "DIGEST_INVALID"),
        (&get, format!("/v2/a/blobs/{upper}"), 400, "DIGEST_INVALID"),
        (&get, format!("/v2/a/blobs/{digest}0"), 400, "DIGEST_INVALID"),
        (&get, "/v2/a/blobs/v1".to_owned(), 400, "DIGEST_INVALID"),
        (&get, "/v2/a/blobs/".to_owned(), 400, "DIGEST_INVALID"),
        (&get, "/v2/a/referrers/x".to_owned(), 400, "DIGEST_INVALID"),
        (&get, "/v2/a/blobs/uploads/..".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (&get, "/v2/a/blobs/uploads/%5c".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (&get, "/v2/a/blobs/uploads/unknown".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (&get, "/v2/a/tags/list?n=x".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/tags/list?n=-1".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/tags/list?n=".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/tags/list?n=1&n=2".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/tags/list?n=%zz".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/a/tags/list?last=%2F".to_owned(), 400, "MANIFEST_INVALID"),
        (&get, "/v2/a/tags/list?next=nonsense".to_owned(), 400, "UNSUPPORTED"),
        (&get, "/v2/_catalog?last=A".to_owned(), 400, "NAME_INVALID"),
        (&get, "/v2/_catalog?n=1e3".to_owned(), 400, "UNSUPPORTED"),
        (&get, format!("/v2/a/referrers/{digest}?last=x"), 400, "DIGEST_INVALID"),
        (&get, format!("/v2/a/referrers/{digest}?fallback=x"), 400, "UNSUPPORTED"),
        (&Method::POST, "/v2/A/blobs/uploads/".to_owned(), 400, "NAME_INVALID"),
        (&Method::POST, "/v2/a/blobs/uploads/?mount=x".to_owned(), 400, "DIGEST_INVALID"),
        (
            &Method::POST,
            format!("/v2/a/blobs/uploads/?digest={digest}&digest={digest}"),
            400,
            "UNSUPPORTED",
        ),
        (&Method::PATCH, "/v2/a/blobs/uploads/unknown".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        (&Method::PUT, "/v2/a/blobs/uploads/unknown".to_owned(), 400, "DIGEST_INVALID"),
        (&Method::DELETE, "/v2/a/blobs/uploads/unknown".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
    ];
    for (method, path, status, code) in cases {
        api.ask(method.clone(), path).send().await.expect_error(status, code);
    }
}

#[tokio::test]
async fn a_message_does_not_grow_with_what_was_sent() {
    let api = Api::start().await;
    let reply = api.get(format!("/v2/a/manifests/{}", "a".repeat(20_000))).send().await;
    assert!(reply.expect_error(400, "MANIFEST_INVALID").message().len() < 300);
    let reply = api.get(format!("/v2/a/tags/list?n={}", "x".repeat(20_000))).send().await;
    assert!(reply.expect_error(400, "UNSUPPORTED").message().len() < 300);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the path, query and headers: an answer below 500.
    #[test]
    fn nothing_breaks_the_server(
        method in prop::sample::select(vec!["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]),
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "A", "blobs", "uploads", "manifests", "tags", "list", "referrers", "", ".", "..", "%2F", "%00", "%ff",
            "_catalog", "v1", "sha256:x",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ]), 0..6),
        query in "[a-z=&%0-9:-]{0,30}",
        headers in prop::collection::vec((prop::sample::select(vec![
            "range", "if-range", "content-range", "if-match", "if-none-match", "content-type", "accept",
        ]), "[ -~]{0,20}"), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(async {
            let api = Api::start().await;
            let path = format!("/v2/{}?{query}", pieces.join("/"));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut ask = api.ask(method, path).body(body);
            for (name, value) in headers {
                ask = ask.header(name, value);
            }
            ask.send().await
        });
        prop_assert!(reply.status < 500, "{reply:?}");
        if reply.status >= 400 && !reply.body.is_empty() {
            prop_assert!(reply.json()["errors"][0]["code"].is_string());
        }
    }
}
