//! Answers to browsers, and to pages of others in them.

use http::Method;
use oci_ref::{Manifest, Precondition, Store};
use oci_registry_server::{MemoryRegistry, ServerOptions};

use crate::support::{Api, IMAGE};

const UI: &str = "https://ui.example";

#[tokio::test]
async fn what_a_browser_would_run_is_no_manifest() {
    let api = Api::start().await;
    let html = r#"{"schemaVersion":2,"x":"<html><script>alert(document.domain)</script>"}"#;
    let typed = |media_type: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}"}}"#);
    for media_type in [
        "text/html",
        "text/html; charset=utf-8",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/javascript",
        "text/css",
        "multipart/x-mixed-replace",
    ] {
        let push = api.put("/v2/a/manifests/v1").header("content-type", media_type);
        let reply = push.body(html).send().await.expect_error(400, "MANIFEST_INVALID");
        assert!(reply.message().contains("not taken here"), "{}", reply.message());
        // The document can say what it is, too.
        let media_type = media_type.split(';').next().unwrap();
        let push = api.put("/v2/a/manifests/v1").body(typed(media_type));
        push.send().await.expect_error(400, "MANIFEST_INVALID");
    }
    let push = api.put("/v2/a/manifests/v1").body(typed("application/vnd.example.page+json"));
    push.send().await.expect(201);
}

#[tokio::test]
async fn what_was_stored_earlier_does_not_run() {
    let memory = MemoryRegistry::new();
    let repository = memory.memory(&"a".parse().unwrap());
    let api = Api::memory(memory, ServerOptions::new()).await;
    let html = br#"{"schemaVersion":2,"mediaType":"text/html","x":"<script>"}"#;
    let manifest = Manifest::parse(html.as_slice().into(), None, None).unwrap();
    let tag = "v1".parse().unwrap();
    repository.put_manifest(&manifest, &[tag], &Precondition::None).await.unwrap();
    for ask in [api.get("/v2/a/manifests/v1"), api.head("/v2/a/manifests/v1")] {
        let reply = ask.send().await.expect(200);
        assert_eq!(reply.header("content-type"), "application/octet-stream");
    }
    // All answers say it, errors too: see `Ask::send`.
    let digest = api.push_blob("a", html).await;
    let blob = api.get(format!("/v2/a/blobs/{digest}")).send().await.expect(200);
    assert_eq!(blob.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn pages_of_others_do_not_write() {
    let api = Api::start().await;
    let (manifest, digest) = api.push_image("a", "v1", "layer").await;
    let host = api.registry.host();
    let origins =
        [("https://attacker.example", 403), ("null", 403), (&*format!("http://{host}"), 0)];
    for (origin, refused) in origins {
        let begin = api.post("/v2/a/blobs/uploads/").header("origin", origin).send().await;
        let again = api.put("/v2/a/manifests/v2").header("origin", origin);
        let again = again.header("content-type", IMAGE).body(manifest.to_string());
        let delete = api.delete(format!("/v2/a/manifests/{digest}")).header("origin", origin);
        let read = api.get("/v2/a/tags/list").header("origin", origin).send().await;
        read.expect(200);
        if refused == 403 {
            assert!(begin.expect_error(403, "DENIED").message().contains("--cors-origin"));
            again.send().await.expect_error(403, "DENIED");
            delete.send().await.expect_error(403, "DENIED");
        } else {
            begin.expect(202);
            again.send().await.expect(201);
            delete.send().await.expect(202);
        }
    }
}

// Joxit/docker-registry-ui: what a user interface in a browser asks for.
#[tokio::test]
async fn a_user_interface_of_another_origin_can_be_allowed() {
    let options = ServerOptions::new().cors_origin(UI).unwrap();
    let api = Api::options(options).await;
    let (_, digest) = api.push_image("a", "v1", "layer").await;
    let path = format!("/v2/a/manifests/{digest}");
    let preflight = |origin: &str| {
        let ask = api.ask(Method::OPTIONS, &path).header("origin", origin);
        ask.header("access-control-request-method", "DELETE")
    };
    let told = preflight(UI).send().await.expect(204);
    assert_eq!(told.header("access-control-allow-origin"), UI);
    assert_eq!(told.header("access-control-allow-credentials"), "true");
    assert_eq!(told.header("access-control-allow-methods"), "GET, HEAD, PUT, DELETE");
    assert!(told.header("access-control-allow-headers").contains("Authorization"));
    assert!(
        !preflight("https://attacker.example")
            .send()
            .await
            .expect(405)
            .has("access-control-allow-origin")
    );

    let head = api.head("/v2/a/manifests/v1").header("origin", UI).send().await.expect(200);
    assert_eq!(head.header("access-control-allow-origin"), UI);
    assert!(head.header("access-control-expose-headers").contains("Docker-Content-Digest"));
    assert_eq!(head.header("vary"), "Origin");
    // Errors can be read as well.
    let missing = api.get("/v2/a/manifests/v2").header("origin", UI).send().await.expect(404);
    assert_eq!(missing.header("access-control-allow-origin"), UI);
    let plain = api.get("/v2/").send().await.expect(200);
    assert!(!plain.has("access-control-allow-origin"));
    api.delete(&path).header("origin", UI).send().await.expect(202);
    api.delete(&path).header("origin", "http://ui.example").send().await.expect(403);

    let any = Api::options(ServerOptions::new().cors_origin("*").unwrap()).await;
    let ping = any.get("/v2/").header("origin", UI).send().await.expect(200);
    assert_eq!(ping.header("access-control-allow-origin"), "*");
    assert!(!ping.has("access-control-allow-credentials"));
    assert!(ServerOptions::new().cors_origin("ui.example").is_err());
}
