//! The client as a whole, answered with anything: the first byte chooses what it is asked to do, the rest are answers,
//! separated by `---`, one for each connection that it makes.
//!
//! Whatever it wants to reach, a proxy on this machine is what it gets, so that no name is looked up and nothing leaves.
//! What the client gives has the digest that was asked for; errors show no password; the registry's password goes to
//! the registry alone, unless a token service is named.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::{Either, select};
use oci_ref::{Blob, BlobRead, ByteRange, Manifest, Precondition, Result, Source, Store, Target};
use oci_registry_client::{Client, Credentials, PlainHttp, Proxies, Repository, StaticCredentials};
use oci_spec_types::{Algorithm, Descriptor, Digest, ImageIndex, MediaType, Reference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{assert_fit_for_logs, block_on, pieces};

const PASSWORD: &str = "correct-horse-battery";
/// `alice` and the password, as `Authorization: Basic` has them.
const ENCODED: &str = "YWxpY2U6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
const REGISTRY: &str = "http://r.example/";
/// The most bytes of a request that are read.
const MAX_REQUEST: usize = 64 << 10;

/// Checks one input.
pub fn check(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let answers = pieces(rest, 8);
    // The password may go where an answer says that tokens are to be had.
    let names_a_service = rest.windows(5).any(|window| window.eq_ignore_ascii_case(b"realm"));
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine");
        let address = listener.local_addr().expect("the port has an address");
        let registry = std::pin::pin!(answer_all(&listener, &answers, names_a_service));
        let asked = std::pin::pin!(ask(*first, repository(address)));
        let done = match select(asked, registry).await {
            Either::Left((done, _)) => done,
            Either::Right((never, _)) => match never {},
        };
        if let Err(error) = done {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(PASSWORD) && !shown.contains(ENCODED), "{shown}");
            assert_fit_for_logs(&error, 64 << 10);
        }
    });
}

fn repository(proxy: SocketAddr) -> Repository {
    let host = "r.example".parse().expect("a host");
    let credentials = StaticCredentials::new().with(host, Credentials::basic("alice", PASSWORD));
    let proxies = Proxies::none().all(&format!("http://{proxy}")).expect("the address of a proxy");
    let client = Client::builder()
        .http(|| reqwest::Client::builder().pool_max_idle_per_host(0))
        .proxies(proxies)
        .plain_http(PlainHttp::Always)
        .only_added_root_certificates()
        .credentials(credentials)
        .on_warning(|warning| assert!(warning.text.len() <= 64 << 10))
        .build()
        .expect("settings that fit each other");
    let reference: Reference = "r.example/a".parse().expect("a reference");
    client.repository(&reference).expect("a repository")
}

/// Answers each connection with the next answer, then closes it; those after the last with nothing.
async fn answer_all(
    listener: &TcpListener,
    answers: &[&[u8]],
    names_a_service: bool,
) -> std::convert::Infallible {
    let mut answers = answers.iter();
    loop {
        let Ok((mut connection, _)) = listener.accept().await else { continue };
        let request = read_request(&mut connection).await;
        check_request(&request, names_a_service);
        if let Some(answer) = answers.next() {
            // The client may have gone away.
            let _ = connection.write_all(answer).await;
            let _ = connection.shutdown().await;
        }
    }
}

pub(crate) async fn read_request(connection: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) && request.len() < MAX_REQUEST {
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// Whether the head is there, and as much of a body as it announces.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    request.len() >= end + 4 + length
}

fn check_request(request: &str, names_a_service: bool) {
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let has_password = head.contains(ENCODED) || head.contains(PASSWORD);
    let may_have = target.starts_with(REGISTRY) || names_a_service;
    assert!(!has_password || may_have, "the password went to {target}");
}

async fn ask(what: u8, repository: Repository) -> Result<()> {
    let hello = Bytes::from_static(b"hello");
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &hello);
    let digest = descriptor.digest.clone();
    let tag = "v1".parse().expect("a tag");
    match what % 14 {
        0 => drop(repository.manifest(&Target::Tag(tag)).await?),
        1 => {
            let manifest = repository.manifest(&Target::Digest(digest.clone())).await?;
            assert_eq!(Digest::sha256(manifest.bytes()), digest);
        }
        2 => {
            let resolved = repository.resolve(&Target::Digest(digest.clone())).await?;
            assert_eq!(resolved.digest, digest);
        }
        3 => {
            let read = Blob::open(&repository, &descriptor).await?.into_bytes(1 << 20).await?;
            assert_eq!(read, hello);
        }
        4 => read_part(repository.blob(&digest, ByteRange::Inclusive(1, 3)).await?, 1..4).await?,
        5 => drop(repository.blob_size(&digest).await?),
        6 => {
            let page = repository.tags(None, 3).await?;
            if let Some(next) = page.next {
                repository.tags(Some(&next), 3).await?;
            }
        }
        7 => {
            let found = repository.referrers(&digest, Some("a/b"), None, 3).await?;
            if let Some(next) = found.page.next {
                repository.referrers(&digest, Some("a/b"), Some(&next), 3).await?;
            }
        }
        8 => repository.put_blob(&descriptor, &hello).await?,
        9 => {
            let mut staged = repository.stage(Algorithm::Sha256).await?;
            staged.append(hello).await?;
            staged.commit(&digest).await?;
        }
        10 => {
            let mut index = ImageIndex::new(Vec::new());
            index.subject = Some(descriptor);
            let bytes = serde_json::to_vec(&index).expect("an index can be written");
            let manifest = Manifest::parse(bytes.into(), None, None).expect("it can be read");
            repository.put_manifest(&manifest, &[tag], &Precondition::None).await?;
        }
        11 => {
            let from = "b".parse().expect("a name");
            repository.mount(&descriptor, Some(&from)).await?;
        }
        12 => repository.delete_manifest(&digest).await?,
        _ => drop(repository.registry().catalog(None, 3).await?),
    }
    Ok(())
}

/// A part has the bytes that it says, and was asked for, or is the whole.
async fn read_part(mut read: BlobRead, wanted: std::ops::Range<u64>) -> Result<()> {
    use futures_util::StreamExt;
    let whole = 0..read.size;
    assert!(read.range == whole || read.range == (wanted.start..wanted.end.min(read.size)));
    let mut count = 0;
    while let Some(chunk) = read.body.next().await {
        count += chunk?.len() as u64;
        assert!(count <= 1 << 20);
    }
    Ok(())
}
