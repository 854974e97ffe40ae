//! The decision in front of every operation, and what is switched off.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::{HeaderValue, Method};
use oci_registry_server::{AccessPolicy, AccessRequest, Decision, MemoryRegistry, ServerOptions};
use oci_spec_types::Digest;

use crate::support::{Api, IMAGE};

/// Writes down what it is asked, and decides by a function.
struct Policy<F> {
    asked: Mutex<Vec<String>>,
    decide: F,
}

impl<F> Policy<F> {
    fn new(decide: F) -> Arc<Self> {
        let asked = Mutex::default();
        Arc::new(Self { asked, decide })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl<F: Fn(&AccessRequest<'_>) -> Decision + Send + Sync + 'static> AccessPolicy for Policy<F> {
    async fn decide(&self, request: &AccessRequest<'_>) -> Decision {
        let repository = request.repository.map_or("-", |name| name.as_str());
        let operation = format!("{:?}", request.operation);
        let operation = operation.split(['(', ' ']).next().unwrap();
        self.asked.lock().unwrap().push(format!("{repository} {operation}"));
        assert!(request.peer.is_some());
        (self.decide)(request)
    }
}

fn challenge() -> Decision {
    let challenge = HeaderValue::from_static("Basic realm=\"test\"");
    Decision::Unauthenticated { challenge }
}

#[tokio::test]
async fn every_operation_is_decided() {
    let policy = Policy::new(|request: &AccessRequest<'_>| {
        match request.headers.get("authorization").is_some() {
            true => Decision::Deny,
            false => challenge(),
        }
    });
    let memory = MemoryRegistry::new();
    let open = Api::memory(memory.clone(), ServerOptions::new()).await;
    let (_, digest) = open.push_image("a", "v1", "layer").await;
    let layer = Digest::sha256(b"layer");
    let upload = open.begin("a").await;

    let api = Api::memory(memory, ServerOptions::new().policy(policy.clone())).await;
    let cases = [
        (Method::GET, "/v2/".to_owned(), "- Ping"),
        (Method::GET, "/v2/_catalog".to_owned(), "- Catalog"),
        (Method::GET, "/v2/a/tags/list".to_owned(), "a ListTags"),
        (Method::GET, "/v2/unknown/tags/list".to_owned(), "unknown ListTags"),
        (Method::GET, format!("/v2/a/referrers/{digest}"), "a ListReferrers"),
        (Method::GET, "/v2/a/manifests/v1".to_owned(), "a PullManifest"),
        (Method::HEAD, format!("/v2/a/manifests/{digest}"), "a PullManifest"),
        (Method::PUT, "/v2/a/manifests/v1".to_owned(), "a PushManifest"),
        (Method::PUT, "/v2/new/manifests/v1".to_owned(), "new PushManifest"),
        (Method::DELETE, "/v2/a/manifests/v1".to_owned(), "a DeleteTag"),
        (Method::DELETE, format!("/v2/a/manifests/{digest}"), "a DeleteManifest"),
        (Method::GET, format!("/v2/a/blobs/{layer}"), "a PullBlob"),
        (Method::HEAD, format!("/v2/a/blobs/{layer}"), "a PullBlob"),
        (Method::DELETE, format!("/v2/a/blobs/{layer}"), "a DeleteBlob"),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), "a PushBlob"),
        (Method::POST, format!("/v2/a/blobs/uploads/?digest={layer}"), "a PushBlob"),
        (Method::POST, format!("/v2/b/blobs/uploads/?mount={layer}&from=a"), "b MountBlob"),
        (Method::GET, upload.clone(), "a PushBlob"),
        (Method::PATCH, upload.clone(), "a PushBlob"),
        (Method::PUT, format!("{upload}?digest={layer}"), "a PushBlob"),
        (Method::DELETE, upload.clone(), "a PushBlob"),
    ];
    for (method, path, expected) in cases {
        let head = method == Method::HEAD;
        let refused = api.ask(method.clone(), &path).send().await.expect(401);
        assert_eq!(refused.header("www-authenticate"), "Basic realm=\"test\"");
        if !head {
            refused.expect_error(401, "UNAUTHORIZED");
        }
        let refused = api.ask(method, &path).header("authorization", "Basic x").send().await;
        match head {
            true => refused.expect(403),
            false => refused.expect_error(403, "DENIED"),
        };
        assert_eq!(policy.take(), [expected, expected], "{path}");
    }
    open.get("/v2/a/manifests/v1").send().await.expect(200);
    open.get(format!("/v2/a/blobs/{layer}")).send().await.expect(200);
    open.get(&upload).send().await.expect(204);
    open.get("/v2/new/manifests/v1").send().await.expect_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_mount_reveals_nothing_of_its_source() {
    let policy = Policy::new(|request: &AccessRequest<'_>| {
        match request.repository.is_some_and(|name| name.as_str().starts_with("secret")) {
            true => challenge(),
            false => Decision::Allow,
        }
    });
    let memory = MemoryRegistry::new();
    let open = Api::memory(memory.clone(), ServerOptions::new()).await;
    let digest = open.push_blob("secret/a", b"content").await;
    let api = Api::memory(memory, ServerOptions::new().policy(policy.clone())).await;
    let unknown = Digest::sha256(b"unknown");
    let mut answers = Vec::new();
    for (digest, from) in
        [(&digest, "&from=secret/a"), (&digest, ""), (&unknown, "&from=secret/a"), (&unknown, "")]
    {
        let path = format!("/v2/b/blobs/uploads/?mount={digest}{from}");
        let mut reply = api.post(path).send().await.expect(202);
        for name in ["location", "docker-upload-uuid", "date"] {
            reply.headers.remove(name);
        }
        answers.push((reply.headers, reply.body));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "an answer differs: {answers:?}");
    assert!(policy.take().contains(&"secret/a PullBlob".to_owned()));
    api.get(format!("/v2/b/blobs/{digest}")).send().await.expect(404);

