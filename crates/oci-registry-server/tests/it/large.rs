//! Large manifests: what they take of the server while they come, are read, and go out.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{
    Access, BlobRead, ByteRange, Capabilities, Cursor, Manifest, ManifestBytes, Memory, Page,
    Precondition, Referrers, Registry, Result, Source, Staged, Store, Target,
};
use oci_registry_server::{MemoryRegistry, ServerOptions};
use oci_spec_types::{Algorithm, Descriptor, Digest, Name, Tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Api, INDEX};

const MIB: usize = 1 << 20;

/// An index of about so many bytes.
fn index_of(bytes: usize) -> Vec<u8> {
    let head = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"x":""#);
    format!(r#"{head}{}"}}"#, "x".repeat(bytes.saturating_sub(head.len() + 2))).into()
}

/// A registry with one repository, whose manifests can be read as bytes only.
#[derive(Default)]
struct Unparsed {
    memory: Memory,
    reads: AtomicUsize,
    parts: Option<Parts>,
}

/// The parts of manifests that have been handed out.
#[derive(Default)]
struct Parts {
    spoiled: AtomicBool,
    read: AtomicUsize,
    held: Arc<AtomicUsize>,
    most: AtomicUsize,
}

/// A part, which counts until it is dropped.
struct Part(Bytes, Arc<AtomicUsize>);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

impl Parts {
    fn hand_out(&self, mut bytes: Vec<u8>) -> Bytes {
        if self.spoiled.load(Ordering::SeqCst)
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        self.read.fetch_add(bytes.len(), Ordering::SeqCst);
        let held = self.held.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        self.most.fetch_max(held, Ordering::SeqCst);
        Bytes::from_owner(Part(bytes.into(), self.held.clone()))
    }
}

struct Engine(Arc<Unparsed>);

#[async_trait]
impl Registry for Engine {
    async fn repository(&self, _name: &Name, _access: Access) -> Result<Arc<dyn Store>> {
        Ok(self.0.clone())
    }

    async fn catalog(&self, _after: Option<&Cursor>, _limit: usize) -> Result<Page<Name>> {
        Ok(Page::last(Vec::new()))
    }
}

#[async_trait]
impl Source for Unparsed {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.memory.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        panic!("{target} is parsed, though only its bytes are needed")
    }

    async fn manifest_bytes(&self, target: &Target, limit: u64) -> Result<ManifestBytes> {
        let found = self.memory.manifest_bytes(target, limit).await?;
        if found.bytes.is_some() {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
        Ok(found)
    }

    async fn manifest_part(&self, digest: &Digest, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(parts) = &self.parts else { return Ok(None) };
        let target = Target::Digest(digest.clone());
        let whole = self.memory.manifest(&target).await?;
        let part = &whole.bytes()[range.start as usize..range.end as usize];
        Ok(Some(parts.hand_out(part.to_vec())))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.memory.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.memory.blob(digest, range).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.memory.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.memory.referrers(subject, artifact_type, after, limit).await
    }
}

#[async_trait]
impl Store for Unparsed {
    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.memory.stage(algorithm).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.memory.put_manifest(manifest, tags, when).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.memory.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.memory.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.memory.delete_blob(digest).await
    }
}

async fn push(api: &Api, tag: &str, bytes: Vec<u8>) -> u16 {
    let ask = api.put(format!("/v2/a/manifests/{tag}")).header("content-type", INDEX);
    ask.body(bytes).send().await.status
}

#[tokio::test]
async fn what_is_pulled_is_not_parsed() {
    let engine = Arc::new(Unparsed::default());
    let api = Api::engine(Engine(engine.clone())).await;
    for bytes in [1000, 64 << 10, (64 << 10) + 1, 5 * MIB, 8 * MIB] {
        let pushed = index_of(bytes);
        assert_eq!(push(&api, "v1", pushed.clone()).await, 201);
        engine.reads.store(0, Ordering::SeqCst);
        let pulled = api.get("/v2/a/manifests/v1").send().await.expect(200);
        assert!(pulled.body == pushed, "{bytes}");
        assert_eq!(pulled.header("content-length"), bytes.to_string());
        assert_eq!(pulled.header("content-type"), INDEX);
        assert_eq!(engine.reads.load(Ordering::SeqCst), 1, "{bytes}");
        let head = api.head("/v2/a/manifests/v1").send().await.expect(200);
        assert_eq!(head.header("content-length"), bytes.to_string());
        let tag = pulled.header("etag").to_owned();
        let same = api.get("/v2/a/manifests/v1").header("if-none-match", tag).send().await;
        same.expect(304);
    }
}

