//! Blobs that break off and go on, under a policy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{ByteRange, Result, Source};
use oci_registry_client::{ClientBuilder, RetryPolicy};
use oci_spec_types::Digest;

use crate::server::{Answer, Seen, Server, builder};

const CONTENT: &[u8] = b"0123456789";

/// At most two attempts after the first, or after progress.
fn twice() -> ClientBuilder {
    builder().retry(RetryPolicy::new(|retry| (retry < 2).then(|| Duration::from_secs(1))))
}

async fn read(server: &Server, range: ByteRange, builder: ClientBuilder) -> Result<Vec<u8>> {
    let read = server.repository_of(builder).blob(&Digest::sha256(CONTENT), range).await?;
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    Ok(chunks.concat())
}

fn part(start: usize, end: usize) -> Answer {
    let range = format!("bytes {start}-{}/10", end - 1);
    Answer::status(206).body(&CONTENT[start..end]).header("Content-Range", range)
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    server.seen().iter().map(|seen| seen.header("range").map(str::to_owned)).collect()
}

// covers: M11, M10
#[tokio::test(start_paused = true)]
async fn it_goes_on_where_it_broke_off() {
    // More breaks than attempts: progress lets them begin anew.
    let answers = [
        Answer::ok(CONTENT).cut(2),
        Answer::status(503),
        part(2, 10).cut(1),
        Answer::status(503),
        part(3, 10).cut(3),
        part(6, 10).cut(0),
        part(6, 10),
    ];
    let server = Server::answering(answers).await;
    assert_eq!(read(&server, ByteRange::All, twice()).await.unwrap(), CONTENT);
    let from = |start: usize| Some(format!("bytes={start}-"));
    assert_eq!(ranges(&server), [None, from(2), from(2), from(3), from(3), from(6), from(6)]);
}

// covers: M11
#[tokio::test(start_paused = true)]
async fn a_part_goes_on_to_its_own_end() {
    let server = Server::answering([part(2, 8).cut(3), part(5, 8)]).await;
    assert_eq!(read(&server, ByteRange::Inclusive(2, 7), twice()).await.unwrap(), b"234567");
    assert_eq!(ranges(&server), [Some("bytes=2-7".to_owned()), Some("bytes=5-7".to_owned())]);
}

// covers: M11
#[tokio::test(start_paused = true)]
async fn a_registry_without_ranges_is_read_until_the_place() {
    let whole = || Answer::ok(CONTENT);
    let server = Server::answering([whole().cut(4), whole().cut(2), whole()]).await;
    assert_eq!(read(&server, ByteRange::All, twice()).await.unwrap(), CONTENT);
    assert_eq!(server.seen().len(), 3);
}

// covers: M11
#[tokio::test(start_paused = true)]
async fn a_wrong_continuation_is_permanent() {
    let wrong: [Answer; 6] = [
        part(3, 10),
        part(5, 10),
        part(4, 9),
        Answer::status(206).body("456789").header("Content-Range", "bytes 4-9/11"),
        Answer::status(206).body("456789"),
        Answer::ok("012345678"),
    ];
    for answer in wrong {
        let server = Server::answering([Answer::ok(CONTENT).cut(4), answer.clone()]).await;
        let error = read(&server, ByteRange::All, twice()).await.unwrap_err();
        assert!(!error.is_retryable(), "{answer:?}: {error}");
        assert_eq!(server.seen().len(), 2, "{answer:?}");
    }
}

// covers: M11, M10
#[tokio::test(start_paused = true)]
async fn it_gives_up_without_progress() {
    let server = Server::start(|seen: &Seen| match seen.header("range") {
        None => Answer::ok(CONTENT).cut(4),
        Some(_) => part(4, 10).cut(0),
    })
    .await;
    let error = read(&server, ByteRange::All, twice()).await.unwrap_err();
    let error = error.find_source::<oci_registry_client::Error>().unwrap();
    assert!(error.to_string().contains("gave up after 2 retries"), "{error}");
    assert_eq!(server.seen().len(), 3);
}

// covers: M11
#[tokio::test(start_paused = true)]
async fn an_early_end_without_a_length_is_unexpected() {
    let tries = Arc::new(Mutex::new(0));
    let counted = tries.clone();
    let server = Server::start(move |seen: &Seen| {
        if seen.method == "HEAD" {
            return Answer::ok(CONTENT);
        }
        *counted.lock().unwrap() += 1;
        Answer::ok(&CONTENT[..5]).lengthless()
    })
    .await;
    let error = read(&server, ByteRange::All, twice()).await.unwrap_err();
    let error = error.find_source::<oci_registry_client::Error>().unwrap();
    assert!(error.to_string().contains("unexpected end at byte 5 of 10"), "{error}");
    assert_eq!(*tries.lock().unwrap(), 3);
}
