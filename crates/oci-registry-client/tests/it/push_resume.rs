//! Pushes that break off and go on where the registry has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Body, ErrorKind, Reopen, Result, Store};
use oci_registry_client::{ClientBuilder, RetryPolicy, UploadMemory, UploadRecord};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Host, MediaType, Name};
use tokio::sync::Notify;

use crate::server::{Answer, Breaks, Seen, Server, builder};

/// The size of the content.
const SIZE: usize = 3 << 20;

fn content() -> Bytes {
    (0..SIZE as u32).map(|at| (at ^ (at >> 8)) as u8).collect::<Vec<_>>().into()
}

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, content)
}

/// The words of the registry about an upload, if they are not the truth.
type Says = Arc<dyn Fn(&State) -> Option<Answer> + Send + Sync>;

/// A registry with one upload at a time.
#[derive(Default)]
struct State {
    /// Of the upload; `None` if there is none.
    upload: Option<Vec<u8>>,
    opened: usize,
    blob: Option<Vec<u8>>,
}

#[derive(Clone)]
struct Registry {
    state: Arc<Mutex<State>>,
    says: Says,
}

impl Registry {
    fn new(says: impl Fn(&State) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self { state: Arc::default(), says: Arc::new(says) }
    }

    fn honest() -> Self {
        Self::new(|_| None)
    }

    async fn serve(&self, breaks: impl IntoIterator<Item = usize>) -> Server {
        let registry = self.clone();
        let breaks: Breaks = Arc::new(Mutex::new(breaks.into_iter().collect()));
        Server::breaking(breaks, move |seen| registry.answer(seen)).await
    }

    fn blob(&self) -> Option<Vec<u8>> {
        self.state.lock().unwrap().blob.clone()
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let mut state = self.state.lock().unwrap();
        let gone = || Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
        if seen.method == "POST" {
            state.upload = Some(Vec::new());
            state.opened += 1;
            return Answer::status(202).header("Location", format!("/up/{}", state.opened));
        }
        if seen.method == "HEAD" {
            return match &state.blob {
                Some(blob) => Answer::ok(blob),
                None => Answer::status(404),
            };
        }
        let current = format!("/up/{}", state.opened);
        if !seen.target.starts_with(&current) || state.upload.is_none() {
            return gone();
        }
        match seen.method.as_str() {
            "GET" => (self.says)(&state).unwrap_or_else(|| state.stands(204)),
            "PATCH" => {
                let upload = state.upload.as_mut().unwrap();
                let start = format!("{}-", upload.len());
                if !seen.header("content-range").unwrap().starts_with(&start) {
                    return state.stands(416);
                }
                upload.extend_from_slice(&seen.body);
                state.stands(202)
            }
            "PUT" => {
                state.upload.as_mut().unwrap().extend_from_slice(&seen.body);
                if !seen.whole {
                    return gone();
                }
                let upload = state.upload.take().unwrap();
                let digest = Digest::sha256(&upload).as_str().replace(':', "%3A");
                if !seen.target.ends_with(&digest) {
                    return Answer::error(400, "DIGEST_INVALID");
                }
                state.blob = Some(upload);
                Answer::status(201)
            }
            _ => {
                state.upload = None;
                Answer::status(204)
            }
        }
    }
}

impl State {
    fn stands(&self, status: u16) -> Answer {
        let size = self.upload.as_ref().map_or(0, Vec::len);
        Answer::status(status)
            .header("Location", format!("/up/{}", self.opened))
            .header("Range", format!("0-{}", size.saturating_sub(1)))
    }
}

/// At most one attempt after the first, or after progress.
fn once_more() -> ClientBuilder {
    builder().retry(RetryPolicy::new(|retry| (retry < 1).then(|| Duration::from_secs(1))))
}

fn methods(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.method.clone()).collect()
}

fn sent(server: &Server) -> usize {
    server.seen().iter().map(|seen| seen.body.len()).sum()
}

async fn push(server: &Server, content: &Bytes) -> Result<()> {
    let repository = server.repository_of(once_more());
    repository.put_blob(&descriptor(content), content).await
}

// containers/image#2045
// covers: O5
#[tokio::test(start_paused = true)]
async fn it_goes_on_where_the_registry_has_it() {
    let content = content();
    for at in [1_000_000, 1, SIZE - 1] {
        let registry = Registry::honest();
        let server = registry.serve([at]).await;
        push(&server, &content).await.unwrap();
        assert_eq!(registry.blob().unwrap(), content);
        if at > 1 {
            assert_eq!(methods(&server), ["POST", "PUT", "GET", "PATCH", "PUT"], "{at}");
            assert_eq!(sent(&server), SIZE, "no byte is sent twice");
        }
    }
}

