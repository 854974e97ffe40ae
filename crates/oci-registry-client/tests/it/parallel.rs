//! One blob by several requests.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{Blob, Result};
use oci_registry_client::{ClientBuilder, RetryPolicy};
use oci_spec_types::{Descriptor, ErrorCode, MediaType};

use crate::server::{Answer, Seen, Server, builder};

const MIB: usize = 1 << 20;

fn content() -> Bytes {
    (0..10 * MIB).map(|at| (at / 1000) as u8).collect::<Vec<_>>().into()
}

fn part_of(content: &Bytes, seen: &Seen) -> Answer {
    let Some(range) = seen.header("range") else {
        return Answer::ok(content);
    };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    if first >= content.len() {
        let range = format!("bytes */{}", content.len());
        return Answer::status(416).header("Content-Range", range);
    }
    let end = last.parse().map_or(content.len(), |last: usize| content.len().min(last + 1));
    let range = format!("bytes {first}-{}/{}", end - 1, content.len());
    Answer::status(206).body(&content[first..end]).header("Content-Range", range)
}

fn four() -> ClientBuilder {
    builder().parallel_ranges(4, MIB as u64)
}

async fn read(server: &Server, builder: ClientBuilder, content: &Bytes) -> Result<Bytes> {
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, content);
    Blob::open(&server.repository_of(builder), &descriptor).await?.into_bytes(u64::MAX).await
}

fn ranges(server: &Server) -> Vec<String> {
    let mut ranges: Vec<_> =
        server.seen().iter().map(|seen| seen.header("range").unwrap_or("all").to_owned()).collect();
    ranges.sort();
    ranges
}

// covers: O3
#[tokio::test]
async fn a_large_blob_is_read_by_several_requests() {
    let content = content();
    let whole = content.clone();
    let server = Server::start(move |seen| part_of(&whole, seen)).await;
    assert!(read(&server, four(), &content).await.unwrap() == content);
    let expected = [
        format!("bytes=0-{}", MIB - 1),
        format!("bytes={}-{}", MIB, 5 * MIB - 1),
        format!("bytes={}-{}", 5 * MIB, 9 * MIB - 1),
        format!("bytes={}-", 9 * MIB),
    ];
    assert_eq!(ranges(&server), expected);
}

// covers: O3
#[tokio::test]
async fn small_blobs_and_registries_without_ranges_need_one_request() {
    for small in [Bytes::from_static(b"x"), Bytes::from(vec![7; MIB])] {
        let whole = small.clone();
        let server = Server::start(move |seen| part_of(&whole, seen)).await;
        assert!(read(&server, four(), &small).await.unwrap() == small);
        assert_eq!(server.seen().len(), 1);
    }
    let empty = Server::start(|seen| part_of(&Bytes::new(), seen)).await;
    assert_eq!(read(&empty, four(), &Bytes::new()).await.unwrap(), "");
    let content = content();
    let whole = content.clone();
    let server = Server::start(move |_| Answer::ok(&whole)).await;
    assert!(read(&server, four(), &content).await.unwrap() == content);
    assert_eq!(server.seen().len(), 1);
}

// covers: M11
#[tokio::test(start_paused = true)]
async fn each_part_is_resumed_on_its_own() {
    let content = content();
    // The first eight answers break off, wherever they are.
    let whole = content.slice(..9 * MIB + 6000);
    let breaking = |whole: Bytes| {
        let answered = Mutex::new(0);
        Server::start(move |seen| {
            let mut answered = answered.lock().unwrap();
            *answered += 1;
            let answer = part_of(&whole, seen);
            if *answered <= 8 { answer.cut(500) } else { answer }
        })
    };
    let server = breaking(whole.clone()).await;
    let policy = RetryPolicy::new(|retry| (retry < 3).then_some(Duration::from_millis(1)));
    assert!(read(&server, four().retry(policy), &whole).await.unwrap() == whole);
    // Four parts, the last of 6000 bytes, and each break one more.
    assert_eq!(server.seen().len(), 4 + 8, "{:?}", ranges(&server));
    let server = breaking(whole.clone()).await;
    let error = read(&server, four(), &whole).await.unwrap_err();
    assert!(error.is_retryable(), "without a policy nothing is resumed: {error}");
}

// covers: M11
#[tokio::test]
async fn what_is_put_together_is_verified() {
    let content = content();
    let mut other = content.to_vec();
    other[7 * MIB] ^= 1;
    let other = Bytes::from(other);
    let server = Server::start(move |seen| part_of(&other, seen)).await;
    let error = read(&server, four(), &content).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    let error = builder().parallel_ranges(0, 1).build().unwrap_err();
    assert!(error.to_string().contains("must not be zero"), "{error}");
}
