//! Mounts (end-11), and the isolation of repositories.

use oci_spec_types::Digest;

use crate::support::{Api, image};

// spec: R30
#[tokio::test]
async fn a_blob_is_mounted() {
    let api = Api::start().await;
    let digest = api.push_blob("a", b"content").await;
    for query in [format!("mount={digest}&from=a"), format!("mount={digest}")] {
        let target = format!("b{}", query.len());
        let path = format!("/v2/{target}/blobs/uploads/?{query}");
        let mounted = api.post(path).send().await.expect(201);
        assert_eq!(mounted.header("location"), format!("/v2/{target}/blobs/{digest}"));
        assert_eq!(mounted.header("docker-content-digest"), digest.as_str());
        assert_eq!(api.get(mounted.header("location")).send().await.expect(200).body, "content");
    }
    api.delete(format!("/v2/a/blobs/{digest}")).send().await.expect(202);
    let left = api.get(format!("/v2/b{}/blobs/{digest}", format!("mount={digest}").len()));
    left.send().await.expect(200);
}

// spec: R31
#[tokio::test]
async fn what_cannot_be_mounted_can_be_uploaded() {
    let api = Api::start().await;
    api.push_blob("a", b"other").await;
    let digest = Digest::sha256(b"content");
    for from in ["&from=a", "&from=unknown", ""] {
        let path = format!("/v2/b/blobs/uploads/?mount={digest}{from}");
        let begun = api.post(path).send().await.expect(202);
        assert!(!begun.has("docker-content-digest"));
        let put = api.put(format!("{}?digest={digest}", begun.header("location")));
        put.body("content").send().await.expect(201);
        api.delete(format!("/v2/b/blobs/{digest}")).send().await.expect(202);
    }
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=../a");
    api.post(path).send().await.expect_error(400, "NAME_INVALID");
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a&from=b");
    api.post(path).send().await.expect_error(400, "UNSUPPORTED");
}

#[tokio::test]
async fn a_digest_gives_nothing_elsewhere() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    api.push_blob("b", b"{}").await;
    let layer = Digest::sha256(b"layer");
    for path in [
        format!("/v2/b/blobs/{layer}"),
        format!("/v2/b/manifests/{digest}"),
        "/v2/b/manifests/v1".to_owned(),
    ] {
        api.get(&path).send().await.expect(404);
        api.head(&path).send().await.expect(404);
        api.delete(&path).send().await.expect(404);
    }
    let refused = api.push_manifest("b", "v1", &manifest).await;
    refused.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    let tags = api.get("/v2/b/tags/list").send().await.expect(200);
    assert_eq!(tags.json()["tags"], serde_json::json!([]));

    // What is in both is deleted in one only.
    api.push_image("b", "v1", "layer").await;
    api.delete(format!("/v2/b/manifests/{digest}")).send().await.expect(202);
    api.delete(format!("/v2/b/blobs/{layer}")).send().await.expect(202);
    api.get("/v2/a/manifests/v1").send().await.expect(200);
    api.get(format!("/v2/a/blobs/{layer}")).send().await.expect(200);
    let mut referrer = image(&[]);
    referrer["subject"] = crate::support::descriptor_of(&manifest);
    api.push_manifest("b", "about", &referrer).await.expect(201);
    let listed = api.get(format!("/v2/a/referrers/{digest}")).send().await.expect(200);
    assert_eq!(listed.json()["manifests"], serde_json::json!([]));
}
