//! Manifests: end-3, end-7 and end-9.

use oci_registry_server::{MemoryRegistry, ServerOptions};
use oci_spec_types::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::support::{Api, CONFIG, IMAGE, INDEX, descriptor, digest_of, image, index};

// spec: R8, R9, R12, R13, R14, R33, R34, R35
// covers: M15
#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte() {
    let api = Api::start().await;
    api.push_blob("a/b", b"{}").await;
    let mut manifest = image(&[]);
    manifest["unknown"] = json!({"kept": [1, 2, 3]});
    let bytes = serde_json::to_string_pretty(&manifest).unwrap() + "\n";
    let digest = Digest::sha256(bytes.as_bytes());
    let put = api.put("/v2/a/b/manifests/v1").header("content-type", IMAGE);
    let put = put.body(bytes.clone()).send().await.expect(201);
    assert_eq!(put.header("location"), format!("/v2/a/b/manifests/{digest}"));
    assert_eq!(put.header("docker-content-digest"), digest.as_str());
    assert!(!put.has("oci-subject"));

    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let got = api.get(&path).send().await.expect(200);
        assert_eq!(got.body, bytes);
        assert_eq!(got.header("content-type"), IMAGE);
        assert_eq!(got.header("content-length"), bytes.len().to_string());
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
        assert_eq!(got.header("etag"), format!("\"{digest}\""));

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
    let digest = Digest::sha256(b"nothing");
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/a/manifests/{reference}");
        api.get(&path).send().await.expect_error(404, "NAME_UNKNOWN");
        assert!(api.head(&path).send().await.expect(404).body.is_empty());
    }
    api.push_image("a", "v1", "layer").await;
    for reference in ["v2", digest.as_str()] {
        let path = format!("/v2/a/manifests/{reference}");
        api.get(&path).send().await.expect_error(404, "MANIFEST_UNKNOWN");
    }
}

// spec: R6, R32
#[tokio::test]
async fn parameters_of_the_content_type_are_ignored() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    let put =
        api.put("/v2/a/manifests/v2").header("content-type", format!("{IMAGE}; charset=utf-8"));
    put.body(serde_json::to_vec(&manifest).unwrap()).send().await.expect(201);
    let got = api.get("/v2/a/manifests/v2").send().await.expect(200);
    assert_eq!(got.header("content-type"), IMAGE);
    assert_eq!(got.header("docker-content-digest"), digest.as_str());
}

#[tokio::test]
async fn without_a_content_type_the_document_says_what_it_is() {
    let api = Api::start().await;
    let bytes = serde_json::to_vec(&index(&[])).unwrap();
    api.put("/v2/a/manifests/v1").body(bytes).send().await.expect(201);
    let got = api.get("/v2/a/manifests/v1").header("accept", IMAGE).send().await.expect(200);
    assert_eq!(got.header("content-type"), INDEX, "Accept does not choose");
}

// spec: R39, R40, R41
#[tokio::test]
async fn the_size_is_limited() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let mut manifest = image(&[]);
    manifest["annotations"] = json!({"large": "x".repeat(4 << 20)});
    api.push_manifest("a", "large", &manifest).await.expect(201);

    let api = Api::options(ServerOptions::new().max_manifest_bytes(1000)).await;
    api.push_blob("a", b"{}").await;
    manifest["annotations"] = json!({"large": "x".repeat(1000)});
    api.push_manifest("a", "large", &manifest).await.expect_error(413, "SIZE_INVALID");
    manifest["annotations"] = json!({"large": "x".repeat(500)});
    api.push_manifest("a", "small", &manifest).await.expect(201);
}

#[tokio::test]
async fn an_artifact_type_could_be_a_media_type() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let longest = format!("application/{}", "x".repeat(243));
    for taken in ["application/vnd.example+json", "example; v=1 ü", "", &longest] {
        for mut manifest in [image(&[]), index(&[])] {
            manifest["artifactType"] = json!(taken);
            api.push_manifest("a", "v1", &manifest).await.expect(201);
        }
    }
    let long = format!("{longest}x");
    for (refused, why) in [
        (long.as_str(), "has 256 bytes"),
        ("a\0b", "'\\0'"),
        ("a/b\n", "'\\n'"),
        ("\u{85}", "'\\u{85}'"),
    ] {
        for mut manifest in [image(&[]), index(&[])] {
            manifest["artifactType"] = json!(refused);
            let answer = api.push_manifest("a", "v2", &manifest).await;
            let message = answer.expect_error(400, "MANIFEST_INVALID").message();
            assert!(message.contains("artifactType") && message.contains(why), "{message}");
        }
    }
    api.get("/v2/a/manifests/v2").send().await.expect(404);
}

