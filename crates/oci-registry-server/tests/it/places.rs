//! Connections when there are many, and their time.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use oci_registry_server::{MemoryRegistry, ServeOptions, ServerOptions, router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PING: &str = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The head of a push whose body does not come.
const STALLED: &str =
    "PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n";

/// A server, which ends with it.
struct Server {
    host: String,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let app = router(Arc::new(MemoryRegistry::new()), ServerOptions::new());
        Self { host, task: tokio::spawn(serve(listener, app, options, pending())) }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// A connection on which a request was answered.
    async fn idle(&self) -> TcpStream {
        let mut stream = self.connect("").await;
        assert_eq!(ask(&mut stream, PING).await, 200);
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The status of an answer, all of which is read.
async fn status(stream: &mut TcpStream) -> u16 {
    answer(stream).await["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

/// The head of an answer, and its body.
async fn answer(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\n") {
        all.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(all).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

async fn ask(stream: &mut TcpStream, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.unwrap();
    status(stream).await
}

async fn ends(stream: &mut TcpStream) {
    // A reset is an end as well.
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
}

// 50 connections that ask for little every ten seconds kept everybody else out.
#[tokio::test]
async fn the_connection_that_is_idle_longest_ends_for_a_new_one() {
    let server = Server::start(ServeOptions::new().max_connections(3)).await;
    let (mut first, mut second) = (server.idle().await, server.idle().await);
    let mut busy = server.connect(STALLED).await;
    let mut third = server.connect(PING).await;
    ends(&mut first).await;
    assert_eq!(status(&mut third).await, 200);
    assert_eq!(ask(&mut second, PING).await, 200);
    let mut fourth = server.connect(PING).await;
    ends(&mut third).await;
    assert_eq!(status(&mut fourth).await, 200);
    // One that is asked for something is left alone, however long it takes.
    assert_eq!(ask(&mut busy, "{\"x\":\"y\"}").await, 400);
}

#[tokio::test]
async fn one_that_says_nothing_ends_for_a_new_one() {
    for said in ["", "GET /v2/ HT"] {
        let server = Server::start(ServeOptions::new().max_connections(1)).await;
        let mut silent = server.connect(said).await;
        let mut other = server.connect(PING).await;
        assert_eq!(status(&mut other).await, 200);
        ends(&mut silent).await;
    }
}

#[tokio::test]
async fn a_new_one_waits_while_all_are_busy() {
    let server = Server::start(ServeOptions::new().max_connections(1)).await;
    let mut busy = server.connect(STALLED).await;
    let mut head = String::new();
    let waiting = async {
        let mut waiting = server.connect(PING).await;
        status(&mut waiting).await
    };
    let busy = async {
        busy.write_all(b"{\"x\":").await.unwrap();
        tokio::task::yield_now().await;
        busy.write_all(b"\"y\"}").await.unwrap();
        busy.read_to_string(&mut head).await.unwrap();
    };
    let (status, ()) = tokio::join!(waiting, busy);
    assert_eq!(status, 200);
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test]
async fn silence_and_heads_end_after_their_own_time() {
    let soon = Duration::from_millis(50);
    let never = Duration::from_secs(3600);
    let server = Server::start(ServeOptions::new().keep_alive(soon).header_timeout(never)).await;
    ends(&mut server.idle().await).await;
    let server = Server::start(ServeOptions::new().keep_alive(never).header_timeout(soon)).await;
    ends(&mut server.connect("").await).await;
    let mut stream = server.idle().await;
    stream.write_all(b"GET").await.unwrap();
    ends(&mut stream).await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let options = ServeOptions::new().max_connections_per_peer(Some(2));
    let server = Server::start(options).await;
    let (mut first, second) = (server.idle().await, server.idle().await);
    let mut third = server.connect(PING).await;
    let refused = answer(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: "), "{refused}");
    assert!(refused.contains("\"TOOMANYREQUESTS\""), "{refused}");
    ends(&mut third).await;
    assert_eq!(ask(&mut first, PING).await, 200);
    drop(second);
    let mut fourth = server.connect(PING).await;
    while status(&mut fourth).await != 200 {
        fourth = server.connect(PING).await;
    }
}

#[tokio::test]
async fn requests_that_a_proxy_passes_on_count_for_whom_it_names() {
    let options = ServeOptions::new().max_connections_per_peer(Some(1));
    let options = options.trusted_proxy("127.0.0.0/8").unwrap();
    assert!(ServeOptions::new().trusted_proxy("proxy.example").is_err());
    let server = Server::start(options).await;
    let of = |request: &str, client: &str| {
        request.replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {client}\r\n\r\n"))
    };
    let mut busy = server.connect(&of(STALLED, "6.6.6.6, 203.0.113.9")).await;
    let mut proxied = server.idle().await;
    // Until the first request has come.
    while ask(&mut proxied, &of(PING, "203.0.113.9")).await == 200 {}
    assert_eq!(ask(&mut proxied, &of(PING, "203.0.113.9, 127.0.0.7")).await, 503);
    assert_eq!(ask(&mut proxied, &of(PING, "203.0.113.10")).await, 200);
    assert_eq!(ask(&mut proxied, &of(PING, "6.6.6.6")).await, 200);
    assert_eq!(ask(&mut busy, "{\"x\":\"y\"}").await, 400);
    assert_eq!(ask(&mut proxied, &of(PING, "203.0.113.9")).await, 200);
}

// distribution#996: stunnel, `nc -N` and others close their half behind the request.
#[tokio::test]
async fn who_has_no_more_to_say_is_answered() {
    let server = Server::start(ServeOptions::new()).await;
    for (request, expected) in [
        (PING.to_owned(), "HTTP/1.1 200 "),
        (PING.replace("GET /v2/", "POST /v2/a/blobs/uploads/"), "HTTP/1.1 202 "),
        (PING.replace("/v2/", "/v2/a/tags/list"), "HTTP/1.1 404 "),
    ] {
        for _ in 0..20 {
            let mut stream = server.connect(&request).await;
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(expected), "{request}: {answer:?}");
        }
    }
    let mut idle = server.idle().await;
    idle.shutdown().await.unwrap();
    ends(&mut idle).await;
}

// docker-archive/migrator#116, distribution#4525: scripts look for names as Go's servers write
// them.
#[tokio::test]
async fn names_of_headers_have_capitals() {
    let server = Server::start(ServeOptions::new()).await;
    let mut stream = server.connect(PING).await;
    let answer = answer(&mut stream).await;
    for name in ["Docker-Distribution-Api-Version: ", "Content-Type: ", "Content-Length: "] {
        assert!(answer.contains(&format!("\r\n{name}")), "{answer}");
    }
}

// RFC 9112, section 3.2
#[tokio::test]
async fn a_request_names_one_host() {
    let server = Server::start(ServeOptions::new()).await;
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nhost: x\r\n"] {
        let request = format!("GET /v2/ HTTP/1.1\r\n{hosts}\r\n");
        let mut stream = server.connect(&request).await;
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("Host headers, expected one"), "{answer}");
        ends(&mut stream).await;
    }
    let mut stream = server.connect("GET /v2/ HTTP/1.0\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

// A page whose name leads to this machine would otherwise count as the registry's own.
#[tokio::test]
async fn another_host_is_not_answered_on_loopback() {
    let server = Server::start(ServeOptions::new()).await;
    for (host, expected) in [
        (server.host.as_str(), 200),
        ("localhost:5000", 200),
        ("rebind.attacker.example", 421),
        ("localhost.attacker.example:5000", 421),
    ] {
        let mut stream = server.connect(&PING.replace("localhost", host)).await;
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
        if expected == 421 {
            assert!(answer.contains("--external-url") && answer.contains("--allow-host"));
        }
    }
    let absolute = "GET http://attacker.example/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(status(&mut server.connect(absolute).await).await, 421);
}
