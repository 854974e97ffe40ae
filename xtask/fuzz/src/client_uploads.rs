//! The client's uploads at a registry that keeps its books right and does everything else wrong:
//! the first line is what the client does, a byte a step; each byte of the rest is how one request
//! is answered.
//!
//! The registry takes parts of chunks, loses answers, fails after it has taken something and asks
//! for chunks of some size. When the client says that content is there, it is there; the client
//! never claims more than it sent; and it gives up in the end. As in `client_answers`, the registry
//! is a proxy on this machine.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use oci_ref::{Mounted, Result, Staged, Store};
use oci_registry_client::{Client, PlainHttp, Proxies, Repository, RetryPolicy};
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType, Reference};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::client_answers::read_request;
use crate::support::{assert_fit_for_logs, block_on, first_line};

/// The most steps of one input.
const MAX_STEPS: usize = 16;
/// The most requests that they may need: each is tried four times, and in as many parts as it has
/// bytes.
const MAX_REQUESTS: usize = 5_000;
/// The size of the client's chunks, in bytes.
const CHUNK: usize = 8;

/// Checks one input.
pub fn check(data: &[u8]) {
    let (steps, faults) = first_line(data);
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine");
        let address = listener.local_addr().expect("the port has an address");
        let mut books = Books { faults: faults.to_vec(), ..Books::default() };
        let mut claimed = Vec::new();
        {
            let registry = std::pin::pin!(answer_all(&listener, &mut books));
            let client = std::pin::pin!(take_steps(steps, repository(address), &mut claimed));
            match select(client, registry).await {
                Either::Left(((), _)) => {}
                Either::Right((never, _)) => match never {},
            }
        }
        for content in claimed {
            assert!(books.stored.contains(&content), "{content:?} was said to be stored");
        }
    });
}

fn repository(proxy: SocketAddr) -> Repository {
    let proxies = Proxies::none().all(&format!("http://{proxy}")).expect("the address of a proxy");
    let client = Client::builder()
        .http(|| reqwest::Client::builder().pool_max_idle_per_host(0))
        .proxies(proxies)
        .plain_http(PlainHttp::Always)
        .only_added_root_certificates()
        .chunk_size(CHUNK)
        .retry(RetryPolicy::new(|retry| (retry < 3).then_some(Duration::ZERO)))
        .build()
        .expect("settings that fit each other");
    let reference: Reference = "r.example/a".parse().expect("a reference");
    client.repository(&reference).expect("a repository")
}

/// So many bytes, none of which is like the one before.
fn content(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

async fn take_steps(steps: &[u8], repository: Repository, claimed: &mut Vec<Vec<u8>>) {
    let mut open: Option<Box<dyn Staged>> = None;
    for step in steps.iter().take(MAX_STEPS) {
        let length = usize::from(step >> 3);
        let done = match step % 8 {
            0..=2 => append(&repository, &mut open, length).await,
            3 => cancel(&mut open).await,
            4 => suspend(&repository, &mut open).await,
            5 => commit(&mut open, claimed).await,
            6 => put(&repository, content(length * 2), claimed).await,
            _ => mount(&repository, content(length * 2), claimed).await,
        };
        if let Err(error) = done {
            assert_fit_for_logs(&error, 64 << 10);
        }
    }
}

async fn append(
    repository: &Repository,
    open: &mut Option<Box<dyn Staged>>,
    length: usize,
) -> Result<()> {
    let mut staged = match open.take() {
        Some(staged) => staged,
        None => repository.stage(Algorithm::Sha256).await?,
    };
    let before = usize::try_from(staged.offset()).expect("an offset within memory");
    staged.append(content(before + length).split_off(before).into()).await?;
    assert_eq!(staged.offset(), (before + length) as u64);
    *open = Some(staged);
    Ok(())
}

async fn cancel(open: &mut Option<Box<dyn Staged>>) -> Result<()> {
    match open.take() {
        Some(staged) => staged.cancel().await,
        None => Ok(()),
    }
}

async fn suspend(repository: &Repository, open: &mut Option<Box<dyn Staged>>) -> Result<()> {
    let Some(staged) = open.take() else { return Ok(()) };
    let sent = staged.offset();
    let name = staged.suspend().await?;
    let resumed = repository.resume(&name).await?;
    assert!(resumed.offset() <= sent, "{} bytes of {sent} that were sent", resumed.offset());
    *open = Some(resumed);
    Ok(())
}

async fn commit(open: &mut Option<Box<dyn Staged>>, claimed: &mut Vec<Vec<u8>>) -> Result<()> {
    let Some(staged) = open.take() else { return Ok(()) };
    let whole = content(usize::try_from(staged.offset()).expect("an offset within memory"));
    staged.commit(&Digest::sha256(&whole)).await?;
    claimed.push(whole);
    Ok(())
}

async fn put(repository: &Repository, whole: Vec<u8>, claimed: &mut Vec<Vec<u8>>) -> Result<()> {
    let bytes = Bytes::from(whole.clone());
    repository.put_blob(&Descriptor::of(MediaType::OCTET_STREAM, &bytes), &bytes).await?;
    claimed.push(whole);
    Ok(())
}

async fn mount(repository: &Repository, whole: Vec<u8>, claimed: &mut Vec<Vec<u8>>) -> Result<()> {
    let bytes = Bytes::from(whole.clone());
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &bytes);
    let from = "b".parse().expect("a name");
    match repository.mount(&descriptor, Some(&from)).await? {
        Mounted::Upload(staged) => staged.put(&descriptor, &bytes).await?,
        // It gives up without a word, and nothing is claimed.
        Mounted::No => return Ok(()),
        Mounted::Done => unreachable!("this registry mounts nothing"),
    }
    claimed.push(whole);
    Ok(())
}

