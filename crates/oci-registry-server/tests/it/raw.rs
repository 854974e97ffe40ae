//! A client that sees what happens on the connection, and a registry with one blob to try it on.

use std::io::ErrorKind;

use bytes::Bytes;
use oci_ref::Store;
use oci_registry_server::{FaultRule, TestRegistry, TestRegistryBuilder};
use oci_spec_types::{Descriptor, MediaType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What was read until the connection ended.
#[derive(Debug)]
pub(crate) struct Raw {
    /// The head, in which header names are lower-case; empty if none came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the connection was reset, rather than closed in order.
    pub(crate) reset: bool,
}

impl Raw {
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.head.strip_prefix("HTTP/1.1 ").map(|rest| &rest[..3]);
        status.unwrap_or_else(|| panic!("no answer: {self:?}")).parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends one request, and reads until the server ends the connection.
pub(crate) async fn exchange(host: &str, request: &str) -> Raw {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> Raw {
    let mut all = Vec::new();
    let reset = match stream.read_to_end(&mut all).await {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    };
    let end = all.windows(4).position(|window| window == b"\r\n\r\n");
    let body = end.map_or(Vec::new(), |end| all[end + 4..].to_vec());
    let head = String::from_utf8(all[..end.unwrap_or(0)].to_vec()).unwrap();
    Raw { head, body, reset }
}

/// A request that asks for the connection to be closed behind the answer.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A registry with the blob `0123456789` in the repository `a`.
pub(crate) struct Digits {
    pub(crate) registry: TestRegistry,
    pub(crate) path: String,
}

impl Digits {
    pub(crate) async fn with(rule: FaultRule) -> Self {
        Self::start(TestRegistry::builder().fault(rule)).await
    }

    pub(crate) async fn start(builder: TestRegistryBuilder) -> Self {
        let registry = builder.start().await.unwrap();
        let content = Bytes::from_static(b"0123456789");
        let blob = Descriptor::of(MediaType::OCTET_STREAM, &content);
        let memory = registry.registry().memory(&"a".parse().unwrap());
        memory.put_blob(&blob, &content).await.unwrap();
        Self { registry, path: format!("/v2/a/blobs/{}", blob.digest) }
    }

    /// Pulls the blob, and asks for the connection to be closed.
    pub(crate) async fn pull(&self) -> Raw {
        self.ask("GET", &self.path, "").await
    }

    /// Pulls the blob over a connection that should stay open.
    pub(crate) async fn pull_alive(&self) -> Raw {
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", self.path);
        exchange(&self.registry.host(), &request).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> Raw {
        self.send(&request(method, path, headers, "")).await
    }

    pub(crate) async fn send(&self, request: &str) -> Raw {
        exchange(&self.registry.host(), request).await
    }
}