    // One that may be read serves, although another one may not.
    open.push_blob("shared/a", b"content").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}");
    api.post(path).send().await.expect(201);
}

// covers: M15
#[tokio::test]
async fn read_only() {
    let memory = MemoryRegistry::new();
    let open = Api::memory(memory.clone(), ServerOptions::new()).await;
    let (manifest, digest) = open.push_image("a", "v1", "layer").await;
    let upload = open.begin("a").await;
    let api = Api::memory(memory, ServerOptions::new().read_only(true)).await;
    api.get("/v2/a/manifests/v1").send().await.expect(200);
    let put = api.put("/v2/a/manifests/v2").header("content-type", IMAGE);
    let refused = put.body(serde_json::to_vec(&manifest).unwrap()).send().await;
    assert_eq!(refused.expect_error(405, "UNSUPPORTED").header("allow"), "GET, HEAD");
    for (method, path, allow) in [
        (Method::DELETE, "/v2/a/manifests/v1".to_owned(), "GET, HEAD"),
        (Method::DELETE, format!("/v2/a/manifests/{digest}"), "GET, HEAD"),
        (Method::DELETE, format!("/v2/a/blobs/{}", Digest::sha256(b"layer")), "GET, HEAD"),
        (Method::POST, "/v2/a/blobs/uploads/".to_owned(), ""),
        (Method::PATCH, upload.clone(), ""),
        (Method::DELETE, upload, ""),
    ] {
        let refused = api.ask(method, &path).send().await.expect_error(405, "UNSUPPORTED");
        assert_eq!(refused.header("allow"), allow, "{path}");
    }
    open.get("/v2/a/manifests/v1").send().await.expect(200);
}

// spec: R63
#[tokio::test]
async fn deletion_can_be_disabled() {
    let memory = MemoryRegistry::new();
    let api = Api::memory(memory, ServerOptions::new().deletes(false)).await;
    let (_, digest) = api.push_image("a", "v1", "layer").await;
    let layer = Digest::sha256(b"layer");
    for (path, allow) in [
        ("/v2/a/manifests/v1".to_owned(), "GET, HEAD, PUT"),
        (format!("/v2/a/manifests/{digest}"), "GET, HEAD, PUT"),
        (format!("/v2/a/blobs/{layer}"), "GET, HEAD"),
    ] {
        let refused = api.delete(&path).send().await.expect_error(405, "UNSUPPORTED");
        assert_eq!(refused.header("allow"), allow);
        api.get(&path).send().await.expect(200);
    }
}

#[tokio::test]
async fn wrong_methods() {
    let api = Api::start().await;
    let digest = Digest::sha256(b"x");
    for (method, path, allow) in [
        ("POST", "/v2/".to_owned(), "GET, HEAD"),
        ("PUT", "/v2/_catalog".to_owned(), "GET, HEAD"),
        ("DELETE", "/v2/a/tags/list".to_owned(), "GET, HEAD"),
        ("POST", format!("/v2/a/referrers/{digest}"), "GET, HEAD"),
        ("PUT", format!("/v2/a/blobs/{digest}"), "GET, HEAD, DELETE"),
        ("PATCH", "/v2/a/manifests/v1".to_owned(), "GET, HEAD, PUT, DELETE"),
        ("BREW", "/v2/a/manifests/v1".to_owned(), "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/a/blobs/uploads/".to_owned(), "POST"),
        ("OPTIONS", "/v2/a/blobs/uploads/x".to_owned(), "GET, HEAD, PATCH, PUT, DELETE"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let refused = api.ask(method, &path).send().await.expect_error(405, "UNSUPPORTED");
        assert_eq!(refused.header("allow"), allow, "{path}");
    }
}