/// The registry's content.
#[derive(Default)]
struct Books {
    /// One for each request; those after the last are answered well.
    faults: Vec<u8>,
    requests: usize,
    /// Uploads by their number; those that have ended are `None`.
    uploads: Vec<Option<Vec<u8>>>,
    stored: Vec<Vec<u8>>,
}

/// Answers each connection once, and closes it.
async fn answer_all(listener: &TcpListener, books: &mut Books) -> Infallible {
    loop {
        let Ok((mut connection, _)) = listener.accept().await else { continue };
        let request = read_request(&mut connection).await;
        if let Some(answer) = books.answer(&request) {
            // The client may have gone away.
            let _ = connection.write_all(answer.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
    }
}

/// A thing that goes wrong with a request.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It is taken in part, where that is possible.
    Part,
    /// It is done, and answered by a failure.
    Lost,
    /// It is done, and not answered.
    Unanswered,
    /// It is not done, and answered by this.
    Refused(u16),
    /// It is not done, and not answered.
    Ignored,
}

impl Fault {
    fn of(byte: u8) -> Self {
        match byte % 16 {
            1 | 2 => Self::Part,
            3 => Self::Lost,
            4 | 5 => Self::Unanswered,
            6 => Self::Ignored,
            7 => Self::Refused(500),
            8 => Self::Refused(404),
            9 => Self::Refused(413),
            10 => Self::Refused(416),
            11 => Self::Refused(401),
            _ => Self::None,
        }
    }
}

impl Books {
    fn answer(&mut self, request: &str) -> Option<String> {
        let byte = self.faults.get(self.requests).copied().unwrap_or_default();
        self.requests += 1;
        assert!(self.requests <= MAX_REQUESTS, "the client does not give up");
        let fault = Fault::of(byte);
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
        match fault {
            Fault::Ignored => return None,
            Fault::Refused(status) => {
                let upload = self.upload(head).and_then(|(_, upload)| upload.as_ref());
                return Some(answer(status, &upload.map_or(String::new(), |bytes| range(bytes))));
            }
            _ => {}
        }
        let done = self.take(head, body.as_bytes(), fault == Fault::Part, byte >> 4);
        match fault {
            Fault::Unanswered => None,
            Fault::Lost => Some(answer(503, "")),
            _ => Some(done),
        }
    }

    /// The upload that a request is about, with its number.
    fn upload(&mut self, head: &str) -> Option<(usize, &mut Option<Vec<u8>>)> {
        let (_, rest) = head.lines().next()?.split_once("/uploads/")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let number = digits.parse().ok()?;
        Some((number, self.uploads.get_mut(number)?))
    }

    /// Does what is asked for.
    fn take(&mut self, head: &str, body: &[u8], part: bool, min_chunk: u8) -> String {
        let method = head.split(' ').next().unwrap_or_default();
        match method {
            "POST" => {
                self.uploads.push(Some(Vec::new()));
                let place = location(self.uploads.len() - 1);
                return answer(202, &format!("{place}OCI-Chunk-Min-Length: {min_chunk}\r\n"));
            }
            "HEAD" => {
                let digest = |stored: &&Vec<u8>| head.contains(Digest::sha256(stored).as_str());
                let found = self.stored.iter().find(digest);
                return found.map_or(answer(404, ""), |found| {
                    format!("HTTP/1.1 200 Scripted\r\nContent-Length: {}\r\n\r\n", found.len())
                });
            }
            _ => {}
        }
        let Some((number, upload)) = self.upload(head) else { return answer(404, "") };
        let Some(bytes) = upload else { return answer(404, "") };
        let place = location(number);
        match method {
            "PATCH" => {
                if chunk_start(head).is_some_and(|start| start != bytes.len()) {
                    return answer(416, &format!("{place}{}", range(bytes)));
                }
                let taken = if part { body.len().div_ceil(2) } else { body.len() };
                bytes.extend_from_slice(&body[..taken]);
                answer(202, &format!("{place}{}", range(bytes)))
            }
            "PUT" => {
                let whole = [bytes.as_slice(), body].concat();
                let digest = Digest::sha256(&whole).as_str().replace(':', "%3A");
                if !head.contains(&digest) {
                    return answer(400, "");
                }
                *upload = None;
                self.stored.push(whole);
                answer(201, "Location: /v2/a/blobs/x\r\n")
            }
            "DELETE" => {
                *upload = None;
                answer(204, "")
            }
            _ => answer(204, &format!("{place}{}", range(bytes))),
        }
    }
}

/// The position at which a chunk says that it begins.
fn chunk_start(head: &str) -> Option<usize> {
    let lower = head.to_ascii_lowercase();
    let value = lower.lines().find_map(|line| line.strip_prefix("content-range:"))?;
    value.split('-').next()?.trim().parse().ok()
}

fn location(number: usize) -> String {
    format!("Location: /v2/a/blobs/uploads/{number}?s=x\r\n")
}

/// The header that says how far an upload has come. There is no way to say that there is nothing.
fn range(bytes: &[u8]) -> String {
    match bytes.len().checked_sub(1) {
        Some(last) => format!("Range: 0-{last}\r\n"),
        None => String::new(),
    }
}

fn answer(status: u16, headers: &str) -> String {
    let length = if status == 204 { "" } else { "Content-Length: 0\r\n" };
    format!("HTTP/1.1 {status} Scripted\r\n{headers}{length}Connection: close\r\n\r\n")
}
