//! Memory stays flat, however large what is copied is: counted are the bytes that a source has given away and that have
//! not been dropped yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::suite::content::{image, image_with, index};
use oci_ref::{
    BlobRead, CopyOptions, Directory, Fanout, Layout, Manifest, Memory, OciArchiveWriter,
    Precondition, Store, Target, copy,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType};
use tempfile::TempDir;

use crate::probe::Probe;

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

/// A repository whose large blobs are made while they are read, and a list of all of it.
async fn endless(alive: Arc<Alive>) -> (Probe, Manifest) {
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
    let gives = move |digest: &Digest, read| {
        let Some(seed) = large.iter().position(|blob| blob.digest == *digest) else { return read };
        let alive = alive.clone();
        let chunk = move |_| Ok(Bytes::from_owner(Chunk::new(seed as u8 + 1, &alive)));
        let size = CHUNKS * CHUNK as u64;
        let body = futures_util::stream::iter(0..CHUNKS).map(chunk).boxed();
        Ok(BlobRead { size, range: 0..size, body })
    };
    (Probe { inner, gives: Some(Box::new(gives)), ..Probe::default() }, root)
}

fn describe(seed: u8) -> Descriptor {
    let mut hasher = Algorithm::Sha256.hasher();
    let chunk = vec![seed; CHUNK];
    (0..CHUNKS).for_each(|_| hasher.update(&chunk));
    Descriptor::new(MediaType::OCI_LAYER, hasher.finish(), CHUNKS * CHUNK as u64)
}

/// Copies all to a store, and checks how much was alive at a time.
async fn copies_in_little_memory(to: Arc<dyn Store>) {
    let alive = Arc::<Alive>::default();
    let (from, root) = endless(alive.clone()).await;
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
