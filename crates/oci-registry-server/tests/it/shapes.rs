//! Requests in odd shapes, as bytes: each gets one answer or none, and nothing is smuggled behind
//! it.

use std::future::pending;
use std::sync::Arc;

use oci_registry_server::{MemoryRegistry, ServeOptions, ServerOptions, router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HOST: &str = "Host: localhost\r\n";

/// The statuses that come back when these bytes are sent, and nothing more.
async fn statuses(address: &str, request: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A refusal can come, and the connection end, before all is sent.
    let sent = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    let read = stream.read_to_end(&mut answers).await;
    assert!(sent.is_ok() && read.is_ok() || request.len() > 100_000, "{sent:?} {read:?}");
    let text = String::from_utf8_lossy(&answers);
    let lines = text.split("\r\n").flat_map(|line| line.split('}'));
    lines.filter_map(|line| line.strip_prefix("HTTP/1.")?.get(2..5).map(str::to_owned)).collect()
}

#[tokio::test]
async fn one_answer_or_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = router(Arc::new(MemoryRegistry::new()), ServerOptions::new());
    let server = tokio::spawn(serve(listener, app, ServeOptions::new(), pending()));
    let post = |headers: &str, body: &str| {
        format!("POST /v2/a/blobs/uploads/ HTTP/1.1\r\n{HOST}{headers}\r\n{body}")
    };
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\n{HOST}{headers}\r\n");
    let smuggled = get("/v2/_catalog", "");
    let chunked = "Transfer-Encoding: chunked\r\n";
    let (one, none) = (|status: &'static str| vec![status], Vec::new());
    let cases = [
        // Lengths that two readers could understand in two ways.
        (
            post(&format!("Content-Length: 6\r\n{chunked}"), &format!("0\r\n\r\n{smuggled}")),
            one("202"),
        ),
        (
            post(&format!("{chunked}Content-Length: 4\r\n"), &format!("0\r\n\r\n{smuggled}")),
            one("202"),
        ),
        (post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), one("400")),
        (post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), one("400")),
        (post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), one("400")),
        (post("Content-Length: 0\r\nContent-Length: 44\r\n", &smuggled), one("400")),
        (post("Content-Length: +0\r\n", ""), one("400")),
        (post("Content-Length: -1\r\n", ""), one("400")),
        (post("Content-Length: 0x0\r\n", ""), one("400")),
        (post("Content-Length: 99999999999999999999999\r\n", ""), one("400")),
        (post(chunked, "10000000000000000\r\nx"), one("202")),
        (post(chunked, &format!("5;\nabc\r\nhello\r\n0\r\n\r\n{smuggled}")), one("202")),
        (format!("POST /v2/a/blobs/uploads/ HTTP/1.0\r\n{chunked}\r\n0\r\n\r\n"), one("400")),
        // Heads that are none.
        (get("/v2/", "Content-Length : 5\r\n"), one("400")),
        (get("/v2/", "X-A: b\r\n c\r\n"), one("400")),
        (get("/v2/", "X: a\rTransfer-Encoding: chunked\r\n"), one("400")),
        (get("/v2/", "X: a\0b\r\n"), one("400")),
        (get("/v2/a b/manifests/x", ""), one("400")),
        ("GET /v2/\r\n".to_owned(), one("400")),
        (format!("GET /v2/ HTTP/2.0\r\n{HOST}\r\n"), one("400")),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), none),
        (format!("\x16\x03\x01\x02{}", "A".repeat(100)), one("400")),
        // Paths, methods and hosts.
        ("GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), one("400")),
        (get("http://localhost/v2/", ""), one("200")),
        (get("/v2/../../etc/passwd", ""), one("404")),
        (get("/v2/a%00/manifests/x", ""), one("400")),
        (get("/v2/a%2f..%2fb/manifests/x", ""), one("400")),
        (get("/v2/", "Connection: Upgrade\r\nUpgrade: h2c\r\n"), one("200")),
        (get("/v2/_catalog?n=1&last=%0d%0aSet-Cookie:x", ""), one("400")),
        (format!("TRACE /v2/ HTTP/1.1\r\n{HOST}\r\n"), one("405")),
        (format!("get /v2/ HTTP/1.1\r\n{HOST}\r\n"), one("405")),
        // At a tenth of the limits, below, and beyond them.
        (get(&format!("/v2/{}", "a".repeat(6_000)), ""), one("404")),
        (get(&format!("/v2/{}", "a".repeat(60_000)), ""), one("404")),
        (get(&format!("/v2/{}", "a".repeat(70_000)), ""), one("414")),
        (get("/v2/", &format!("X: {}\r\n", "a".repeat(10_000))), one("200")),
        (get("/v2/", &format!("X: {}\r\n", "a".repeat(100_000))), one("200")),
        (get("/v2/", &format!("X: {}\r\n", "a".repeat(200_000))), one("431")),
        (get("/v2/", &"X: a\r\n".repeat(10)), one("200")),
        (get("/v2/", &"X: a\r\n".repeat(98)), one("200")),
        (get("/v2/", &"X: a\r\n".repeat(300)), one("431")),
        (get("/v2/_catalog", "").repeat(100), vec!["200"; 100]),
    ];
    for (request, expected) in cases {
        let found = statuses(&address, request.as_bytes()).await;
        let shown: String = request.chars().take(200).collect();
        assert_eq!(found, expected, "{shown:?}");
    }
    server.abort();
}
