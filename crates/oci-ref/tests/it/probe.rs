//! A repository in memory that can be told to be difficult, and counts what is asked of it. What a test wants to be
//! different is a field; nobody writes another store for that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use oci_ref::suite::sample::{self, Sample};
use oci_ref::{
    BlobRead, ByteRange, Capabilities, Copied, CopyOptions, Cursor, Error, LARGE_DOCUMENT, List,
    Manifest, Memory, Mounted, Page, Precondition, Referrers, Result, Source, Staged, Store,
    Target, copy,
};
use oci_spec_types::{
    Algorithm, Descriptor, Digest, ErrorCode, ImageManifest, MediaType, Name, Platform, Tag,
};

#[derive(Default)]
pub(crate) struct Probe {
    pub(crate) inner: Memory,
    /// What it says that it takes.
    pub(crate) types: Option<Vec<MediaType>>,
    /// The operating systems that it asks for.
    pub(crate) systems: Option<Vec<String>>,
    /// The types that it refuses, whatever it says, and the code for it (an invalid manifest).
    pub(crate) refused: Vec<MediaType>,
    pub(crate) refuses_with: Option<ErrorCode>,
    /// True if only trying tells that it takes an index without all that this lists.
    pub(crate) untold: bool,
    /// Whether it keeps signatures.
    pub(crate) keeps_signatures: bool,
    pub(crate) signatures: Mutex<HashMap<Digest, Vec<Bytes>>>,
    /// The place of signatures that it says it cannot read.
    pub(crate) elsewhere: Option<String>,
    /// How many blobs were opened, are open, and were open at a time.
    pub(crate) opened: AtomicUsize,
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) most_open: AtomicUsize,
    /// Blobs that cannot be written.
    pub(crate) unwritable: Vec<Digest>,
    /// Makes what is read of a blob something else; it is given what there is.
    pub(crate) gives: Option<Gives>,
    /// Counts the large indexes that were read and are held.
    pub(crate) held: Option<Held>,
    /// Is told of each manifest that was read.
    pub(crate) hears: Option<Hears>,
    /// Mounts blobs, where it can at all.
    pub(crate) mounts: Option<Mounts>,
    /// Whether each blob is opened twice in vain before it is written: a first attempt that breaks off, and one that
    /// goes on in the middle.
    pub(crate) stumbles: bool,
}

/// What comes of reading a blob.
pub(crate) type Gives = Box<dyn Fn(&Digest, Result<BlobRead>) -> Result<BlobRead> + Send + Sync>;

/// Who is told of a manifest.
pub(crate) type Hears = Box<dyn Fn(&Manifest) + Send + Sync>;

/// What becomes of a blob that is to be mounted from a repository.
pub(crate) type Mounts =
    Box<dyn Fn(Descriptor, Option<Name>) -> BoxFuture<'static, Result<Mounted>> + Send + Sync>;

/// Large indexes that are held: now, and most at a time.
#[derive(Default)]
pub(crate) struct Held {
    now: Arc<AtomicUsize>,
    pub(crate) most: AtomicUsize,
}

impl Held {
    /// The same manifest, whose bytes are counted until nobody has them.
    fn give(&self, manifest: &Manifest) -> Manifest {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let bytes = Counted(manifest.bytes().clone(), Open(self.now.clone()));
        let bytes = Bytes::from_owner(bytes);
        Manifest::parse(bytes, Some(manifest.media_type()), Some(manifest.digest())).unwrap()
    }
}

struct Counted(Bytes, #[expect(dead_code, reason = "held, not read")] Open);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Counts what is open until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Source for Probe {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let manifest = self.inner.manifest(target).await?;
        if let Some(hears) = &self.hears {
            hears(&manifest);
        }
        match &self.held {
            Some(held) if manifest.index().is_some() && manifest.bytes().len() > LARGE_DOCUMENT => {
                let counted = held.give(&manifest);
                // Others get their turn, so that what may be held at a time is.
                tokio::task::yield_now().await;
                Ok(counted)
            }
            _ => Ok(manifest),
        }
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let read = self.inner.blob(digest, range).await;
        let read = match &self.gives {
            Some(gives) => gives(digest, read)?,
            None => read?,
        };
        self.opened.fetch_add(1, Ordering::SeqCst);
        let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(now, Ordering::SeqCst);
        let open = Open(self.open.clone());
        let body = read.body.then(move |chunk| {
            let _ = &open;
            async {
                // Others get their turn, so that what may run at a time does.
                tokio::task::yield_now().await;
                chunk
            }
        });
        Ok(BlobRead { body: body.boxed(), ..read })
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

    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        Ok(self.signatures.lock().unwrap().get(manifest).cloned().unwrap_or_default())
    }

    fn may_have_signatures(&self) -> bool {
        !self.signatures.lock().unwrap().is_empty()
    }

    fn signatures_elsewhere(&self) -> Option<String> {
        self.elsewhere.clone()
    }
}

