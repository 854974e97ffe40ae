//! Blobs written before their digest is known: in chunks, suspended, resumed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{ErrorKind, Staged, Store, UploadId};
use oci_registry_client::{ClientBuilder, RetryPolicy};
use oci_spec_types::{Algorithm, Digest, ErrorCode};

use crate::server::{Answer, Seen, Server, builder};

/// A registry that keeps one upload, and gives a new Location with each answer.
#[derive(Clone, Default)]
struct Upload(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    turn: usize,
    done: bool,
    /// How many of the next chunks are taken in part (so many bytes) and then answered with a failure.
    failures: Vec<(usize, u16)>,
}

impl Upload {
    fn failing(failures: impl IntoIterator<Item = (usize, u16)>) -> Self {
        let upload = Self::default();
        upload.0.lock().unwrap().failures = failures.into_iter().collect();
        upload
    }

    async fn serve(&self) -> Server {
        let upload = self.clone();
        Server::start(move |seen| upload.answer(seen)).await
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let mut state = self.0.lock().unwrap();
        if seen.method != "POST" && seen.method != "HEAD" {
            let expected = format!("/up/{}", state.turn);
            assert!(
                seen.target.starts_with(&expected),
                "{} is not the newest {expected}",
                seen.line()
            );
        }
        match seen.method.as_str() {
            "POST" => {
                *state =
                    State { failures: std::mem::take(&mut state.failures), ..State::default() };
                Answer::status(202).header("Location", "/up/0")
            }
            "PATCH" => {
                let range =
                    format!("{}-{}", state.bytes.len(), state.bytes.len() + seen.body.len() - 1);
                if seen.header("content-range") != Some(&range) {
                    return state.stands(Answer::status(416));
                }
                if !state.failures.is_empty() {
                    let (taken, status) = state.failures.remove(0);
                    state.bytes.extend_from_slice(&seen.body[..taken]);
                    return Answer::status(status);
                }
                state.bytes.extend_from_slice(&seen.body);
                state.turn += 1;
                state.stands(Answer::status(202))
            }
            "GET" => {
                state.turn += 1;
                state.stands(Answer::status(204))
            }
            "PUT" => {
                state.bytes.extend_from_slice(&seen.body);
                let digest = Digest::sha256(&state.bytes).as_str().replace(':', "%3A");
                state.done = seen.target.ends_with(&digest);
                Answer::status(if state.done { 201 } else { 400 })
            }
            "HEAD" if state.done => Answer::ok(&state.bytes),
            _ => Answer::status(404),
        }
    }
}

impl State {
    fn stands(&self, answer: Answer) -> Answer {
        let answer = answer.header("Location", format!("/up/{}", self.turn));
        answer.header("Range", format!("0-{}", self.bytes.len().saturating_sub(1)))
    }
}

fn methods(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.method.clone()).collect()
}

fn tenths() -> ClientBuilder {
    builder().chunk_size(10)
}

fn twice() -> RetryPolicy {
    RetryPolicy::new(|retry| (retry < 2).then_some(Duration::from_secs(1)))
}