// spec: R16
#[tokio::test]
async fn what_is_referenced_must_be_there() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let missing = image(&["missing"]);
    let refused = api.push_manifest("a", "v1", &missing).await;
    let refused = refused.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    assert!(refused.message().contains(Digest::sha256(b"missing").as_str()));

    let of_missing = index(&[&missing]);
    let refused = api.push_manifest("a", "v1", &of_missing).await;
    let refused = refused.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    assert!(refused.message().contains(digest_of(&missing).as_str()));
    api.get("/v2/a/manifests/v1").send().await.expect(404);

    let mut elsewhere = image(&[]);
    elsewhere["layers"] = json!([descriptor(
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        b"elsewhere",
    )]);
    api.push_manifest("a", "elsewhere", &elsewhere).await.expect(201);

    let sparse = Api::memory(MemoryRegistry::sparse(), ServerOptions::new()).await;
    sparse.push_manifest("a", "v1", &of_missing).await.expect(201);
    sparse.push_manifest("a", "v2", &missing).await.expect(201);
}

// spec: R15, R42
#[tokio::test]
async fn a_subject_is_acknowledged_whether_it_is_there_or_not() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let mut referrer = image(&[]);
    referrer["subject"] = crate::support::descriptor_of(&subject);
    let put = api.push_manifest("a", "early", &referrer).await.expect(201);
    assert_eq!(put.header("oci-subject"), digest_of(&subject).as_str());
    api.push_manifest("a", "subject", &subject).await.expect(201);
    let put = api.push_manifest("a", "late", &referrer).await.expect(201);
    assert_eq!(put.header("oci-subject"), digest_of(&subject).as_str());
}

// spec: R36, R37
#[tokio::test]
async fn tags_come_along_with_a_push_by_digest() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let manifest = image(&[]);
    let digest = digest_of(&manifest);
    let tags: Vec<String> = (0..20).map(|i| format!("v{i}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reference = format!("{digest}?{}", query.join("&"));
    let put = api.push_manifest("a", &reference, &manifest).await.expect(201);
    let accepted: Vec<_> = put.headers.get_all("oci-tag").iter().cloned().collect();
    assert_eq!(accepted, tags);
    for tag in &tags {
        let got = api.get(format!("/v2/a/manifests/{tag}")).send().await.expect(200);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }

    let many: Vec<String> = (0..101).map(|i| format!("tag=t{i}")).collect();
    let reference = format!("{digest}?{}", many.join("&"));
    api.push_manifest("a", &reference, &manifest).await.expect_error(414, "MANIFEST_INVALID");
    let reference = format!("{digest}?tag=.bad");
    api.push_manifest("a", &reference, &manifest).await.expect_error(400, "MANIFEST_INVALID");
    // A tag in the path is the only one, and the answer says so by naming no other.
    let put = api.push_manifest("a", "one?tag=two", &manifest).await.expect(201);
    assert!(!put.has("oci-tag"));
    api.get("/v2/a/manifests/two").send().await.expect(404);
}

// spec: R9, R35
#[tokio::test]
async fn sha512_by_digest() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let manifest = image(&[]);
    let digest = Algorithm::Sha512.digest(&serde_json::to_vec(&manifest).unwrap());
    let reference = format!("{digest}?tag=strong");
    let put = api.push_manifest("a", &reference, &manifest).await.expect(201);
    assert_eq!(put.header("docker-content-digest"), digest.as_str());
    for reference in [digest.as_str(), "strong"] {
        let got = api.get(format!("/v2/a/manifests/{reference}")).send().await.expect(200);
        assert_eq!(got.header("docker-content-digest"), digest.as_str());
    }
    api.get(format!("/v2/a/manifests/{}", digest_of(&manifest))).send().await.expect(404);
}

