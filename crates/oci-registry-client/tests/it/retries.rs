//! Another attempt: when, after how long, and when not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_ref::{ByteRange, Source};
use oci_registry_client::{ClientBuilder, RetryPolicy};
use oci_spec_types::Digest;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::time::Instant;

use crate::server::{Answer, Server, builder};

type Waits = Arc<Mutex<Vec<(u32, Duration, Option<u16>)>>>;

fn blob() -> Digest {
    Digest::sha256(b"blob")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A policy of 1, 2, 4 seconds, whose waits are kept.
fn watched(policy: RetryPolicy) -> (ClientBuilder, Waits) {
    let waits = Waits::default();
    let kept = waits.clone();
    let builder = builder().retry(policy).on_retry(move |retry| {
        kept.lock().unwrap().push((retry.failed, retry.wait, retry.error.status()));
    });
    (builder, waits)
}

fn thrice() -> RetryPolicy {
    RetryPolicy::new(|retry| (retry < 3).then(|| seconds(1 << retry)))
}

// covers: M10
#[tokio::test(start_paused = true)]
async fn temporary_failures_are_tried_again_as_the_policy_says() {
    let answers =
        [Answer::status(500), Answer::status(408), Answer::status(502), Answer::ok("blob")];
    let server = Server::answering(answers).await;
    let (builder, waits) = watched(thrice());
    let started = Instant::now();
    assert_eq!(server.repository_of(builder).blob_size(&blob()).await.unwrap(), Some(4));
    assert!(started.elapsed() >= seconds(7));
    let expected =
        [(1, seconds(1), Some(500)), (2, seconds(2), Some(408)), (3, seconds(4), Some(502))];
    assert_eq!(*waits.lock().unwrap(), expected);
}

// covers: M10
#[tokio::test(start_paused = true)]
async fn it_ends_with_the_policy() {
    let server = Server::start(|_| Answer::status(503)).await;
    let (builder, waits) = watched(thrice());
    let error = server.repository_of(builder).blob_size(&blob()).await.unwrap_err();
    assert!(error.is_retryable());
    let error: &oci_registry_client::Error = error.find_source().unwrap();
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().contains("gave up after 3 retries"), "{error}");
    assert_eq!(server.seen().len(), 4);
    assert_eq!(waits.lock().unwrap().len(), 3);
}