// covers: O5
#[tokio::test(start_paused = true)]
async fn progress_between_breaks_starts_the_attempts_afresh() {
    let content = content();
    let registry = Registry::honest();
    let server = registry.serve([500_000; 5]).await;
    push(&server, &content).await.unwrap();
    assert_eq!(registry.blob().unwrap(), content);
    assert_eq!(sent(&server), SIZE);
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 5);

    // Without progress they are counted.
    let registry = Registry::honest();
    let server = registry.serve([500_000, 0, 0, 0, 0]).await;
    push(&server, &content).await.unwrap_err();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "PATCH", "GET", "PATCH", "DELETE"]);
}

// covers: O5
#[tokio::test(start_paused = true)]
async fn it_begins_anew_where_the_registry_has_nothing_to_go_on_with() {
    let content = content();
    let range = |value: &str| {
        let value = value.to_owned();
        Registry::new(move |_| Some(Answer::status(204).header("Range", &value)))
    };
    let cases = [
        (Registry::new(|_| Some(Answer::status(404))), "gone"),
        (Registry::new(|_| Some(Answer::status(405))), "refused"),
        (Registry::new(|_| Some(Answer::status(204))), "no range"),
        (range("0-0"), "nothing"),
        (range("5-9"), "junk"),
        (range("bytes 0-9/10"), "junk"),
        (range("0-18446744073709551615"), "too large"),
        (range("0-3145727"), "all, of which a part was sent"),
        (range("0-9999999"), "more than there is"),
        // Less than it has: the part is refused as out of order, and that again.
        (range("0-9"), "less"),
    ];
    for (registry, what) in cases {
        let server = registry.serve([400_000]).await;
        push(&server, &content).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(registry.blob().unwrap(), content, "{what}");
        assert_eq!(methods(&server).iter().filter(|method| *method == "POST").count(), 2, "{what}");
        let patches = methods(&server).iter().filter(|method| *method == "PATCH").count();
        assert_eq!(patches, if what == "less" { 2 } else { 0 }, "{what}");
    }
}

// covers: O5
#[tokio::test(start_paused = true)]
async fn what_a_registry_has_wrongly_is_sent_anew() {
    // It says that it has less than it has, and takes parts wherever they begin.
    let content = content();
    let registry = Registry::honest();
    let inner = registry.clone();
    let breaks: Breaks = Arc::new(Mutex::new([400_000].into()));
    let server = Server::breaking(breaks, move |seen| match seen.method.as_str() {
        "GET" => Answer::status(204).header("Range", "0-99999"),
        "PATCH" => {
            inner.state.lock().unwrap().upload.as_mut().unwrap().extend_from_slice(&seen.body);
            Answer::status(202)
        }
        _ => inner.answer(seen),
    })
    .await;
    push(&server, &content).await.unwrap();
    assert_eq!(registry.blob().unwrap(), content);
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "PATCH", "PUT", "DELETE", "POST", "PUT"]);
}

// covers: O5
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_reason_to_send_it_again() {
    let content = content();
    let registry = Registry::honest();
    let inner = registry.clone();
    let puts = Mutex::new(0);
    let server = Server::start(move |seen| {
        let answer = inner.answer(seen);
        if seen.method != "PUT" {
            return answer;
        }
        *puts.lock().unwrap() += 1;
        Answer::status(504)
    })
    .await;
    push(&server, &content).await.unwrap();
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "HEAD"]);
}

/// Content that says from where it was read, and is another every time but the first.
struct Changing(Bytes, Mutex<Vec<u64>>);

#[async_trait::async_trait]
impl Reopen for Changing {
    async fn open(&self, offset: u64) -> Result<Body> {
        let mut opened = self.1.lock().unwrap();
        opened.push(offset);
        let mut content = self.0.to_vec();
        if opened.len() > 1 {
            *content.last_mut().unwrap() ^= 1;
        }
        let rest = Bytes::from(content).slice(offset as usize..);
        let pieces: Vec<_> =
            rest.chunks(100_000).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
        Ok(futures_util::stream::iter(pieces).boxed())
    }
}

