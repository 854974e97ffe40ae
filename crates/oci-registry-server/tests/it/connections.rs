//! Connections that break on demand, and bodies that come otherwise than they should.

use std::time::Duration;

use oci_registry_server::{BreakAt, Endpoint, Fault, FaultRule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::{Digits, exchange, read_to_end, request};

#[tokio::test]
async fn a_connection_ends_before_the_answer() {
    for at in [BreakAt::Request, BreakAt::Answer] {
        for (fault, reset) in [(Fault::reset(at), true), (Fault::close(at), false)] {
            let digits = Digits::with(FaultRule::new(fault.clone()).first(1)).await;
            let raw = digits.pull_alive().await;
            assert_eq!((raw.head.as_str(), raw.body.len(), raw.reset), ("", 0, reset), "{fault:?}");
            assert_eq!(digits.pull().await.text(), "0123456789");
            assert_eq!(digits.registry.requests()[0].faults, [fault]);
        }
    }
}

#[tokio::test]
async fn a_request_is_carried_out_or_not() {
    for (at, after) in [(BreakAt::Request, 200), (BreakAt::Answer, 404)] {
        for fault in [Fault::reset(at), Fault::close(at)] {
            let rule = FaultRule::new(fault).endpoint(Endpoint::DeleteBlob);
            let digits = Digits::with(rule).await;
            assert_eq!(digits.ask("DELETE", &digits.path, "").await.head, "");
            assert_eq!(digits.pull().await.status(), after);
        }
    }
}

#[tokio::test]
async fn a_connection_ends_in_the_body() {
    for bytes in [0, 1, 4, 9] {
        let at = BreakAt::Body(bytes);
        for (fault, reset) in [(Fault::reset(at), true), (Fault::close(at), false)] {
            let raw = Digits::with(FaultRule::new(fault)).await.pull_alive().await;
            assert_eq!(raw.status(), 200);
            assert_eq!(raw.header("content-length"), Some("10"));
            assert_eq!(raw.text(), &"0123456789"[..bytes as usize]);
            assert_eq!(raw.reset, reset);
        }
    }
}

#[tokio::test]
async fn a_connection_ends_after_the_answer() {
    for at in [BreakAt::End, BreakAt::Body(10), BreakAt::Body(11)] {
        for (fault, reset) in [(Fault::reset(at), true), (Fault::close(at), false)] {
            let digits = Digits::with(FaultRule::new(fault)).await;
            let raw = digits.pull_alive().await;
            assert_eq!(raw.text(), "0123456789");
            assert_eq!(raw.header("connection"), None, "the head promised to stay");
            assert_eq!(raw.reset, reset);
            // Answers without a body end the same way.
            let head = format!("HEAD {} HTTP/1.1\r\nHost: x\r\n\r\n", digits.path);
            let raw = exchange(&digits.registry.host(), &head).await;
            assert_eq!((raw.status(), raw.text(), raw.reset), (200, "", reset));
            let missing = "DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
            let raw = exchange(&digits.registry.host(), missing).await;
            assert_eq!((raw.status(), raw.reset), (404, reset));
        }
    }
}

#[tokio::test]
async fn a_large_body_breaks_off_at_its_byte() {
    let digits = Digits::with(FaultRule::new(Fault::close(BreakAt::Body(5_000_000)))).await;
    let content = "x".repeat(6 << 20);
    let digest = oci_spec_types::Digest::sha256(content.as_bytes());
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(digits.send(&request("POST", &path, "", &content)).await.status(), 201);
    let raw = digits.ask("GET", &format!("/v2/a/blobs/{digest}"), "").await;
    assert_eq!(raw.header("content-length"), Some((6 << 20).to_string().as_str()));
    assert_eq!(raw.body.len(), 5_000_000);
    assert!(!raw.reset);
}

#[tokio::test]
async fn a_connection_that_survived_a_fault_goes_on() {
    let rule = FaultRule::new(Fault::close(BreakAt::Body(3))).skip(1).first(1);
    let digits = Digits::with(rule).await;
    let get = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", digits.path);
    let mut stream = TcpStream::connect(digits.registry.host()).await.unwrap();
    stream.write_all(get.as_bytes()).await.unwrap();
    let mut first = Vec::new();
    while !first.ends_with(b"0123456789") {
        first.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(get.as_bytes()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.text(), "012");
}

#[tokio::test]
async fn lengths() {
    let cases = [
        (Fault::wrong_length(2), "12", "0123456789"),
        (Fault::wrong_length(-2), "8", "01234567"),
        (Fault::wrong_length(-20), "0", ""),
        (Fault::extra_bytes(2), "12", "0123456789\0\0"),
    ];
    for (fault, length, body) in cases {
        let digits = Digits::with(FaultRule::new(fault.clone())).await;
        let raw = digits.pull().await;
        assert_eq!(raw.header("content-length"), Some(length), "{fault:?}");
        assert_eq!(raw.text(), body, "{fault:?}");
        let head = digits.ask("HEAD", &digits.path, "").await;
        assert_eq!(head.header("content-length"), Some(length), "{fault:?}");
    }
}

#[tokio::test]
async fn one_byte_is_another() {
    let raw = Digits::with(FaultRule::new(Fault::corrupt(4))).await.pull().await;
    assert_eq!(raw.body.len(), 10);
    assert_eq!(&raw.body[..4], b"0123");
    assert_eq!(raw.body[4], !b'4');
    assert_eq!(&raw.body[5..], b"56789");
}

#[tokio::test]
async fn a_slow_body_is_whole() {
    let slow = FaultRule::new(Fault::slow(3, Duration::from_millis(1)));
    assert_eq!(Digits::with(slow).await.pull().await.text(), "0123456789");
    // The first piece comes at once, and the next in an hour.
    let slow = FaultRule::new(Fault::slow(3, Duration::from_secs(3600)));
    let digits = Digits::with(slow).await;
    let mut stream = TcpStream::connect(digits.registry.host()).await.unwrap();
    stream.write_all(request("GET", &digits.path, "", "").as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n012") {
        got.push(stream.read_u8().await.unwrap());
    }
    let more = std::future::poll_fn(|cx| {
        let mut byte = [0];
        let mut buffer = tokio::io::ReadBuf::new(&mut byte);
        std::task::Poll::Ready(
            tokio::io::AsyncRead::poll_read(std::pin::Pin::new(&mut stream), cx, &mut buffer)
                .is_pending(),
        )
    });
    assert!(more.await, "nothing more has come");
}

#[tokio::test]
async fn latency_holds_up_one_request_and_not_the_others() {
    let late = FaultRule::new(Fault::latency(Duration::from_secs(3600))).first(1);
    let digits = std::sync::Arc::new(Digits::with(late).await);
    let held = tokio::spawn({
        let digits = digits.clone();
        async move { digits.pull().await }
    });
    while digits.registry.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(digits.pull().await.status(), 200);
    assert!(!held.is_finished());
    held.abort();
}

#[tokio::test]
async fn faults_add_up() {
    let rule = FaultRule::new(Fault::close(BreakAt::Body(6)))
        .and(Fault::corrupt(2))
        .and(Fault::slow(1, Duration::ZERO))
        .and(Fault::wrong_digest());
    let raw = Digits::with(rule).await.pull_alive().await;
    assert_eq!(raw.body, [b'0', b'1', !b'2', b'3', b'4', b'5']);
    assert_ne!(raw.header("docker-content-digest"), None);
}
