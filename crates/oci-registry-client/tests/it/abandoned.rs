//! Uploads that nobody waits for any more.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use oci_ref::{Body, Reopen, Store, UploadId};
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType};
use tokio::sync::Notify;

use crate::server::{Answer, Seen, Server, builder};

fn answer(seen: &Seen) -> Answer {
    match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up").header("OCI-Chunk-Min-Length", 25),
        "PATCH" => Answer::status(202).header("Location", "/up"),
        "PUT" => Answer::status(201),
        "GET" => Answer::status(204).header("Range", "0-24"),
        _ => Answer::status(204),
    }
}

fn methods(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.method.clone()).collect()
}

async fn until(server: &Server, expected: &[&str]) {
    while methods(server) != expected {
        tokio::task::yield_now().await;
    }
}

/// Content that never comes to its end, and says when it is asked for.
struct Endless(Notify);

#[async_trait]
impl Reopen for Endless {
    async fn open(&self, _: u64) -> oci_ref::Result<Body> {
        self.0.notify_one();
        Ok(stream::once(async { Ok(Bytes::from_static(b"some")) }).chain(stream::pending()).boxed())
    }
}

#[tokio::test]
async fn a_push_that_is_dropped_is_cancelled() {
    let server = Server::start(answer).await;
    let repository = server.repository_of(builder().chunk_size(10));
    let endless = Endless(Notify::new());
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, Digest::sha256(b"x"), 1 << 20);
    tokio::select! {
        _ = repository.put_blob(&descriptor, &endless) => unreachable!("it has no end"),
        () = endless.0.notified() => {}
    }
    until(&server, &["POST", "DELETE"]).await;
}

#[tokio::test]
async fn a_staged_blob_that_is_dropped_is_cancelled_once() {
    let server = Server::start(answer).await;
    let repository = server.repository_of(builder().chunk_size(10));
    let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
    staged.append(Bytes::from_static(&[0; 25])).await.unwrap();
    drop(staged);
    until(&server, &["POST", "PATCH", "DELETE"]).await;

    // Cancelling that is dropped as well goes on by itself; what is committed is left alone.
    let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
    staged.append(Bytes::from_static(&[0; 25])).await.unwrap();
    assert!(staged.cancel().now_or_never().is_none());
    let first = ["POST", "PATCH", "DELETE", "POST", "PATCH", "DELETE"];
    until(&server, &first).await;
    let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
    staged.append(Bytes::from_static(&[0; 25])).await.unwrap();
    staged.commit(&Digest::sha256(&[0; 25])).await.unwrap();
    tokio::task::yield_now().await;
    until(&server, &[&first[..], &["POST", "PATCH", "PUT"]].concat()).await;
}

#[tokio::test]
async fn what_has_a_name_is_not_cancelled_and_keeps_its_smallest_chunk() {
    let server = Server::start(answer).await;
    let repository = server.repository_of(builder().chunk_size(10));
    let whole: Vec<u8> = (0..60).collect();
    let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
    staged.append(Bytes::copy_from_slice(&whole[..30])).await.unwrap();
    // The registry would refuse the 5 bytes that are left.
    let name: UploadId = staged.suspend().await.unwrap();
    drop(repository.resume(&name).await.unwrap());
    let mut staged = repository.resume(&name).await.unwrap();
    assert_eq!(staged.offset(), 25);
    staged.append(Bytes::copy_from_slice(&whole[25..45])).await.unwrap();
    staged.append(Bytes::copy_from_slice(&whole[45..])).await.unwrap();
    staged.commit(&Digest::sha256(&whole)).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PATCH", "GET", "GET", "PATCH", "PATCH", "PUT"]);
    let lengths: Vec<_> = server.seen().iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths, [0, 25, 0, 0, 25, 10, 0]);

    let mut staged = repository.resume(&name).await.unwrap();
    staged.append(Bytes::copy_from_slice(&whole[25..])).await.unwrap();
    staged.commit(&Digest::sha256(b"something else")).await.unwrap_err();
    assert_eq!(methods(&server).last().unwrap(), "DELETE", "it verified across the suspension");
}