// covers: O5
#[tokio::test(start_paused = true)]
async fn what_is_sent_in_parts_is_verified_as_a_whole() {
    let content = Changing(content(), Mutex::default());
    let registry = Registry::honest();
    let server = registry.serve([2_500_000]).await;
    let described = descriptor(&content.0);
    let repository = server.repository_of(once_more());
    let error = repository.put_blob(&described, &content).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid), "{error}");
    assert!(registry.blob().is_none());
    assert_eq!(methods(&server).last().unwrap(), "DELETE");
    let opened = content.1.lock().unwrap().clone();
    assert_eq!(opened.len(), 2);
    assert!((1..=2_500_000).contains(&opened[1]), "from where its hash is known: {opened:?}");
}

type Kept = Arc<Mutex<HashMap<String, String>>>;

/// A memory that is as good as one in files.
#[derive(Clone, Default)]
struct Memory(Kept);

struct Record(Kept, String);

impl UploadMemory for Memory {
    fn record(&self, host: &Host, name: &Name, digest: &Digest) -> Option<Box<dyn UploadRecord>> {
        Some(Box::new(Record(self.0.clone(), format!("{host}/{name}@{digest}"))))
    }
}

impl UploadRecord for Record {
    fn address(&mut self) -> Option<String> {
        self.0.lock().unwrap().get(&self.1).cloned()
    }

    fn keep(&mut self, address: &str) -> bool {
        self.0.lock().unwrap().insert(self.1.clone(), address.to_owned());
        true
    }

    fn forget(&mut self) {
        self.0.lock().unwrap().remove(&self.1);
    }
}

// covers: O5
#[tokio::test]
async fn a_later_client_goes_on_with_what_was_remembered() {
    let content = content();
    let described = descriptor(&content);
    let registry = Registry::honest();
    let server = registry.serve([2_000_000, 500_000]).await;
    let memory = Memory::default();
    let push = || async {
        let repository = server.repository_of(builder().remember_uploads(memory.clone()));
        repository.put_blob(&described, &content).await
    };
    push().await.unwrap_err();
    push().await.unwrap_err();
    assert_eq!(memory.0.lock().unwrap().len(), 1);
    push().await.unwrap();
    assert_eq!(registry.blob().unwrap(), content);
    assert_eq!(methods(&server), ["POST", "PUT", "GET", "PATCH", "GET", "PATCH", "PUT"]);
    assert_eq!(sent(&server), SIZE);
    assert!(memory.0.lock().unwrap().is_empty());

    // What was dropped is not cancelled.
    let endless = futures_util::stream::pending().boxed();
    let endless = Endless(Mutex::new(Some(endless)), Notify::new());
    let repository = server.repository_of(builder().remember_uploads(memory.clone()));
    tokio::select! {
        _ = repository.put_blob(&described, &endless) => unreachable!("it has no end"),
        () = endless.1.notified() => {}
    }
    assert_eq!(memory.0.lock().unwrap().len(), 1);
    push().await.unwrap();
    let after = &methods(&server)[7..];
    assert!(!after[..2].contains(&"DELETE".to_owned()), "{after:?}");
}

/// Content that never comes, and says when it is asked for.
struct Endless(Mutex<Option<Body>>, Notify);

#[async_trait::async_trait]
impl Reopen for Endless {
    async fn open(&self, _: u64) -> Result<Body> {
        self.1.notify_one();
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}

#[tokio::test]
async fn what_was_remembered_is_checked() {
    let content = content();
    let described = descriptor(&content);
    for address in ["/up/0", "ftp://r.example/up", "nonsense:", "http://user:secret@"] {
        let registry = Registry::honest();
        let server = registry.serve([]).await;
        let memory = Memory::default();
        let key = format!("{}/a/b@{}", server.host, described.digest);
        memory.0.lock().unwrap().insert(key, address.to_owned());
        let repository = server.repository_of(builder().remember_uploads(memory.clone()));
        repository.put_blob(&described, &content).await.unwrap();
        assert_eq!(registry.blob().unwrap(), content, "{address}");
        assert!(memory.0.lock().unwrap().is_empty());
    }

    // What is refused is not worth going on with, and a small blob is sent sooner.
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", "/up"),
        _ => Answer::error(403, "DENIED"),
    })
    .await;
    let memory = Memory::default();
    let repository = server.repository_of(builder().remember_uploads(memory.clone()));
    repository.put_blob(&described, &content).await.unwrap_err();
    let small = content.slice(..100_000);
    repository.put_blob(&descriptor(&small), &small).await.unwrap_err();
    assert!(memory.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_nothing_is_tried_again() {
    let registry = Registry::honest();
    let server = registry.serve([400_000]).await;
    let content = content();
    let error = server.repository().put_blob(&descriptor(&content), &content).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unavailable);
    assert_eq!(methods(&server), ["POST", "PUT", "DELETE"]);
}
