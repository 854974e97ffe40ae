//! Blobs: end-2 and end-10.

use oci_spec_types::Digest;

use crate::support::Api;

fn content() -> Vec<u8> {
    (0..700_000u32).map(|i| (i % 251) as u8).collect()
}

// spec: R8, R9, R12, R13, R14
#[tokio::test]
async fn a_blob_comes_back() {
    let api = Api::start().await;
    for content in [content(), b"x".to_vec(), Vec::new()] {
        let digest = api.push_blob("a/b", &content).await;
        let path = format!("/v2/a/b/blobs/{digest}");
        let got = api.get(&path).send().await.expect(200);
        assert_eq!(got.body, content);
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert_eq!(got.header("content-length"), content.len().to_string());
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
        assert_eq!(got.header("accept-ranges"), "bytes");

        let mut head = api.head(&path).send().await.expect(200);
        assert!(head.body.is_empty());
        let mut expected = got.headers.clone();
        expected.remove("date");
        head.headers.remove("date");
        assert_eq!(head.headers, expected, "HEAD is GET without a body");
    }
}

// spec: R10, R12, R38
#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = Api::start().await;
    let path = format!("/v2/a/blobs/{}", Digest::sha256(b"nothing"));
    api.get(&path).send().await.expect_error(404, "NAME_UNKNOWN");
    api.push_blob("a", b"something").await;
    api.get(&path).send().await.expect_error(404, "BLOB_UNKNOWN");
    assert!(api.head(&path).send().await.expect(404).body.is_empty());
    let get = api.get(&path).header("if-none-match", "*");
    get.send().await.expect_error(404, "BLOB_UNKNOWN");
    api.get(&path).header("range", "bytes=0-1").send().await.expect_error(404, "BLOB_UNKNOWN");
}

// spec: R11
#[tokio::test]
async fn ranges() {
    let api = Api::start().await;
    let content = content();
    let size = content.len();
    let digest = api.push_blob("a", &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    let parts = [
        ("bytes=0-0", 0..1),
        ("bytes=500-1499", 500..1500),
        ("bytes=600000-", 600_000..size),
        ("bytes=-500", size - 500..size),
        ("bytes=-99999999", 0..size),
        ("bytes=699999-5000000", size - 1..size),
        ("bytes=0-18446744073709551615", 0..size),
    ];
    for (range, expected) in parts {
        let got = api.get(&path).header("range", range).send().await.expect(206);
        assert_eq!(got.body, content[expected.clone()], "{range}");
        let content_range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(got.header("content-range"), content_range);
        assert_eq!(got.header("content-length"), expected.len().to_string());
    }
    for range in ["bytes=500-0", "bytes=700000-", "bytes=700000-700001", "bytes=-0"] {
        let refused = api.get(&path).header("range", range).send().await;
        let refused = refused.expect_error(416, "SIZE_INVALID");
        assert_eq!(refused.header("content-range"), format!("bytes */{size}"));
    }
    for range in ["bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=-", "nonsense"] {
        let got = api.get(&path).header("range", range).send().await.expect(200);
        assert_eq!(got.body.len(), size, "{range}");
        assert!(!got.has("content-range"));
    }
    let head = api.head(&path).header("range", "bytes=0-1").send().await.expect(200);
    assert_eq!(head.header("content-length"), size.to_string());

    let empty = api.push_blob("a", b"").await;
    let get = api.get(format!("/v2/a/blobs/{empty}")).header("range", "bytes=0-");
    get.send().await.expect_error(416, "SIZE_INVALID");
}

#[tokio::test]
async fn conditions() {
    let api = Api::start().await;
    let digest = api.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let ours = format!("\"{digest}\"");
    let get = |name, value: &str| api.get(&path).header("range", "bytes=2-3").header(name, value);
    assert_eq!(get("if-range", &ours).send().await.expect(206).body, "23");
    assert_eq!(get("if-range", "\"other\"").send().await.expect(200).body, "0123456789");
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    assert_eq!(get("if-range", date).send().await.expect(200).body, "0123456789");
    let unchanged = get("if-none-match", &ours).send().await.expect(304);
    assert_eq!(unchanged.header("etag"), ours);
    assert_eq!(unchanged.body, "");
    get("if-match", "\"other\"").send().await.expect_error(412, "DENIED");
    assert_eq!(get("if-match", &ours).send().await.expect(206).body, "23");
}

// spec: R62, R65
#[tokio::test]
async fn deleting() {
    let api = Api::start().await;
    api.push_blob("a", b"other").await;
    let digest = api.push_blob("a", b"content").await;
    let path = format!("/v2/a/blobs/{digest}");
    api.delete(&path).send().await.expect(202);
    api.get(&path).send().await.expect(404);
    api.delete(&path).send().await.expect_error(404, "BLOB_UNKNOWN");
    api.delete(format!("/v2/unknown/blobs/{digest}"))
        .send()
        .await
        .expect_error(404, "NAME_UNKNOWN");
}
