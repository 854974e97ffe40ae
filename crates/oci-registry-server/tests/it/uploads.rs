//! Uploads: end-4, end-5, end-6, end-13 and end-14.

use std::time::Duration;

use oci_registry_server::{MemoryRegistry, ServerOptions};
use oci_spec_types::{Algorithm, Digest};

use crate::support::{Api, Reply};

const CONTENT: &[u8] = b"0123456789";

async fn chunk(api: &Api, location: &str, range: &str, bytes: &'static [u8]) -> Reply {
    api.patch(location).header("content-range", range).body(bytes).send().await
}

async fn close(api: &Api, location: &str, digest: &Digest) -> Reply {
    api.put(format!("{location}?digest={digest}")).send().await
}

/// Where an upload stands.
async fn range(api: &Api, location: &str) -> String {
    let status = api.get(location).send().await.expect(204);
    assert_eq!(status.header("location"), location);
    status.header("range").to_owned()
}

// spec: R18, R19, R20
#[tokio::test]
async fn post_then_put() {
    let api = Api::start().await;
    let begun = api.post("/v2/a/b/blobs/uploads/").send().await.expect(202);
    let location = begun.header("location");
    assert_eq!(location, format!("/v2/a/b/blobs/uploads/{}", begun.header("docker-upload-uuid")));
    assert_eq!(begun.header("range"), "0-0");
    api.get("/v2/a/b/tags/list").send().await.expect_error(404, "NAME_UNKNOWN");

    let digest = Digest::sha256(CONTENT);
    let put = api.put(format!("{location}?digest={digest}")).body(CONTENT).send().await.expect(201);
    assert_eq!(put.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(put.header("docker-content-digest"), digest.as_str());
    assert_eq!(api.get(put.header("location")).send().await.expect(200).body, CONTENT);
    api.get(location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

// spec: R21
#[tokio::test]
async fn a_single_post() {
    let api = Api::start().await;
    let digest = Digest::sha256(CONTENT);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let post = api.post(&path).body(CONTENT).send().await.expect(201);
    assert_eq!(api.get(post.header("location")).send().await.expect(200).body, CONTENT);
    // What is there already can be pushed again, and a slash can be left out.
    api.post(&path).body(CONTENT).send().await.expect(201);
    api.post(format!("/v2/a/blobs/uploads?digest={digest}")).body(CONTENT).send().await.expect(201);
    let refused = api.post(&path).body("other").send().await;
    refused.expect_error(400, "DIGEST_INVALID");
}

// spec: R24, R27
#[tokio::test]
async fn in_chunks() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    assert_eq!(range(&api, &location).await, "0-0");
    let first = chunk(&api, &location, "0-3", &CONTENT[..4]).await.expect(202);
    assert_eq!(first.header("range"), "0-3");
    let location = first.header("location");
    assert_eq!(range(&api, location).await, "0-3");
    let second = chunk(&api, location, "bytes 4-6/*", &CONTENT[4..7]).await.expect(202);
    assert_eq!(second.header("range"), "0-6");
    // The last chunk may come with the closing PUT.
    let put = api.put(format!("{location}?digest={}", Digest::sha256(CONTENT)));
    put.header("content-range", "7-9").body(&CONTENT[7..]).send().await.expect(201);
    let got = api.get(format!("/v2/a/blobs/{}", Digest::sha256(CONTENT))).send().await;
    assert_eq!(got.expect(200).body, CONTENT);
}

#[tokio::test]
async fn as_a_stream() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    api.patch(&location).body(&CONTENT[..5]).send().await.expect(202);
    let more = api.patch(&location).body(&CONTENT[5..]).send().await.expect(202);
    assert_eq!(more.header("range"), "0-9");
    close(&api, &location, &Digest::sha256(CONTENT)).await.expect(201);
}

#[tokio::test]
async fn an_empty_blob() {
    let api = Api::start().await;
    let empty = Digest::sha256(b"");
    let location = api.begin("a").await;
    close(&api, &location, &empty).await.expect(201);
    assert_eq!(api.get(format!("/v2/a/blobs/{empty}")).send().await.expect(200).body, "");
    let location = api.begin("b").await;
    let patched = api.patch(&location).send().await.expect(202);
    assert_eq!(patched.header("range"), "0-0");
    close(&api, &location, &empty).await.expect(201);
}

// spec: R25, R26
#[tokio::test]
async fn out_of_order() {
    let api = Api::start().await;
    let digest = Digest::sha256(CONTENT);
    let location = api.begin("a").await;
    chunk(&api, &location, "3-5", &CONTENT[3..6]).await.expect_error(416, "BLOB_UPLOAD_INVALID");
    chunk(&api, &location, "0-3", &CONTENT[..4]).await.expect(202);
    for (wrong, bytes) in [("5-6", &CONTENT[5..7]), ("0-3", &CONTENT[..4]), ("3-4", &CONTENT[3..5])]
    {
        let refused = chunk(&api, &location, wrong, bytes).await;
        let refused = refused.expect_error(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(refused.header("range"), "0-3", "where the upload truly stands");
        assert_eq!(refused.header("location"), location);
        let put = api.put(format!("{location}?digest={digest}")).header("content-range", wrong);
        let refused = put.body(bytes).send().await.expect_error(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(refused.header("range"), "0-3");
        assert_eq!(range(&api, &location).await, "0-3");
    }
    chunk(&api, &location, "4-9", &CONTENT[4..]).await.expect(202);
    close(&api, &location, &digest).await.expect(201);
}

#[tokio::test]
async fn a_chunk_has_the_length_of_its_range() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    chunk(&api, &location, "0-3", &CONTENT[..3]).await.expect_error(400, "SIZE_INVALID");
    chunk(&api, &location, "0-3", &CONTENT[..5]).await.expect_error(400, "SIZE_INVALID");
    for wrong in ["3-0", "x", "", "0", "0-18446744073709551615", "bytes=0-3"] {
        let refused = chunk(&api, &location, wrong, &CONTENT[..4]).await;
        refused.expect_error(400, "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(range(&api, &location).await, "0-0");
    chunk(&api, &location, "0-9", CONTENT).await.expect(202);
    close(&api, &location, &Digest::sha256(CONTENT)).await.expect(201);
}

// spec: R17
#[tokio::test]
async fn a_wrong_digest_names_nothing() {
    let api = Api::start().await;
    api.push_blob("a", b"other").await;
    let wrong = Digest::sha256(b"wrong");
    let location = api.begin("a").await;
    let put = api.put(format!("{location}?digest={wrong}")).body(CONTENT);
    let refused = put.send().await.expect_error(400, "DIGEST_INVALID");
    assert!(refused.message().contains(Digest::sha256(CONTENT).as_str()));
    for digest in [wrong, Digest::sha256(CONTENT)] {
        api.get(format!("/v2/a/blobs/{digest}")).send().await.expect_error(404, "BLOB_UNKNOWN");
    }
    api.get(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

// spec: R17
#[tokio::test]
async fn unusable_digests_cost_no_upload() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    api.patch(&location).body(CONTENT).send().await.expect(202);
    let blake3 = format!("blake3:{}", "0".repeat(64));
    for wrong in ["", "sha256", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e", &blake3] {
        let path = format!("{location}?digest={wrong}");
        api.put(path).send().await.expect_error(400, "DIGEST_INVALID");
        let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
        api.post(path).body(CONTENT).send().await.expect_error(400, "DIGEST_INVALID");
        let path = format!("/v2/a/blobs/uploads/?mount={wrong}&from=b");
        api.post(path).send().await.expect_error(400, "DIGEST_INVALID");
    }
    api.put(&location).send().await.expect_error(400, "DIGEST_INVALID");
    let path = "/v2/a/blobs/uploads/?digest-algorithm=md5";
    api.post(path).send().await.expect_error(400, "DIGEST_INVALID");
    assert_eq!(range(&api, &location).await, "0-9");
    close(&api, &location, &Digest::sha256(CONTENT)).await.expect(201);
}

#[tokio::test]
async fn sha512_announced_or_not() {
    let api = Api::start().await;
    let digest = Algorithm::Sha512.digest(CONTENT);
    for (name, query) in
        [("a", "?digest-algorithm=sha512"), ("b", ""), ("c", "?digest-algorithm=sha256")]
    {
        let begun = api.post(format!("/v2/{name}/blobs/uploads/{query}")).send().await.expect(202);
        let location = begun.header("location");
        api.patch(location).body(CONTENT).send().await.expect(202);
        close(&api, location, &digest).await.expect(201);
        let got = api.get(format!("/v2/{name}/blobs/{digest}")).send().await.expect(200);
        assert_eq!(got.body, CONTENT);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }
    let path = format!("/v2/d/blobs/uploads/?digest={digest}");
    api.post(path).body(CONTENT).send().await.expect(201);
}

// spec: R28
#[tokio::test]
async fn cancelling() {
    let api = Api::options(ServerOptions::new().deletes(false)).await;
    let location = api.begin("a").await;
    api.patch(&location).body(CONTENT).send().await.expect(202);
    api.delete(&location).send().await.expect(204);
    api.get(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.patch(&location).body(CONTENT).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    close(&api, &location, &Digest::sha256(CONTENT)).await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.delete(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

// spec: R29
#[tokio::test]
async fn uploads_expire() {
    let memory = MemoryRegistry::new().upload_expiry(Duration::ZERO);
    let api = Api::memory(memory, ServerOptions::new()).await;
    let location = api.begin("a").await;
    api.get(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.patch(&location).body(CONTENT).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_belongs_to_its_repository() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    api.get(&elsewhere).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.patch(&elsewhere).body(CONTENT).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.delete(&elsewhere).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(range(&api, &location).await, "0-0");
}

#[tokio::test]
async fn the_size_of_a_blob_can_be_limited() {
    let api = Api::options(ServerOptions::new().max_blob_bytes(Some(9))).await;
    let digest = Digest::sha256(CONTENT);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    api.post(&path).body(CONTENT).send().await.expect_error(413, "SIZE_INVALID");
    let location = api.begin("a").await;
    api.patch(&location).body(&CONTENT[..9]).send().await.expect(202);
    api.patch(&location).body(&CONTENT[9..]).send().await.expect_error(413, "SIZE_INVALID");
    // Nothing can come of it any more, so that its room is free again.
    api.get(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.push_blob("a", &CONTENT[..9]).await;
}

// jib#4301: the answer to the last request of an upload is lost, and the client sends it again.
#[tokio::test]
async fn a_closing_request_can_be_repeated() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    let (digest, other) = (Digest::sha256(b"hello"), api.push_blob("a", b"other").await);
    let close = |digest: &Digest| api.put(format!("{location}?digest={digest}")).body("hello");
    close(&digest).send().await.expect(201);
    let again = close(&digest).send().await.expect(201);
    assert_eq!(again.header("docker-content-digest"), digest.as_str());
    assert_eq!(again.header("location"), format!("/v2/a/blobs/{digest}"));
    // Only of what came of it, and as long as that is here.
    close(&other).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.delete(format!("/v2/a/blobs/{digest}")).send().await.expect(202);
    close(&digest).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");

    let location = api.begin("a").await;
    api.delete(&location).send().await.expect(204);
    let close = api.put(format!("{location}?digest={other}"));
    close.send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}