// spec: R17
#[tokio::test]
async fn a_digest_must_be_that_of_the_bytes() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let manifest = image(&[]);
    let wrong = [
        Digest::sha256(b"other").to_string(),
        "blake3:".to_owned() + &"0".repeat(64),
        "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
    ];
    for wrong in wrong {
        let refused = api.push_manifest("a", &wrong, &manifest).await;
        refused.expect_error(400, "DIGEST_INVALID");
        api.get(format!("/v2/a/manifests/{wrong}")).send().await.expect(404);
    }
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let good = image(&[]);
    let change = |field: &str, value: Value| {
        let mut manifest = good.clone();
        manifest[field] = value;
        (IMAGE, serde_json::to_vec(&manifest).unwrap())
    };
    let bytes = serde_json::to_vec(&good).unwrap();
    let cases = [
        (IMAGE, b"".to_vec()),
        (IMAGE, b"{".to_vec()),
        (IMAGE, b"[]".to_vec()),
        (IMAGE, b"null".to_vec()),
        (IMAGE, b"\xff\xfe".to_vec()),
        (IMAGE, bytes[..bytes.len() - 1].to_vec()),
        (IMAGE, "[".repeat(100_000).into_bytes()),
        (IMAGE, br#"{"schemaVersion":2,"schemaVersion":2}"#.to_vec()),
        (INDEX, bytes.clone()),
        ("nonsense", bytes.clone()),
        ("application/vnd.docker.distribution.manifest.v1+json", b"{}".to_vec()),
        change("manifests", json!([])),
        change("mediaType", json!(INDEX)),
        change("config", json!({"mediaType": CONFIG, "digest": "sha256:x", "size": 2})),
        change(
            "config",
            json!({"mediaType": CONFIG, "digest": good["config"]["digest"], "size": -1}),
        ),
        change("layers", json!("none")),
    ];
    for (media_type, bytes) in cases {
        let put = api.put("/v2/a/manifests/v1").header("content-type", media_type);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let reply = put.body(bytes).send().await;
        assert_eq!(reply.status, 400, "{media_type}: {shown}");
        reply.expect_error(400, "MANIFEST_INVALID");
    }
    api.get("/v2/a/manifests/v1").send().await.expect(404);
}

#[tokio::test]
async fn unknown_types_are_taken_or_refused_as_configured() {
    let manifest = json!({"mediaType": "application/vnd.example.thing+json", "things": []});
    let api = Api::start().await;
    api.push_manifest("a", "v1", &manifest).await.expect(201);
    let got = api.get("/v2/a/manifests/v1").send().await.expect(200);
    assert_eq!(got.header("content-type"), "application/vnd.example.thing+json");

    let api = Api::options(ServerOptions::new().unknown_manifests(false)).await;
    let refused = api.push_manifest("a", "v1", &manifest).await;
    refused.expect_error(400, "MANIFEST_INVALID");
    api.push_manifest("a", "v1", &index(&[])).await.expect(201);
}

// moby/buildkit#1550, goharbor/harbor#12975: 201 for what is kept, 400 or 404 for what is not
#[tokio::test]
async fn what_is_taken_is_understood() {
    let api = Api::start().await;
    let digest = api.push_blob("a", b"layer").await;
    let of = |media_type: &str, digest: &Digest, size: Value| json!({"mediaType": media_type, "digest": digest, "size": size});
    let (gzip, thing) = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.x+json");
    let here = of(gzip, &digest, json!(5));
    let cache = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [here]});
    api.push_manifest("a", "cache", &cache).await.expect(201);
    let parts = |part: &Value| json!({"mediaType": thing, "parts": [{"one": part}]});
    api.push_manifest("a", "thing", &parts(&here)).await.expect(201);
    let oras = "application/vnd.cncf.oras.artifact.manifest.v1+json";
    let artifact =
        json!({"mediaType": oras, "blobs": [here], "subject": of(IMAGE, &digest, json!(1))});
    let pushed = api.push_manifest("a", "artifact", &artifact).await.expect(201);
    assert_eq!(pushed.header("oci-subject"), digest.as_str());

    let absent = Digest::sha256(b"absent");
    let missing = of(gzip, &absent, json!(6));
    let lists =
        |entry: &Value| json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    for document in
        [lists(&missing), parts(&missing), json!({"mediaType": oras, "blobs": [missing]})]
    {
        let refused = api.push_manifest("a", "v1", &document).await;
        refused.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    let larger = of(gzip, &digest, json!(6));
    api.push_blob("a", b"{}").await;
    let mut with_larger_layer = image(&[]);
    with_larger_layer["layers"] = json!([larger]);
    for document in [
        lists(&larger),
        parts(&larger),
        json!({"mediaType": oras, "blobs": [larger]}),
        with_larger_layer,
        parts(&of(gzip, &digest, json!(-1))),
        parts(&of("", &digest, json!(5))),
        json!({"mediaType": thing, "parts": {"mediaType": "a/b", "digest": "sha256:0", "size": 5}}),
        json!({"mediaType": oras, "blobs": [here], "layers": [here]}),
    ] {
        let refused = api.push_manifest("a", "v1", &document).await;
        refused.expect_error(400, "MANIFEST_INVALID");
    }
    // It could not be told in a header.
    let put = api.put("/v2/a/manifests/v1").header("content-type", "application/json");
    let reply = put.body(r#"{"mediaType":"\u00e4/json"}"#.as_bytes().to_vec()).send().await;
    reply.expect_error(400, "MANIFEST_INVALID");
    api.get("/v2/a/manifests/v1").send().await.expect(404);
}

#[tokio::test]
async fn conditional_pulls() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    let length = serde_json::to_vec(&manifest).unwrap().len().to_string();
    let ours = format!("\"{digest}\"");
    let other = format!("\"{}\"", Digest::sha256(b"other"));
    let cases = [
        ("if-none-match", &ours, 304),
        ("if-none-match", &other, 200),
        ("if-none-match", &"*".to_owned(), 304),
        ("if-match", &ours, 200),
        ("if-match", &other, 412),
    ];
    for (name, value, status) in cases {
        for head in [false, true] {
            let ask =
                if head { api.head("/v2/a/manifests/v1") } else { api.get("/v2/a/manifests/v1") };
            let reply = ask.header(name, value).send().await.expect(status);
            if status == 412 {
                continue;
            }
            assert_eq!(reply.body.is_empty(), head || status == 304);
            assert_eq!(reply.header("etag"), ours);
            assert_eq!(reply.header("docker-content-digest"), digest.as_str());
            if status == 200 {
                assert_eq!(reply.header("content-length"), length, "{name} {head}");
            }
        }
    }
    let refused = api.get("/v2/a/manifests/v1").header("if-match", &other).send().await;
    refused.expect_error(412, "DENIED");
}