async fn append(staged: &mut dyn Staged, pieces: &[&'static str]) {
    for piece in pieces {
        staged.append(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
}

#[tokio::test]
async fn what_fits_into_a_chunk_is_sent_in_one_request() {
    for content in ["", "hello"] {
        let upload = Upload::default();
        let server = upload.serve().await;
        let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
        append(&mut *staged, &[content]).await;
        assert_eq!(staged.offset(), content.len() as u64);
        staged.commit(&Digest::sha256(content.as_bytes())).await.unwrap();
        assert_eq!(methods(&server), ["POST", "PUT"]);
    }
}

#[tokio::test]
async fn pieces_are_gathered_into_chunks() {
    let upload = Upload::default();
    let server = upload.serve().await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123", "4567", "89ab", "", "cdefghijklmnopqrstuvwxyz"]).await;
    assert_eq!(staged.offset(), 36);
    staged.commit(&Digest::sha256(b"0123456789abcdefghijklmnopqrstuvwxyz")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]);
    let ranges: Vec<_> = server
        .seen()
        .iter()
        .filter_map(|seen| seen.header("content-range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["0-9", "10-19", "20-29", "30-35"]);
    assert!(upload.0.lock().unwrap().done);
}

#[tokio::test]
async fn the_registry_s_smallest_chunk_is_respected_within_limits() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up").header("OCI-Chunk-Min-Length", 25),
        "PATCH" => Answer::status(202).header("Location", "/up"),
        _ => Answer::status(201),
    })
    .await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123456789"; 6]).await;
    staged.commit(&Digest::sha256("0123456789".repeat(6).as_bytes())).await.unwrap();
    let lengths: Vec<_> = server
        .seen()
        .iter()
        .filter(|seen| seen.method == "PATCH")
        .map(|seen| seen.body.len())
        .collect();
    assert_eq!(lengths, [25, 25, 10]);

    let greedy = Server::start(|_| {
        Answer::status(202).header("Location", "/up").header("OCI-Chunk-Min-Length", u64::MAX)
    })
    .await;
    let mut staged = greedy.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    let error = staged.append(Bytes::from_static(b"0123456789")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_digest_is_seen_before_it_is_sent() {
    let upload = Upload::default();
    let server = upload.serve().await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123456789ab"]).await;
    let error = staged.commit(&Digest::sha256(b"other")).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    assert_eq!(methods(&server), ["POST", "PATCH", "DELETE"]);
}

#[tokio::test]
async fn cancelling_deletes_what_was_begun() {
    let upload = Upload::default();
    let server = upload.serve().await;
    let repository = server.repository_of(tenths());
    repository.stage(Algorithm::Sha256).await.unwrap().cancel().await.unwrap();
    assert!(server.seen().is_empty());
    let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123456789"]).await;
    staged.cancel().await.unwrap();
    assert_eq!(methods(&server), ["POST", "PATCH", "DELETE"]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_failed_goes_on_where_the_registry_stands() {
    // Nothing, a part, or all of the chunk was taken before the failure.
    for taken in [0, 1, 4, 10] {
        let upload = Upload::failing([(0, 500), (taken, 503)]);
        let server = upload.serve().await;
        let repository = server.repository_of(tenths().retry(twice()));
        let mut staged = repository.stage(Algorithm::Sha256).await.unwrap();
        append(&mut *staged, &["0123456789", "abc"]).await;
        staged.commit(&Digest::sha256(b"0123456789abc")).await.unwrap();
        assert_eq!(upload.0.lock().unwrap().bytes, b"0123456789abc", "{taken}");
    }
    let upload = Upload::failing([(0, 500)]);
    let server = upload.serve().await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    staged.append(Bytes::from_static(b"0123456789")).await.unwrap_err();
    let error = staged.append(Bytes::from_static(b"0123456789")).await.unwrap_err();
    assert!(error.to_string().contains("failed before"), "without a policy that was it: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_last_request_is_no_failure() {
    let upload = Upload::default();
    let inner = upload.clone();
    let puts = Mutex::new(0);
    let server = Server::start(move |seen| {
        if seen.method != "PUT" {
            return inner.answer(seen);
        }
        *puts.lock().unwrap() += 1;
        match *puts.lock().unwrap() {
            1 => {
                inner.answer(seen);
                Answer::status(504)
            }
            _ => Answer::error(404, "BLOB_UPLOAD_UNKNOWN"),
        }
    })
    .await;
    let mut staged =
        server.repository_of(tenths().retry(twice())).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123456789abc"]).await;
    staged.commit(&Digest::sha256(b"0123456789abc")).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PATCH", "PATCH", "PUT", "PUT", "HEAD"]);
}

#[tokio::test]
async fn suspended_and_resumed_by_another_client() {
    let upload = Upload::default();
    let server = upload.serve().await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123456789abc"]).await;
    let id = staged.suspend().await.unwrap();

    let repository = server.repository_of(tenths());
    assert_eq!(repository.upload_offset(&id).await.unwrap(), 13);
    // The address moved on with that answer; the registry here takes only the newest.
    let id = UploadId(id.0.replace("/up/2", "/up/3"));
    let mut staged = repository.resume(&id).await.unwrap();
    assert_eq!(staged.offset(), 13);
    append(&mut *staged, &["def"]).await;
    staged.commit(&Digest::sha256(b"0123456789abcdef")).await.unwrap();
    assert_eq!(upload.0.lock().unwrap().bytes, b"0123456789abcdef");
}

#[tokio::test]
async fn a_resumed_upload_still_verifies() {
    let upload = Upload::default();
    let server = upload.serve().await;
    let mut staged = server.repository_of(tenths()).stage(Algorithm::Sha256).await.unwrap();
    append(&mut *staged, &["0123"]).await;
    let id = staged.suspend().await.unwrap();
    let mut staged = server.repository_of(tenths()).resume(&id).await.unwrap();
    append(&mut *staged, &["4567"]).await;
    let error = staged.commit(&Digest::sha256(b"0123xxxx")).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    assert!(!methods(&server).contains(&"PUT".to_owned()));
}

#[tokio::test]
async fn uploads_that_are_not_known() {
    let server = Server::start(|_| Answer::status(404)).await;
    let repository = server.repository();
    for name in [
        format!("3::{}", server.url("/up")),
        "nonsense".into(),
        "1:x:ftp://r.example/".into(),
        String::new(),
    ] {
        let error = repository.resume(&UploadId(name.clone())).await.err().unwrap();
        assert_eq!(error.code(), Some(&ErrorCode::BlobUploadUnknown), "{name}: {error}");
        let error = repository.upload_offset(&UploadId(name)).await.unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::BlobUploadUnknown));
    }
}
