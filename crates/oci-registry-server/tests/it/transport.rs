//! What happens on the connection itself.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oci_registry_server::{MemoryRegistry, ServeOptions, ServerOptions, router, serve};
use oci_spec_types::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::support::{Api, IMAGE};

async fn connect(host: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads up to the end of the first answer's head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn what_came_before_the_client_went_away_is_kept() {
    let api = Api::start().await;
    let location = api.begin("a").await;
    let request =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    let stream = connect(&api.registry.host(), &request).await;
    drop(stream);
    let go_on = async {
        loop {
            let range =
                api.patch(&location).header("content-range", "5-9").body("56789").send().await;
            match range.status {
                202 => return range.header("range").to_owned(),
                // Not all that was sent has arrived yet, or it is being written.
                416 => tokio::task::yield_now().await,
                status => panic!("{status}: {:?}", range.body),
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), go_on).await.unwrap(), "0-9");
    let digest = Digest::sha256(b"0123456789");
    api.put(format!("{location}?digest={digest}")).send().await.expect(201);
}

#[tokio::test]
async fn a_chunked_body_is_limited_while_it_comes() {
    let api = Api::options(ServerOptions::new().max_manifest_bytes(100)).await;
    let request = format!(
        "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: {IMAGE}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut stream = connect(&api.registry.host(), &request).await;
    for _ in 0..10 {
        stream.write_all(format!("20\r\n{}\r\n", "x".repeat(32)).as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn who_waits_for_our_word_hears_of_a_refusal_at_once() {
    let api = Api::options(ServerOptions::new().max_manifest_bytes(100)).await;
    let request = "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = connect(&api.registry.host(), request).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 413 "));
    let request = "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = connect(&api.registry.host(), request).await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100 "));
}

#[tokio::test]
async fn an_upload_that_stops_is_given_up_and_kept() {
    let api = Api::options(ServerOptions::new().idle_timeout(Duration::from_millis(50))).await;
    let location = api.begin("a").await;
    let request =
        format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    let mut stream = connect(&api.registry.host(), &request).await;
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let status = api.get(&location).send().await.expect(204);
    assert_eq!(status.header("range"), "0-4");
}

#[tokio::test]
async fn a_connection_takes_many_requests() {
    let api = Api::start().await;
    let digest = api.push_blob("a", b"hello").await;
    let get = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    let head_request = format!("HEAD /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    let missing = "GET /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let unchanged =
        format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n");
    let last = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let requests = [&head_request, &get, missing, &unchanged, &head_request, last].concat();
    let mut stream = connect(&api.registry.host(), &requests).await;
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<_> =
        answers.match_indices("HTTP/1.1 ").map(|(at, _)| &answers[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "404", "304", "200", "200"]);
    assert_eq!(answers.matches("\r\n\r\nhello").count(), 1);
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(Arc::new(MemoryRegistry::new()), ServerOptions::new().allow_hosts(["x"]));
    let options = ServeOptions::new().header_timeout(Duration::from_millis(50));
    let server = tokio::spawn(serve(listener, app, options, pending()));
    let mut stream = connect(&address.to_string(), "GET /v2/ HTTP/1.1\r\nHost:").await;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    server.abort();
}

/// A server with one blob, and a way to stop it.
async fn stoppable(
    options: ServeOptions,
) -> (String, String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let registry = MemoryRegistry::new();
    let content = Bytes::from(vec![7; 16 << 20]);
    let descriptor =
        oci_spec_types::Descriptor::of(oci_spec_types::MediaType::OCTET_STREAM, &content);
    let memory = registry.memory(&"a".parse().unwrap());
    oci_ref::Store::put_blob(&memory, &descriptor, &content).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let app = router(Arc::new(registry), ServerOptions::new().allow_hosts(["x"]));
    let (stop, stopped) = oneshot::channel();
    let shutdown = async { stopped.await.unwrap() };
    let server = tokio::spawn(serve(listener, app, options, shutdown));
    let request = format!("GET /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", descriptor.digest);
    (host, request, stop, server)
}

#[tokio::test]
async fn a_shutdown_lets_transfers_finish() {
    let (host, request, stop, server) = stoppable(ServeOptions::new()).await;
    let mut idle = connect(&host, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    head(&mut idle).await;
    let mut silent = connect(&host, "").await;
    let mut stream = connect(&host, &request).await;
    head(&mut stream).await;
    stop.send(()).unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "one that never asked ends as well");
    let mut rest = vec![0; 2];
    idle.read_exact(&mut rest).await.unwrap();
    assert_eq!(idle.read(&mut rest).await.unwrap(), 0, "an idle connection ends at once");
    assert!(!server.is_finished());
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await.unwrap();
    assert_eq!(body.len(), 16 << 20);
    server.await.unwrap();
    assert!(TcpStream::connect(&host).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let options = ServeOptions::new().grace(Duration::from_millis(50));
    let (host, request, stop, server) = stoppable(options).await;
    let mut stream = connect(&host, &request).await;
    head(&mut stream).await;
    stop.send(()).unwrap();
    server.await.unwrap();
    let mut body = Vec::new();
    let _ = stream.read_to_end(&mut body).await;
    assert!(body.len() < 16 << 20);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let options = ServeOptions::new().idle_timeout(Duration::from_millis(50)).grace(Duration::MAX);
    let (host, request, stop, server) = stoppable(options).await;
    let mut stream = connect(&host, &request).await;
    head(&mut stream).await;
    stop.send(()).unwrap();
    // The server ends only because it gives the connection up.
    server.await.unwrap();
}

#[tokio::test]
async fn requests_are_recorded_and_the_end_is_the_end() {
    let api = Api::start().await;
    api.get("/v2/a/tags/list?n=1").header("accept", "x/y").send().await.expect(404);
    let recorded = api.registry.take_requests();
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].method, "GET");
    assert_eq!((recorded[0].path.as_str(), recorded[0].query.as_str()), ("/v2/a/tags/list", "n=1"));
    assert_eq!(recorded[0].headers["accept"], "x/y");
    assert!(api.registry.requests().is_empty());
    assert_eq!(api.registry.url(), format!("http://{}", api.registry.host()));
    let host = api.registry.host();
    drop(api);
    while TcpStream::connect(&host).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