#[tokio::test]
async fn a_tag_moves_by_compare_and_set() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let versions: Vec<Value> = (0..3)
        .map(|i| {
            let mut manifest = image(&[]);
            manifest["annotations"] = json!({"version": i.to_string()});
            manifest
        })
        .collect();
    let etag = |i: usize| format!("\"{}\"", digest_of(&versions[i]));
    let put = async |i: usize, name: &'static str, value: String| {
        let ask = api.put("/v2/a/manifests/v").header("content-type", IMAGE).header(name, value);
        ask.body(serde_json::to_vec(&versions[i]).unwrap()).send().await
    };
    put(0, "if-match", "*".into()).await.expect_error(412, "DENIED");
    put(0, "if-none-match", "*".into()).await.expect(201);
    put(1, "if-none-match", "*".into()).await.expect(412);
    put(1, "if-match", etag(2)).await.expect(412);
    put(1, "if-match", etag(0)).await.expect(201);
    put(2, "if-match", etag(0)).await.expect(412);
    put(2, "if-match", format!("{}, {}", etag(0), etag(1))).await.expect(201);
    put(0, "if-match", "nonsense".into()).await.expect(412);
    put(0, "if-none-match", etag(0)).await.expect_error(400, "UNSUPPORTED");
    let got = api.get("/v2/a/manifests/v").send().await.expect(200);
    assert_eq!(got.header("etag"), etag(2));
}

#[tokio::test]
async fn conditions_of_a_push_by_digest_are_about_the_digest() {
    let api = Api::start().await;
    let manifest = index(&[]);
    let digest = digest_of(&manifest);
    let put = async |name: &'static str, value: String| {
        let ask = api.put(format!("/v2/a/manifests/{digest}")).header(name, value);
        ask.body(serde_json::to_vec(&manifest).unwrap()).send().await
    };
    let ours = format!("\"{digest}\"");
    put("if-match", ours.clone()).await.expect(412);
    put("if-match", "*".into()).await.expect(412);
    put("if-none-match", "*".into()).await.expect(201);
    put("if-none-match", "*".into()).await.expect(412);
    put("if-match", ours).await.expect(201);
    put("if-match", format!("\"{}\"", Digest::sha256(b"other"))).await.expect(412);
}

// spec: R62, R64
#[tokio::test]
async fn deleting_a_tag_leaves_its_siblings() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    api.push_manifest("a", "v2", &manifest).await.expect(201);
    api.delete("/v2/a/manifests/v1").send().await.expect(202);
    api.get("/v2/a/manifests/v1").send().await.expect_error(404, "MANIFEST_UNKNOWN");
    api.get("/v2/a/manifests/v2").send().await.expect(200);
    api.get(format!("/v2/a/manifests/{digest}")).send().await.expect(200);
    api.delete("/v2/a/manifests/v1").send().await.expect_error(404, "MANIFEST_UNKNOWN");
    api.delete("/v2/unknown/manifests/v1").send().await.expect_error(404, "NAME_UNKNOWN");
}

// spec: R62, R64
#[tokio::test]
async fn deleting_a_manifest_takes_its_tags_along() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    api.push_manifest("a", "v2", &manifest).await.expect(201);
    let path = format!("/v2/a/manifests/{digest}");
    api.delete(&path).header("if-match", "*").send().await.expect_error(400, "UNSUPPORTED");
    api.delete(&path).send().await.expect(202);
    for reference in ["v1", "v2", digest.as_str()] {
        api.get(format!("/v2/a/manifests/{reference}")).send().await.expect(404);
    }
    api.delete(&path).send().await.expect_error(404, "MANIFEST_UNKNOWN");
    api.delete(format!("/v2/unknown/manifests/{digest}"))
        .send()
        .await
        .expect_error(404, "NAME_UNKNOWN");
}
