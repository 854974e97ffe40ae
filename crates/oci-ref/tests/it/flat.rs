//! Memory stays flat, however large what is copied is: counted are the bytes that a source has given away and that have
//! not been dropped yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::suite::content::{image, image_with, index};
use oci_ref::{
    BlobRead, ByteRange, CopyOptions, Cursor, Directory, Fanout, Layout, Manifest, Memory,
    OciArchiveWriter, Page, Precondition, Referrers, Result, Source, Store, Target, copy,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType, Tag};
use tempfile::TempDir;

const CHUNK: usize = 256 << 10;
/// How many chunks a large blob has, and how many such blobs there are.
const CHUNKS: u64 = 64;
const BLOBS: u8 = 6;
/// The most bytes that may be alive at a time: some chunks for each blob that moves.
const MOST: usize = 16 << 20;

/// The bytes that are alive, and the most that there were.
#[derive(Default)]
struct Alive {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A chunk that counts until it is dropped.
struct Chunk(Vec<u8>, Arc<Alive>);

impl Chunk {
    fn new(seed: u8, alive: &Arc<Alive>) -> Self {
        let now = alive.now.fetch_add(CHUNK, Ordering::SeqCst) + CHUNK;
        alive.most.fetch_max(now, Ordering::SeqCst);
        Self(vec![seed; CHUNK], alive.clone())
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.1.now.fetch_sub(CHUNK, Ordering::SeqCst);
    }
}

/// A repository whose large blobs are made while they are read.
struct Endless {
    inner: Memory,
    large: Vec<Descriptor>,
    alive: Arc<Alive>,
}

impl Endless {
    async fn new() -> (Self, Manifest) {
        let large: Vec<_> = (1..=BLOBS).map(describe).collect();
        let inner = Memory::unchecked();
        let mut images = Vec::new();
        for half in large.chunks(3) {
            let name = half[0].digest.encoded();
            let small = image(name).unwrap();
            small.put(&inner, &[]).await.unwrap();
            let packed = image_with(name, |image| image.layers.extend_from_slice(half)).unwrap();
            inner.put_manifest(&packed.manifest, &[], &Precondition::None).await.unwrap();
            images.push(packed.manifest);
        }
        let root = index(&images).unwrap();
        inner.put_manifest(&root, &[], &Precondition::None).await.unwrap();
        (Self { inner, large, alive: Arc::default() }, root)
    }
}

fn describe(seed: u8) -> Descriptor {
    let mut hasher = Algorithm::Sha256.hasher();
    let chunk = vec![seed; CHUNK];
    (0..CHUNKS).for_each(|_| hasher.update(&chunk));
    Descriptor::new(MediaType::OCI_LAYER, hasher.finish(), CHUNKS * CHUNK as u64)
}

#[async_trait]
impl Source for Endless {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.inner.manifest(target).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let Some(seed) = self.large.iter().position(|blob| blob.digest == *digest) else {
            return self.inner.blob(digest, range).await;
        };
        let alive = self.alive.clone();
        let chunk = move |_| Ok(Bytes::from_owner(Chunk::new(seed as u8 + 1, &alive)));
        let size = CHUNKS * CHUNK as u64;
        let body = futures_util::stream::iter(0..CHUNKS).map(chunk).boxed();
        Ok(BlobRead { size, range: 0..size, body })
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.inner.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.inner.referrers(subject, artifact_type, after, limit).await
    }
}

/// Copies all to a store, and checks how much was alive at a time.
async fn copies_in_little_memory(to: Arc<dyn Store>) {
    let (from, root) = Endless::new().await;
    let alive = from.alive.clone();
    let target = Target::Digest(root.digest().clone());
    let copied = copy(Arc::new(from), &target, to, CopyOptions::default()).await.unwrap();
    assert!(copied.bytes >= u64::from(BLOBS) * CHUNKS * CHUNK as u64, "{copied:?}");
    let most = alive.most.load(Ordering::SeqCst);
    assert!(most <= MOST, "{most} of {} bytes were alive", copied.bytes);
    assert_eq!(alive.now.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_files_of_each_form() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    copies_in_little_memory(Arc::new(Layout::create(at("layout")).await.unwrap())).await;
    copies_in_little_memory(Arc::new(Directory::create(at("dir")).await.unwrap())).await;
    let archive = OciArchiveWriter::create(at("archive.tar")).await.unwrap();
    copies_in_little_memory(Arc::new(archive.clone())).await;
    archive.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn to_several_at_once() {
    let directory = TempDir::new().unwrap();
    let layout = |name: &str| Layout::create(directory.path().join(name));
    let others: Vec<Arc<dyn Store>> =
        vec![Arc::new(layout("two").await.unwrap()), Arc::new(layout("three").await.unwrap())];
    let all = Fanout::new(Arc::new(layout("one").await.unwrap()), others);
    copies_in_little_memory(Arc::new(all)).await;
}
