//! A registry to ask, a small client to ask it with, and content to put into it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use oci_ref::Registry;
use oci_registry_server::{MemoryRegistry, ServerOptions, TestRegistry};
use oci_spec_types::Digest;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A registry, and how to ask it.
pub(crate) struct Api {
    pub(crate) registry: TestRegistry<Arc<dyn Registry>>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::memory(MemoryRegistry::new(), ServerOptions::new()).await
    }

    pub(crate) async fn options(options: ServerOptions) -> Self {
        Self::memory(MemoryRegistry::new(), options).await
    }

    pub(crate) async fn memory(memory: MemoryRegistry, options: ServerOptions) -> Self {
        Self::with(memory, options).await
    }

    pub(crate) async fn engine(engine: impl Registry) -> Self {
        Self::with(engine, ServerOptions::new()).await
    }

    async fn with(engine: impl Registry, options: ServerOptions) -> Self {
        let engine: Arc<dyn Registry> = Arc::new(engine);
        let registry = TestRegistry::with(engine, options).await.unwrap();
        Self { registry }
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::GET, path)
    }

    pub(crate) fn head(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::HEAD, path)
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::POST, path)
    }

    pub(crate) fn patch(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::PATCH, path)
    }

    pub(crate) fn put(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: impl Into<String>) -> Ask {
        self.ask(Method::DELETE, path)
    }

    pub(crate) fn ask(&self, method: Method, path: impl Into<String>) -> Ask {
        Ask {
            host: self.registry.host(),
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Begins an upload, and gives its location.
    pub(crate) async fn begin(&self, name: &str) -> String {
        let reply = self.post(format!("/v2/{name}/blobs/uploads/")).send().await;
        reply.expect(202).header("location").to_owned()
    }

    pub(crate) async fn push_blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        self.post(path).body(content.to_vec()).send().await.expect(201);
        digest
    }

    pub(crate) async fn push_manifest(
        &self,
        name: &str,
        reference: &str,
        manifest: &Value,
    ) -> Reply {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let media_type = manifest["mediaType"].as_str().unwrap_or(IMAGE);
        let ask = self.put(format!("/v2/{name}/manifests/{reference}"));
        ask.header("content-type", media_type).body(bytes).send().await
    }

    /// Pushes an image of one layer, and gives its manifest.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, layer: &str) -> (Value, Digest) {
        self.push_blob(name, b"{}").await;
        self.push_blob(name, layer.as_bytes()).await;
        let manifest = image(&[layer]);
        self.push_manifest(name, tag, &manifest).await.expect(201);
        let digest = digest_of(&manifest);
        (manifest, digest)
    }
}

/// A request that is being put together.
pub(crate) struct Ask {
    host: String,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Ask {
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Reply {
        let stream = TcpStream::connect(&self.host).await.unwrap();
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(&self.method).uri(&self.path);
        request = request.header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(self.body)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        connection.abort();
        let asked = format!("{} {}", self.method, self.path);
        let reply = Reply { asked, status: head.status.as_u16(), headers: head.headers, body };
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("content-security-policy"), "default-src 'none'; sandbox");
        reply
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    asked: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {:?}", self.asked, self.body);
        self
    }

    /// That the answer is an error in the spec's form. spec: R70, R71, R72
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.header("content-type"), "application/json", "{}", reply.asked);
        let body = reply.json();
        assert_eq!(body["errors"][0]["code"], code, "{}: {body}", reply.asked);
        assert_ne!(body["errors"][0]["message"], "", "{}", reply.asked);
        reply
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        match self.headers.get(name) {
            Some(value) => value.to_str().unwrap(),
            None => panic!("{}: no header {name}: {:?}", self.asked, self.headers),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{}: {error}: {:?}", self.asked, self.body),
        }
    }

    pub(crate) fn message(&self) -> String {
        self.json()["errors"][0]["message"].as_str().unwrap().to_owned()
    }

    /// The target of the `Link` to the next page.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        let link = self.header("link");
        let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        target.unwrap_or_else(|| panic!("{}: Link is {link}", self.asked)).to_owned()
    }
}

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    let digest = Digest::sha256(content);
    json!({"mediaType": media_type, "digest": digest.as_str(), "size": content.len()})
}

/// An image with the config `{}`.
pub(crate) fn image(layers: &[&str]) -> Value {
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<_> =
        layers.iter().map(|content| descriptor(layer, content.as_bytes())).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, b"{}"),
        "layers": layers,
    })
}

pub(crate) fn index(manifests: &[&Value]) -> Value {
    let manifests: Vec<_> = manifests.iter().map(|manifest| descriptor_of(manifest)).collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

pub(crate) fn descriptor_of(manifest: &Value) -> Value {
    let bytes = serde_json::to_vec(manifest).unwrap();
    descriptor(manifest["mediaType"].as_str().unwrap(), &bytes)
}

pub(crate) fn digest_of(manifest: &Value) -> Digest {
    Digest::sha256(&serde_json::to_vec(manifest).unwrap())
}
