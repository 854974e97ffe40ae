//! What engines answer: their errors, their limits, and sources that cannot seek.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_ref::{
    Access, BlobRead, ByteRange, Capabilities, Cursor, Error, ErrorKind, Manifest, Memory, Page,
    Precondition, Referrers, Registry, Result, Source, Staged, Store, Target, UploadId,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Name, Tag};

use serde_json::json;

use crate::support::{Api, Reply, descriptor_of, digest_of, image, index};

/// An engine of one repository that does as it is told.
#[derive(Clone, Default)]
struct Engine {
    memory: Memory,
    error: Option<ErrorKind>,
    capabilities: Capabilities,
    /// What it gives for a part of a blob, instead of the part.
    part: Option<fn(u64) -> std::ops::Range<u64>>,
    /// From where its blobs can be read too.
    url: Option<&'static str>,
    /// Whether it knows nothing of referrers, as what was pushed before there was an API for them.
    old: bool,
}

impl Engine {
    fn failing(kind: impl Into<ErrorKind>) -> Self {
        Self { error: Some(kind.into()), ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        match &self.error {
            Some(kind) => {
                Err(Error::new(kind.clone(), "at /var/lib/secret").with_source("password"))
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Registry for Engine {
    async fn repository(&self, _name: &Name, _access: Access) -> Result<Arc<dyn Store>> {
        Ok(Arc::new(self.clone()))
    }

    async fn catalog(&self, after: Option<&Cursor>, _limit: usize) -> Result<Page<Name>> {
        self.check()?;
        Ok(match after {
            None => Page {
                items: vec!["a".parse().unwrap()],
                next: Some(Cursor::Opaque("a b/ü".to_owned())),
            },
            Some(Cursor::Opaque(position)) if position == "a b/ü" => {
                Page::last(vec!["b".parse().unwrap()])
            }
            Some(other) => panic!("a position that was never given: {other:?}"),
        })
    }
}

#[async_trait]
impl Source for Engine {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.check()?;
        self.memory.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.check()?;
        self.memory.manifest(target).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.check()?;
        self.memory.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.check()?;
        let read = self.memory.blob(digest, range).await?;
        let Some(part) = self.part.filter(|_| range != ByteRange::All) else {
            return Ok(read);
        };
        let bytes = self.memory.blob_bytes(digest).unwrap();
        let range = part(read.size);
        let bytes = bytes.slice(range.start as usize..range.end as usize);
        let body = stream::iter([Ok(bytes)]).boxed();
        Ok(BlobRead { range, body, ..read })
    }

    async fn blob_url(&self, digest: &Digest) -> Result<Option<String>> {
        self.check()?;
        Ok(match self.url {
            Some(url) if self.memory.blob_size(digest).await?.is_some() => Some(url.to_owned()),
            _ => None,
        })
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.check()?;
        self.memory.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.check()?;
        if self.old {
            let page = Page::last(Vec::new());
            return Ok(Referrers { page, filtered: artifact_type.is_some() });
        }
        self.memory.referrers(subject, artifact_type, after, limit).await
    }
}

#[async_trait]
impl Store for Engine {
    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        let inner = self.memory.stage(algorithm).await?;
        let error = self.error.clone();
        Ok(Box::new(Upload { inner, error }))
    }

    async fn resume(&self, upload: &UploadId) -> Result<Box<dyn Staged>> {
        let inner = self.memory.resume(upload).await?;
        let error = self.error.clone();
        Ok(Box::new(Upload { inner, error }))
    }

    async fn upload_offset(&self, upload: &UploadId) -> Result<u64> {
        self.memory.upload_offset(upload).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.check()?;
        self.memory.put_manifest(manifest, tags, when).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.check()?;
        self.memory.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.check()?;
        self.memory.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.check()?;
        self.memory.delete_blob(digest).await
    }
}

/// An upload that fails when bytes come.
struct Upload {
    inner: Box<dyn Staged>,
    error: Option<ErrorKind>,
}

#[async_trait]
impl Staged for Upload {
    fn offset(&self) -> u64 {
        self.inner.offset()
    }

    async fn append(&mut self, chunk: Bytes) -> Result<()> {
        match self.error.clone() {
            Some(kind) => Err(Error::new(kind, "at /var/lib/secret")),
            None => self.inner.append(chunk).await,
        }
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<()> {
        self.inner.commit(digest).await
    }

    async fn suspend(self: Box<Self>) -> Result<UploadId> {
        self.inner.suspend().await
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.cancel().await
    }
}

// spec: R73
#[tokio::test]
async fn errors_say_when_to_come_back_and_nothing_internal() {
    let cases = [
        (ErrorKind::Internal, 500, "UNSUPPORTED", None),
        (ErrorKind::Io, 500, "UNSUPPORTED", None),
        (ErrorKind::Unavailable, 503, "UNSUPPORTED", Some("5")),
        (ErrorKind::StorageFull, 507, "UNSUPPORTED", None),
        (ErrorCode::TooManyRequests.into(), 429, "TOOMANYREQUESTS", Some("5")),
        (ErrorCode::Denied.into(), 403, "DENIED", None),
        (ErrorCode::Unsupported.into(), 405, "UNSUPPORTED", None),
    ];
    let digest = Digest::sha256(b"x");
    for (kind, status, code, retry) in cases {
        let api = Api::engine(Engine::failing(kind)).await;
        for path in [
            "/v2/a/manifests/v1".to_owned(),
            format!("/v2/a/blobs/{digest}"),
            "/v2/a/tags/list".to_owned(),
            "/v2/_catalog".to_owned(),
            format!("/v2/a/referrers/{digest}"),
        ] {
            let reply = api.get(path).send().await.expect_error(status, code);
            let found = reply.headers.get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(found, retry);
            if status >= 500 {
                assert!(!reply.message().contains("secret"), "{}", reply.message());
            }
            assert!(!String::from_utf8_lossy(&reply.body).contains("password"));
        }
    }
}

#[tokio::test]
async fn a_full_disk_frees_what_was_begun() {
    let api = Api::engine(Engine::failing(ErrorKind::StorageFull)).await;
    let location = api.begin("a").await;
    api.patch(&location).body("x").send().await.expect_error(507, "UNSUPPORTED");
    api.get(&location).send().await.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    // What may pass by itself costs the client nothing.
    let api = Api::engine(Engine::failing(ErrorKind::Unavailable)).await;
    let location = api.begin("a").await;
    api.patch(&location).body("x").send().await.expect_error(503, "UNSUPPORTED");
    api.get(&location).send().await.expect(204);
}

// covers: M16
#[tokio::test]
async fn a_source_that_cannot_seek_is_served_whole() {
    let engine = Engine { part: Some(|size| 0..size), ..Engine::default() };
    let api = Api::engine(engine).await;
    let digest = api.push_blob("a", b"0123456789").await;
    let get = api.get(format!("/v2/a/blobs/{digest}")).header("range", "bytes=2-3");
    let got = get.send().await.expect(200);
    assert_eq!(got.body, "0123456789");
    assert!(!got.has("content-range"));
}

#[tokio::test]
async fn a_source_that_gives_another_part_is_not_served() {
    let engine = Engine { part: Some(|size| 1..size), ..Engine::default() };
    let api = Api::engine(engine).await;
    let digest = api.push_blob("a", b"0123456789").await;
    let get = api.get(format!("/v2/a/blobs/{digest}")).header("range", "bytes=2-3");
    get.send().await.expect_error(500, "UNSUPPORTED");
}

#[tokio::test]
async fn blobs_that_are_read_elsewhere() {
    let url = "http://bucket.test/objects/ab?signature=a%2Fb&expires=60";
    let api = Api::engine(Engine { url: Some(url), ..Engine::default() }).await;
    let digest = api.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    for range in [None, Some("bytes=2-3")] {
        let get = api.get(&path);
        let get = match range {
            Some(range) => get.header("range", range),
            None => get,
        };
        let sent = get.send().await.expect(307);
        assert_eq!(sent.header("location"), url);
        assert_eq!(sent.header("cache-control"), "no-store");
        assert_eq!(sent.header("docker-content-digest"), digest.to_string());
        assert_eq!(sent.body, "");
    }
    // What needs no bytes is answered here.
    let beyond = api.get(&path).header("range", "bytes=99-").send().await.expect(416);
    assert_eq!(beyond.header("content-range"), "bytes */10");
    let head = api.head(&path).send().await.expect(200);
    assert_eq!(head.header("content-length"), "10");
    let known = api.get(&path).header("if-none-match", format!("\"{digest}\""));
    known.send().await.expect(304);
    let absent = Algorithm::Sha256.digest(b"absent");
    api.get(format!("/v2/a/blobs/{absent}")).send().await.expect_error(404, "BLOB_UNKNOWN");
}

#[tokio::test]
async fn positions_that_only_the_engine_understands() {
    let api = Api::engine(Engine::default()).await;
    let first = api.get("/v2/_catalog?n=1").send().await.expect(200);
    assert_eq!(first.next(), "/v2/_catalog?n=1&next=a%20b%2F%C3%BC");
    let second = api.get(first.next()).send().await.expect(200);
    assert_eq!(second.json()["repositories"][0], "b");
}

// spec: R23
#[tokio::test]
async fn capabilities_are_told_and_kept() {
    let mut capabilities = Capabilities::default();
    capabilities.min_chunk = Some(5 << 20);
    capabilities.manifest_types = Some(vec![MediaType::OCI_IMAGE_MANIFEST]);
    let engine = Engine { capabilities, ..Engine::default() };
    let api = Api::engine(engine).await;
    let begun = api.post("/v2/a/blobs/uploads/").send().await.expect(202);
    assert_eq!(begun.header("oci-chunk-min-length"), "5242880");
    let refused = api.push_manifest("a", "v1", &index(&[])).await;
    refused.expect_error(400, "MANIFEST_INVALID");
    // Neither mounts nor conditions are claimed.
    let digest = api.push_blob("a", b"{}").await;
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    api.post(path).send().await.expect(202);
    let manifest = crate::support::image(&[]);
    let put = api.put("/v2/a/manifests/v1").header("if-none-match", "*");
    let refused = put.body(serde_json::to_vec(&manifest).unwrap()).send().await;
    refused.expect_error(400, "UNSUPPORTED");
}

// spec: R67
#[tokio::test]
async fn what_only_a_referrers_tag_names_is_listed() {
    let api = Api::engine(Engine { old: true, ..Engine::default() }).await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let about = |note: &str| {
        let mut manifest = image(&[]);
        manifest["subject"] = descriptor_of(&subject);
        manifest["artifactType"] = json!(format!("application/vnd.{note}"));
        manifest
    };
    let all = ["one", "two", "three"].map(about);
    for manifest in &all {
        api.push_manifest("a", digest_of(manifest).as_str(), manifest).await.expect(201);
    }
    api.push_manifest("a", "subject", &subject).await.expect(201);
    let tag = digest_of(&subject).to_string().replace(':', "-");
    // The subject itself is in the list too, and is not about itself.
    let list = index(&[&all[0], &subject, &all[1], &all[0], &all[2]]);
    api.push_manifest("a", &tag, &list).await.expect(201);

    let listed = |reply: &Reply| -> Vec<String> {
        let entries = reply.json()["manifests"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["artifactType"].as_str().unwrap().to_owned()).collect()
    };
    let path = format!("/v2/a/referrers/{}", digest_of(&subject));
    let types = ["application/vnd.one", "application/vnd.two", "application/vnd.three"];
    let whole = api.get(&path).send().await.expect(200);
    assert_eq!(listed(&whole), types);
    assert!(!whole.has("link"));
    let filtered = api.get(format!("{path}?artifactType={}", types[1])).send().await.expect(200);
    assert_eq!(listed(&filtered), types[1..2]);

    let mut next = format!("{path}?n=1");
    for expected in types {
        let page = api.get(&next).send().await.expect(200);
        assert_eq!(listed(&page), [expected]);
        next = if page.has("link") { page.next() } else { String::new() };
    }
    assert_eq!(next, "", "the last page has no Link");
}
