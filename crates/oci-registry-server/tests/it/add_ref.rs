//! Content that a program puts into a registry, and how it is served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use oci_ref::{
    Access, BlobRead, ByteRange, Cursor, Error, Manifest, Memory, Page, Precondition, Ref,
    Referrers, Registry, Result, Source, Store, Target,
};
use oci_registry_server::{MemoryRegistry, ServerOptions, add_ref};
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Name, Tag};
use serde_json::{Value, json};

use crate::support::{Api, IMAGE, descriptor, digest_of, image, index};

const LAYER: &str = "layer 0123456789";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// A source that tells what is read of it, and does as it is told.
#[derive(Default)]
struct Origin {
    memory: Memory,
    /// Which blobs have been read.
    reads: Mutex<Vec<(Digest, ByteRange)>>,
    /// How often it was asked whether it has a blob.
    asked: AtomicUsize,
    /// Whether it gives all where a part is asked for.
    whole: bool,
    /// Whether it now has other bytes, or another number of them.
    changed: AtomicBool,
    grown: AtomicBool,
}

impl Origin {
    async fn put(&self, content: &[u8]) {
        let content = Bytes::copy_from_slice(content);
        let blob = Descriptor::of(MediaType::OCTET_STREAM, &content);
        self.memory.put_blob(&blob, &content).await.unwrap();
    }

    async fn put_manifest(&self, document: &Value) -> Manifest {
        let bytes = Bytes::from(serde_json::to_vec(document).unwrap());
        let manifest = Manifest::parse(bytes, None, None).unwrap();
        self.memory.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
        manifest
    }

    fn reads(&self) -> usize {
        self.reads.lock().unwrap().len()
    }
}

