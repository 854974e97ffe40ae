//! What several tests use: layouts in temporary directories, and a store that fails or records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::StreamExt;
use oci_ref::suite::content::{Packed, image, index};
use oci_ref::{
    BlobRead, ByteRange, Capabilities, Cursor, Error, ErrorKind, Layout, Manifest, Memory, Page,
    Precondition, Referrers, Reopen, Result, Source, Staged, Store, Target,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Tag};
use tempfile::TempDir;

/// A directory with an empty layout.
pub(crate) async fn new_layout() -> (TempDir, Layout) {
    let directory = TempDir::new().unwrap();
    let layout = Layout::create(directory.path().join("layout")).await.unwrap();
    (directory, layout)
}

/// All regular files below a directory, by their paths relative to it, sorted.
pub(crate) fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(root.join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let path = directory.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A small graph: an index of two images and an index, whose images have a blob in common.
pub(crate) struct Graph {
    pub(crate) images: Vec<Packed>,
    pub(crate) inner: Manifest,
    pub(crate) root: Manifest,
}

impl Graph {
    pub(crate) fn new() -> Self {
        let images: Vec<_> = ["a", "b", "c"].map(|seed| image(seed).unwrap()).into();
        let inner = index([&images[2].manifest, &images[0].manifest]).unwrap();
        let root = index([&images[0].manifest, &inner, &images[1].manifest]).unwrap();
        Self { images, inner, root }
    }

    /// All manifests, children before their parents.
    pub(crate) fn manifests(&self) -> Vec<&Manifest> {
        let images = self.images.iter().map(|packed| &packed.manifest);
        images.chain([&self.inner, &self.root]).collect()
    }

    pub(crate) async fn stored(&self, tags: &[Tag]) -> Arc<Memory> {
        let memory = Arc::new(Memory::new());
        for packed in &self.images {
            packed.put(&memory, &[]).await.unwrap();
        }
        memory.put_manifest(&self.inner, &[], &Precondition::None).await.unwrap();
        memory.put_manifest(&self.root, tags, &Precondition::None).await.unwrap();
        memory
    }
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The call does nothing and fails.
    Before,
    /// The call does its work, and fails all the same.
    After,
}

/// What happens to calls, shared by the source and the destination of a copy.
pub(crate) struct Faults {
    next: AtomicUsize,
    fail: Option<(usize, When)>,
    log: Mutex<Vec<String>>,
}

impl Faults {
    pub(crate) fn none() -> Arc<Self> {
        Self::at(None)
    }

    pub(crate) fn at(fail: Option<(usize, When)>) -> Arc<Self> {
        Arc::new(Self { next: AtomicUsize::new(0), fail, log: Mutex::default() })
    }

    pub(crate) fn wrap<T>(self: &Arc<Self>, inner: Arc<T>) -> Arc<Watched<T>> {
        Arc::new(Watched { inner, faults: self.clone() })
    }

    /// The calls so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// How often each call was made.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.log() {
            *counts.entry(call).or_default() += 1;
        }
        counts
    }

    fn begin(&self, call: String) -> Result<usize> {
        self.log.lock().unwrap().push(call);
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.strike(number, When::Before)?;
        Ok(number)
    }

    fn strike(&self, number: usize, when: When) -> Result<()> {
        match self.fail {
            Some(fail) if fail == (number, when) => Err(injected(number)),
            _ => Ok(()),
        }
    }

    async fn call<T>(&self, call: String, work: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.begin(call)?;
        let outcome = work.await?;
        self.strike(number, When::After)?;
        Ok(outcome)
    }
}

fn injected(number: usize) -> Error {
    Error::new(ErrorKind::Io, format!("injected fault at call {number}"))
}

/// A store whose calls are recorded, and one of which fails.
pub(crate) struct Watched<T> {
    inner: Arc<T>,
    faults: Arc<Faults>,
}

#[async_trait]
impl<T: Source> Source for Watched<T> {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.faults.call(format!("resolve {target}"), self.inner.resolve(target)).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.faults.call(format!("manifest {target}"), self.inner.manifest(target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.faults.call(format!("blob_size {digest}"), self.inner.blob_size(digest)).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let read =
            self.faults.call(format!("blob {digest}"), self.inner.blob(digest, range)).await?;
        // The middle of the body is a place to fail too.
        let broken = self.faults.begin(format!("body {digest}"));
        let body = match broken {
            Ok(_) => read.body,
            Err(error) => {
                let half = read
                    .body
                    .take(1)
                    .map(|chunk| chunk.map(|bytes| bytes.slice(..bytes.len() / 2)));
                half.chain(futures_util::stream::iter([Err(error)])).boxed()
            }
        };
        Ok(BlobRead { body, ..read })
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

#[async_trait]
impl<T: Store> Store for Watched<T> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        let call = format!("put_blob {}", descriptor.digest);
        self.faults.call(call, self.inner.put_blob(descriptor, content)).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.faults.call("stage".into(), self.inner.stage(algorithm)).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let tags_text: String = tags.iter().map(|tag| format!(" {tag}")).collect();
        let call = format!("put_manifest {}{tags_text}", manifest.digest());
        self.faults.call(call, self.inner.put_manifest(manifest, tags, when)).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.inner.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.inner.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.inner.delete_blob(digest).await
    }
}