#[async_trait]
impl Store for Probe {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.manifest_types = self.types.clone();
        capabilities.operating_systems = self.systems.clone();
        capabilities.signatures = self.keeps_signatures;
        capabilities.mount = self.mounts.is_some();
        if self.untold {
            capabilities.sparse = None;
        }
        capabilities
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn oci_ref::Reopen) -> Result<()> {
        if self.unwritable.contains(&descriptor.digest) {
            return Err(Error::new(oci_ref::ErrorKind::Io, "this blob cannot be written"));
        }
        if self.stumbles {
            drop(content.open(0).await?);
            drop(content.open(1).await?);
        }
        self.inner.put_blob(descriptor, content).await
    }

    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        match &self.mounts {
            Some(mounts) => mounts(descriptor.clone(), from.cloned()).await,
            None => Ok(Mounted::No),
        }
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.inner.stage(algorithm).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        if self.refused.contains(manifest.media_type()) {
            let message = format!("{} is not for me", manifest.media_type());
            let code = self.refuses_with.clone().unwrap_or(ErrorCode::ManifestInvalid);
            return Err(Error::new(code, message));
        }
        self.inner.put_manifest(manifest, tags, when).await
    }

    async fn put_signatures(&self, manifest: &Digest, signatures: &[Bytes]) -> Result<()> {
        self.signatures.lock().unwrap().insert(manifest.clone(), signatures.to_vec());
        Ok(())
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

pub(crate) async fn filled() -> (Arc<Probe>, Sample) {
    let probe = Arc::new(Probe::default());
    let sample = sample::write_all(&probe.inner).await.unwrap();
    (probe, sample)
}

pub(crate) async fn run(
    from: &Arc<Probe>,
    what: &Descriptor,
    to: &Arc<Probe>,
    options: CopyOptions,
) -> Result<Copied> {
    copy(from.clone(), &Target::Digest(what.digest.clone()), to.clone(), options).await
}

pub(crate) async fn has(store: &Probe, digest: &Digest) -> bool {
    store.inner.resolve(&Target::Digest(digest.clone())).await.is_ok()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// The list of the sample, and those of its entries that are images for a platform.
pub(crate) async fn list(from: &Probe, sample: &Sample) -> (Manifest, Vec<Descriptor>) {
    let list = from.manifest(&Target::Digest(sample.index.digest.clone())).await.unwrap();
    let images =
        list.manifests().iter().filter(|entry| entry.media_type.is_image()).cloned().collect();
    (list, images)
}

/// A list of two images that a Docker list can hold just as well.
pub(crate) async fn plain_list(from: &Probe, sample: &Sample) -> Manifest {
    let image = from.manifest(&Target::Digest(sample.image.digest.clone())).await.unwrap();
    let image = image.image().unwrap();
    let gzip =
        image.layers.iter().find(|layer| layer.media_type == MediaType::OCI_LAYER_GZIP).unwrap();
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for (count, name) in [(1, "linux/amd64"), (2, "linux/arm64")] {
        let bare = Descriptor::new(gzip.media_type.clone(), gzip.digest.clone(), gzip.size);
        let manifest = ImageManifest::new(image.config.clone(), vec![bare; count]);
        let manifest =
            Manifest::parse(serde_json::to_vec(&manifest).unwrap().into(), None, None).unwrap();
        from.inner.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
        let mut entry = manifest.descriptor().clone();
        entry.platform = Some(platform(name));
        list.add(entry);
    }
    let list = list.to_manifest().unwrap();
    from.inner.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    list
}