#[async_trait]
impl Source for Origin {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.memory.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.memory.manifest(target).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.memory.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.reads.lock().unwrap().push((digest.clone(), range));
        let range = if self.whole { ByteRange::All } else { range };
        let mut read = self.memory.blob(digest, range).await?;
        if self.changed.load(Ordering::Relaxed) {
            let other = |chunk: Result<Bytes>| chunk.map(|chunk| vec![b'x'; chunk.len()].into());
            read.body = read.body.map(other).boxed();
        }
        if self.grown.load(Ordering::Relaxed) {
            read.size += 1;
        }
        Ok(read)
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

/// A registry that cannot leave bytes where they are.
struct Copying(MemoryRegistry);

#[async_trait]
impl Registry for Copying {
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>> {
        self.0.repository(name, access).await
    }

    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>> {
        self.0.catalog(after, limit).await
    }
}

fn name() -> Name {
    "team/app".parse().unwrap()
}

fn tag() -> Tag {
    "v1".parse().unwrap()
}

/// An image of one layer.
async fn origin(origin: Origin) -> (Arc<Origin>, Ref) {
    origin.put(b"{}").await;
    origin.put(LAYER.as_bytes()).await;
    let manifest = origin.put_manifest(&image(&[LAYER])).await;
    let origin = Arc::new(origin);
    let root = Ref::new(manifest, origin.clone()).unwrap();
    (origin, root)
}

fn layer_path() -> String {
    format!("/v2/team/app/blobs/{}", Digest::sha256(LAYER.as_bytes()))
}

/// The image, in a registry that serves it.
async fn serving(source: Origin) -> (Arc<Origin>, MemoryRegistry, Api) {
    let (origin, root) = origin(source).await;
    let registry = MemoryRegistry::new();
    add_ref(&registry, &name(), Some(&tag()), &root).await.unwrap();
    let api = Api::memory(registry.clone(), ServerOptions::new()).await;
    (origin, registry, api)
}

// covers: M16
#[tokio::test]
async fn blobs_are_read_when_they_are_served() {
    let (origin, _registry, api) = serving(Origin::default()).await;
    assert_eq!(origin.reads(), 0);
    let manifest = api.get("/v2/team/app/manifests/v1").send().await.expect(200);
    assert_eq!(manifest.header("docker-content-digest"), digest_of(&image(&[LAYER])).as_str());
    let head = api.head(layer_path()).send().await.expect(200);
    assert_eq!(head.header("content-length"), LAYER.len().to_string());
    assert_eq!(origin.reads(), 0);

    assert_eq!(api.get(layer_path()).send().await.expect(200).body, LAYER);
    let part = api.get(layer_path()).header("range", "bytes=6-8").send().await.expect(206);
    assert_eq!(part.body, "012");
    assert_eq!(part.header("content-range"), "bytes 6-8/16");
    let beyond = api.get(layer_path()).header("range", "bytes=16-").send().await.expect(416);
    assert_eq!(beyond.header("content-range"), "bytes */16");
    let reads = origin.reads.lock().unwrap().clone();
    let layer = Digest::sha256(LAYER.as_bytes());
    let expected = [(layer.clone(), ByteRange::All), (layer, ByteRange::Inclusive(6, 8))];
    assert_eq!(reads, expected, "what is asked for is what is read");
}

// covers: M16
#[tokio::test]
async fn a_source_that_cannot_seek_is_served_whole() {
    let (_origin, _registry, api) = serving(Origin { whole: true, ..Origin::default() }).await;
    for range in ["bytes=6-8", "bytes=6-", "bytes=-2"] {
        let got = api.get(layer_path()).header("range", range).send().await.expect(200);
        assert_eq!(got.body, LAYER);
        assert!(!got.has("content-range"));
        assert_eq!(got.header("accept-ranges"), "none");
        assert_eq!(got.header("content-length"), LAYER.len().to_string());
    }
    // This range is the whole.
    let got = api.get(layer_path()).header("range", "bytes=0-15").send().await.expect(206);
    assert_eq!(got.body, LAYER);
}

// covers: M16
#[tokio::test]
async fn without_a_tag_it_is_known_by_digest_only() {
    let (_origin, root) = origin(Origin::default()).await;
    let registry = MemoryRegistry::new();
    add_ref(&registry, &name(), None, &root).await.unwrap();
    let api = Api::memory(registry, ServerOptions::new()).await;
    let by_digest = format!("/v2/team/app/manifests/{}", root.digest());
    api.get(by_digest).send().await.expect(200);
    let tags = api.get("/v2/team/app/tags/list").send().await.expect(200);
    assert_eq!(tags.json()["tags"], json!([]));
    let names = api.get("/v2/_catalog").send().await.expect(200);
    assert_eq!(names.json()["repositories"], json!(["team/app"]));
}

/// Adds the ref under a name and a tag as they are written.
async fn add(registry: &MemoryRegistry, name: &str, tag: &str, root: &Ref) -> Result<(), String> {
    let name: Name = name.parse().map_err(|error| format!("{error}"))?;
    let tag: Tag = tag.parse().map_err(|error| format!("{error}"))?;
    add_ref(registry, &name, Some(&tag), root).await.map_err(|error| error.to_string())
}

// covers: M16
#[tokio::test]
async fn what_is_added_under_a_valid_name_and_tag_is_served_under_them_and_nothing_else_is() {
    let (_origin, root) = origin(Origin::default()).await;
    let registry = MemoryRegistry::new();
    let api = Api::memory(registry.clone(), ServerOptions::new()).await;
    let (long_name, long_tag) = ("a".repeat(255), "T".repeat(128));
    let good = [
        ("a", "v1"),
        ("a/b/c", "_x"),
        ("team/my-app_2.x", "1.0-rc.1_B"),
        ("a__b/c--d", "latest"),
        (&*long_name, &*long_tag),
    ];
    for (name, tag) in good {
        add(&registry, name, tag, &root).await.unwrap();
        let got = api.get(format!("/v2/{name}/manifests/{tag}")).send().await.expect(200);
        assert_eq!(got.header("docker-content-digest"), root.digest().as_str(), "{name}:{tag}");
        let tags = api.get(format!("/v2/{name}/tags/list")).send().await.expect(200);
        assert_eq!(tags.json()["tags"], json!([tag]), "{name}");
    }
    let (longer_name, longer_tag) = ("a".repeat(256), "T".repeat(129));
    for bad in ["", "A", "a//b", "../a", "a/", "/a", "a b", "a:b", "a@b", "-a", &longer_name] {
        let error = add(&registry, bad, "v1", &root).await.unwrap_err();
        assert!(error.contains("name"), "{bad:?}: {error}");
    }
    for bad in ["", ".x", "-x", "a/b", "a:b", "a b", "ä", &longer_tag] {
        let error = add(&registry, "bad/tag", bad, &root).await.unwrap_err();
        assert!(error.contains("tag"), "{bad:?}: {error}");
    }
    let mut names: Vec<_> = good.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let found = api.get("/v2/_catalog").send().await.expect(200);
    assert_eq!(found.json()["repositories"], json!(names));
}

/// An index of an image, an artifact with a subject, and an index of another image and the first.
async fn nested() -> (Arc<Origin>, Ref, Vec<Value>) {
    let origin = Origin::default();
    for blob in ["{}", LAYER, "other", "signature"] {
        origin.put(blob.as_bytes()).await;
    }
    let (first, second) = (image(&[LAYER]), image(&["other"]));
    let mut artifact = image(&["signature"]);
    artifact["artifactType"] = json!("application/vnd.example.signature");
    artifact["subject"] = crate::support::descriptor_of(&first);
    let inner = index(&[&second, &first]);
    let root = index(&[&first, &artifact, &inner]);
    let all = vec![first, second, artifact, inner, root];
    let mut last = None;
    for document in &all {
        last = Some(origin.put_manifest(document).await);
    }
    let origin = Arc::new(origin);
    let root = Ref::new(last.unwrap(), origin.clone()).unwrap();
    (origin, root, all)
}

// covers: M16
#[tokio::test]
async fn all_that_the_ref_reaches_comes_along() {
    let (origin, root, all) = nested().await;
    let linking: Arc<dyn Registry> = Arc::new(MemoryRegistry::new());
    let copying: Arc<dyn Registry> = Arc::new(Copying(MemoryRegistry::new()));
    for (registry, reads) in [(linking, 0), (copying, 4)] {
        add_ref(&*registry, &name(), Some(&tag()), &root).await.unwrap();
        assert_eq!(origin.reads(), reads, "each blob is read once, or not at all");
        let api = Api::engine(registry).await;
        for manifest in &all {
            let digest = digest_of(manifest);
            let got = api.get(format!("/v2/team/app/manifests/{digest}")).send().await.expect(200);
            assert_eq!(got.body, serde_json::to_vec(manifest).unwrap());
        }
        for blob in ["{}", LAYER, "other", "signature"] {
            let path = format!("/v2/team/app/blobs/{}", Digest::sha256(blob.as_bytes()));
            assert_eq!(api.get(path).send().await.expect(200).body, blob);
        }
        let tagged = api.head("/v2/team/app/manifests/v1").send().await.expect(200);
        assert_eq!(tagged.header("docker-content-digest"), root.digest().as_str());
        let tags = api.get("/v2/team/app/tags/list").send().await.expect(200);
        assert_eq!(tags.json()["tags"], json!(["v1"]), "only the root has the tag");
        let path = format!("/v2/team/app/referrers/{}", digest_of(&all[0]));
        let referrers = api.get(path).send().await.expect(200).json();
        assert_eq!(referrers["manifests"][0]["digest"], digest_of(&all[2]).as_str());
        origin.reads.lock().unwrap().clear();
    }
}

// covers: M15
#[tokio::test]
async fn read_only_content_is_pulled_and_nothing_is_written() {
    let (_origin, root) = origin(Origin::default()).await;
    let registry = MemoryRegistry::new();
    add_ref(&registry, &name(), Some(&tag()), &root).await.unwrap();
    let api = Api::memory(registry, ServerOptions::new().read_only(true)).await;

    for path in ["/v2/", "/v2/team/app/manifests/v1"] {
        api.get(path).send().await.expect(200);
        assert!(api.head(path).send().await.expect(200).body.is_empty());
    }
    let by_digest = format!("/v2/team/app/manifests/{}", root.digest());
    let manifest = api.get(&by_digest).send().await.expect(200);
    assert_eq!(manifest.header("content-type"), IMAGE);
    assert_eq!(manifest.header("docker-content-digest"), root.digest().as_str());
    let etag = manifest.header("etag").to_owned();
    api.get(&by_digest).header("if-none-match", etag).send().await.expect(304);
    let part = api.get(layer_path()).header("range", "bytes=6-8").send().await.expect(206);
    assert_eq!(part.body, "012");
    assert_eq!(part.header("docker-content-digest"), Digest::sha256(LAYER.as_bytes()).as_str());

    let absent = Digest::sha256(b"absent");
    api.get("/v2/other/tags/list").send().await.expect_error(404, "NAME_UNKNOWN");
    api.get("/v2/team/app/manifests/v2").send().await.expect_error(404, "MANIFEST_UNKNOWN");
    let missing = api.get(format!("/v2/team/app/blobs/{absent}")).send().await;
    missing.expect_error(404, "BLOB_UNKNOWN");

    for ask in [
        api.put("/v2/team/app/manifests/v2").header("content-type", IMAGE).body("{}"),
        api.delete("/v2/team/app/manifests/v1"),
        api.delete(&by_digest),
        api.delete(layer_path()),
        api.post("/v2/team/app/blobs/uploads/"),
        api.post(format!("/v2/team/app/blobs/uploads/?digest={absent}")).body("absent"),
        api.post(format!("/v2/team/b/blobs/uploads/?mount={absent}&from=team/app")),
        api.patch("/v2/team/app/blobs/uploads/1").body("x"),
        api.put(format!("/v2/team/app/blobs/uploads/1?digest={absent}")),
    ] {
        ask.send().await.expect_error(405, "UNSUPPORTED");
    }
    api.get(&by_digest).send().await.expect(200);
    api.get(layer_path()).send().await.expect(200);
}

#[tokio::test]
async fn a_source_that_has_changed_is_not_served_as_if_it_had_not() {
    let (origin, registry, api) = serving(Origin::default()).await;
    origin.changed.store(true, Ordering::Relaxed);
    let store = registry.repository(&name(), Access::Read).await.unwrap();
    let digest = Digest::sha256(LAYER.as_bytes());
    let read = store.blob(&digest, ByteRange::All).await.unwrap();
    let chunks: Vec<Result<Bytes>> = read.body.collect().await;
    let error = chunks.into_iter().find_map(Result::err).expect("the digest is another one");
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
    origin.grown.store(true, Ordering::Relaxed);
    let refused = api.get(layer_path()).send().await.expect_error(500, "UNSUPPORTED");
    assert_eq!(refused.message(), "internal error");
}

#[tokio::test]
async fn what_is_linked_can_be_mounted_named_and_deleted() {
    let (origin, _registry, api) = serving(Origin::default()).await;
    let digest = Digest::sha256(LAYER.as_bytes());
    for from in ["&from=team/app", ""] {
        let repository = format!("mounted{}", from.len());
        let path = format!("/v2/{repository}/blobs/uploads/?mount={digest}{from}");
        api.post(path).send().await.expect(201);
        let path = format!("/v2/{repository}/blobs/{digest}");
        assert_eq!(api.get(path).send().await.expect(200).body, LAYER);
    }
    assert_eq!(origin.reads(), 2);
    // A manifest of somebody else may name it.
    api.push_blob("team/app", b"{ }").await;
    let mut other = image(&[LAYER]);
    other["config"] = descriptor("application/vnd.oci.image.config.v1+json", b"{ }");
    api.push_manifest("team/app", "v2", &other).await.expect(201);
    api.delete(layer_path()).send().await.expect(202);
    api.get(layer_path()).send().await.expect_error(404, "BLOB_UNKNOWN");
    api.delete(layer_path()).send().await.expect_error(404, "BLOB_UNKNOWN");
    let refused = api.push_manifest("team/app", "v3", &image(&[LAYER, LAYER])).await;
    refused.expect_error(404, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn what_is_there_is_not_asked_for_again() {
    let (origin, root) = origin(Origin::default()).await;
    let registry = MemoryRegistry::new();
    add_ref(&registry, &name(), None, &root).await.unwrap();
    assert_eq!(origin.asked.swap(0, Ordering::Relaxed), 2);
    add_ref(&registry, &name(), Some(&tag()), &root).await.unwrap();
    assert_eq!(origin.asked.load(Ordering::Relaxed), 0);
}

async fn refusal(origin: Origin, document: &Value) -> (Error, MemoryRegistry) {
    let manifest = origin.put_manifest(document).await;
    let root = Ref::new(manifest, Arc::new(origin)).unwrap();
    let registry = MemoryRegistry::new();
    let error = add_ref(&registry, &name(), Some(&tag()), &root).await.unwrap_err();
    (error, registry)
}

#[tokio::test]
async fn what_the_source_does_not_have_is_not_named() {
    let unchecked = || Origin { memory: Memory::unchecked(), ..Origin::default() };
    let (error, registry) = refusal(unchecked(), &image(&[LAYER])).await;
    assert_eq!(error.code(), Some(&ErrorCode::ManifestBlobUnknown));
    let store = registry.repository(&name(), Access::Read).await;
    assert!(store.is_err_and(|error| error.code() == Some(&ErrorCode::NameUnknown)));

    let origin = unchecked();
    origin.put(b"{}").await;
    let mut image_of_size = image(&[]);
    image_of_size["config"]["size"] = json!(3);
    let (error, _) = refusal(origin, &image_of_size).await;
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));

    let (error, _) = refusal(unchecked(), &index(&[&image(&[])])).await;
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test]
async fn what_need_not_be_at_the_source() {
    let origin = Origin { memory: Memory::unchecked(), ..Origin::default() };
    // The config is in its descriptor, and the layer at a URL.
    let mut document = image(&["elsewhere"]);
    document["config"]["data"] = json!("e30=");
    document["layers"][0]["mediaType"] = json!(FOREIGN);
    let manifest = origin.put_manifest(&document).await;
    let root = Ref::new(manifest, Arc::new(origin)).unwrap();
    let registry = MemoryRegistry::new();
    add_ref(&registry, &name(), Some(&tag()), &root).await.unwrap();
    let api = Api::memory(registry, ServerOptions::new()).await;
    api.get("/v2/team/app/manifests/v1").send().await.expect(200);
    let config = format!("/v2/team/app/blobs/{}", Digest::sha256(b"{}"));
    assert_eq!(api.get(config).send().await.expect(200).body, "{}");

    // A registry that takes incomplete indexes takes this one.
    let origin = Origin { memory: Memory::sparse(), ..Origin::default() };
    let manifest = origin.put_manifest(&index(&[&image(&[])])).await;
    let root = Ref::new(manifest, Arc::new(origin)).unwrap();
    add_ref(&MemoryRegistry::sparse(), &name(), Some(&tag()), &root).await.unwrap();
}