// covers: M10
#[tokio::test(start_paused = true)]
async fn permanent_failures_and_clients_without_a_policy_stop_at_once() {
    for status in [400, 403, 404, 409, 501, 505, 511] {
        let server = Server::start(move |_| Answer::status(status)).await;
        let (builder, waits) = watched(thrice());
        let read = server.repository_of(builder).blob(&blob(), ByteRange::All).await;
        assert!(read.is_err(), "{status}");
        assert_eq!(server.seen().len(), 1, "{status}");
        assert!(waits.lock().unwrap().is_empty());
    }
    let server = Server::start(|_| Answer::status(503)).await;
    server.repository().blob_size(&blob()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

// covers: M10, M14
#[tokio::test(start_paused = true)]
async fn the_later_of_both_waits_counts() {
    let answers = [
        Answer::status(429).header("Retry-After", 9),
        Answer::status(429).header("Retry-After", 1),
        Answer::status(429).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
        Answer::ok("blob"),
    ];
    let server = Server::answering(answers).await;
    let (builder, waits) = watched(thrice());
    server.repository_of(builder).blob_size(&blob()).await.unwrap();
    let waited: Vec<_> = waits.lock().unwrap().iter().map(|(_, wait, _)| *wait).collect();
    assert_eq!(waited, [seconds(9), seconds(2), seconds(4)]);
}

// covers: M10, M14
#[tokio::test(start_paused = true)]
async fn a_wait_past_the_deadline_fails_at_once() {
    let server = Server::start(|_| Answer::status(429).header("Retry-After", 60)).await;
    let (builder, waits) = watched(thrice().deadline(seconds(30)));
    let started = Instant::now();
    let error = server.repository_of(builder).blob_size(&blob()).await.unwrap_err();
    assert!(started.elapsed() < seconds(30));
    let error: &oci_registry_client::Error = error.find_source().unwrap();
    assert_eq!(error.retry_after(), Some(seconds(60)));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("past the deadline of 30s"), "{error}");
    assert_eq!(server.seen().len(), 1);
    assert!(waits.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_wait_holds_for_all_requests_to_the_registry() {
    let server = Server::answering([
        Answer::status(429).header("Retry-After", 50),
        Answer::ok("blob"),
        Answer::ok("blob"),
    ])
    .await;
    let (builder, _) = watched(thrice());
    let repository = server.repository_of(builder);
    let digest = blob();
    let first = repository.blob_size(&digest);
    let second = async {
        // Begins when the first has been told to wait.
        while server.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(seconds(1)).await;
        let began = Instant::now();
        repository.sibling("c".parse().unwrap()).blob_size(&digest).await.unwrap();
        began.elapsed()
    };
    let (first, waited) = futures_util::future::join(first, second).await;
    first.unwrap();
    assert!(waited >= seconds(40), "{waited:?}");
    assert_eq!(server.seen().len(), 3);
}

// covers: M10
#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_and_a_body_that_breaks_are_tried_again() {
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let server = Server::answering([Answer::ok(index).cut(10), Answer::ok(index)]).await;
    let (builder, waits) = watched(thrice());
    let tag: oci_spec_types::Tag = "1".parse().unwrap();
    let found = server.repository_of(builder).manifest(&tag.into()).await.unwrap();
    assert_eq!(found.bytes().as_ref(), index);
    assert_eq!(waits.lock().unwrap().len(), 1);

    // Nobody listens here any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let (builder, waits) = watched(thrice());
    let client = builder.build().unwrap();
    let error = client.registry(&host).unwrap().ping().await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.status(), None);
    assert_eq!(waits.lock().unwrap().len(), 3);
    assert!(error.to_string().starts_with(&format!("GET http://{host}/v2/: ")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_request() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = silent.local_addr().unwrap().to_string().parse().unwrap();
    let client = builder().idle_timeout(seconds(5)).build().unwrap();
    let error = client.registry(&host).unwrap().ping().await.unwrap_err();
    assert!(error.to_string().contains("kept silent"), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn requests_are_no_more_at_a_time_than_allowed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (now, most) = (now.clone(), most.clone());
            tokio::spawn(async move {
                let mut stream = BufStream::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        let here = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(here, Ordering::SeqCst);
                        // Others get the time to come as well.
                        for _ in 0..1000 {
                            tokio::task::yield_now().await;
                        }
                        now.fetch_sub(1, Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
                        stream.write_all(answer).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    let client = builder().concurrency(3).build().unwrap();
    let repository = client.registry(&host).unwrap().repository("a/b".parse().unwrap());
    let blob = blob();
    let all = (0..12).map(|_| repository.blob_size(&blob));
    for size in futures_util::future::join_all(all).await {
        assert_eq!(size.unwrap(), Some(4));
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn requests_are_no_more_a_second_than_allowed() {
    let server = Server::start(|_| Answer::ok("blob")).await;
    let repository = server.repository_of(builder().rate_limit(2.0));
    let (started, blob) = (Instant::now(), blob());
    let all = (0..5).map(|_| repository.blob_size(&blob));
    for size in futures_util::future::join_all(all).await {
        assert_eq!(size.unwrap(), Some(4));
    }
    assert_eq!(started.elapsed().as_secs(), 2, "0, 0.5, 1, 1.5 and 2 seconds");
    for rate in [0.0, -1.0, f64::NAN, 1e-9] {
        let error = builder().rate_limit(rate).build().unwrap_err();
        assert!(error.to_string().contains("rate limit"), "{error}");
    }
    builder().rate_limit(f64::INFINITY).build().unwrap();
}