// 500 readers of a manifest of 8 MB, whole for each piece, left 140 MiB with the C library.
#[tokio::test]
async fn one_reader_holds_a_piece_of_what_an_engine_gives_in_parts() {
    let engine = Arc::new(Unparsed { parts: Some(Parts::default()), ..Unparsed::default() });
    let api = Api::engine(Engine(engine.clone())).await;
    let parts = engine.parts.as_ref().unwrap();
    for bytes in [(64 << 10) + 1, 256 << 10, (256 << 10) + 1, 8 * MIB] {
        let pushed = index_of(bytes);
        assert_eq!(push(&api, "v1", pushed.clone()).await, 201);
        engine.reads.store(0, Ordering::SeqCst);
        parts.read.store(0, Ordering::SeqCst);
        let pulled = api.get("/v2/a/manifests/v1").send().await.expect(200);
        assert!(pulled.body == pushed, "{bytes}");
        assert_eq!(pulled.header("content-length"), bytes.to_string());
        assert_eq!(engine.reads.load(Ordering::SeqCst), 0, "it is not read whole");
        // Once to verify it, and once to send it.
        assert_eq!(parts.read.load(Ordering::SeqCst), 2 * bytes);
        assert!(parts.most.load(Ordering::SeqCst) <= 256 << 10, "{bytes}");
    }
}

#[tokio::test]
async fn what_is_damaged_is_not_begun_in_parts() {
    let engine = Arc::new(Unparsed { parts: Some(Parts::default()), ..Unparsed::default() });
    let api = Api::engine(Engine(engine.clone())).await;
    assert_eq!(push(&api, "v1", index_of(MIB)).await, 201);
    let parts = engine.parts.as_ref().unwrap();
    parts.spoiled.store(true, Ordering::SeqCst);
    assert_eq!(api.get("/v2/a/manifests/v1").send().await.status, 500);
    parts.spoiled.store(false, Ordering::SeqCst);
    api.get("/v2/a/manifests/v1").send().await.expect(200);
}

#[tokio::test]
async fn slow_readers_share_a_budget_and_get_all_of_it_in_the_end() {
    const READERS: usize = 20;
    let options = ServerOptions::new().manifest_memory(0).max_manifest_bytes(4 * MIB as u64);
    let api = Api::memory(MemoryRegistry::new(), options).await;
    let pushed = index_of(4 * MIB);
    assert_eq!(push(&api, "v1", pushed.clone()).await, 201);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(api.registry.host().parse().unwrap()).await.unwrap();
        let get = "GET /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(get.as_bytes()).await.unwrap();
        readers.push(stream);
    }
    for reader in &mut readers {
        // Every one of them is being answered while the others hold what they have.
        assert_eq!(reader.read_u8().await.unwrap(), b'H');
    }
    // They do not keep others from pushing.
    assert_eq!(push(&api, "v2", index_of(4 * MIB)).await, 201);
    for reader in &mut readers {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(&pushed));
    }
}

/// Reads up to the end of an answer's head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

// A client that sends all but the last byte, and stops.
#[tokio::test]
async fn stalled_pushes_share_a_budget_and_small_ones_go_on() {
    let options =
        ServerOptions::new().manifest_memory(2 * MIB as u64).max_manifest_bytes(MIB as u64);
    let api = Api::options(options).await;
    let whole = index_of(MIB);
    let stall = |tag: &'static str| {
        let (host, whole) = (api.registry.host(), whole.clone());
        async move {
            let mut stream = TcpStream::connect(host).await.unwrap();
            let head = format!(
                "PUT /v2/a/manifests/{tag} HTTP/1.1\r\nHost: x\r\nContent-Type: {INDEX}\r\nContent-Length: {MIB}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&whole[..MIB - 1]).await.unwrap();
            stream
        }
    };
    // There is room for one of them.
    let (mut one, mut other) = (stall("one").await, stall("other").await);
    let (refused, mut stalled) = tokio::select! {
        refused = head(&mut one) => (refused, other),
        refused = head(&mut other) => (refused, one),
    };
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: "), "{refused}");
    assert_eq!(push(&api, "small", index_of(60 << 10)).await, 201);
    stalled.write_all(&whole[MIB - 1..]).await.unwrap();
    let answer = head(&mut stalled).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(push(&api, "large", whole).await, 201);
}

#[tokio::test]
async fn what_costs_more_than_its_bytes_is_refused() {
    let api = Api::start().await;
    let document = |field: String| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],{field}}}"#)
    };
    let keys: Vec<_> = (0..690_000).map(|key| format!(r#""{key}":"""#)).collect();
    let cases = [
        document(format!(r#""annotations":{{{}}}"#, keys.join(","))),
        document(format!(r#""x":[{}{{}}]"#, "{},".repeat(2_700_000))),
        document(format!(r#""urls":[{}""]"#, r#""","#.repeat(2_700_000))),
        document(format!(r#""x":[{}[]]"#, "[{},{},{},{},{},{},{},{}],".repeat(90_000))),
    ];
    for document in cases {
        assert!((2 * MIB..8 * MIB + MIB / 2).contains(&document.len()), "{}", document.len());
        let ask = api.put("/v2/a/manifests/v1").header("content-type", INDEX);
        let reply = ask.body(document).send().await.expect_error(400, "MANIFEST_INVALID");
        assert!(reply.message().contains("there are more than"), "{}", reply.message());
    }
}
