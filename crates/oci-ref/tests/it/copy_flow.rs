//! How a copy flows: who waits for whom, what is tried again, what is mounted, and what an end before time leaves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use oci_ref::suite::content::{image, index, tag};
use oci_ref::{
    BlobRead, ByteRange, Capabilities, CopyEvent, CopyOptions, Cursor, Manifest, Memory, Mounted,
    Page, Precondition, Referrers, Reopen, Result, Source, Staged, Store, Target, copy,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Name, Tag};
use tokio::sync::{Notify, Semaphore};

use crate::support::{files, new_layout};

/// A repository that holds one blob back, and says when it is asked for it.
struct Gated {
    inner: Memory,
    held: Digest,
    asked: Notify,
    /// Open once this manifest has been read, if one is named.
    opened_by: Option<Digest>,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new(held: &Digest, opened_by: Option<&Digest>) -> Self {
        Self {
            inner: Memory::new(),
            held: held.clone(),
            asked: Notify::new(),
            opened_by: opened_by.cloned(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }
}

#[async_trait]
impl Source for Gated {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.inner.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let manifest = self.inner.manifest(target).await?;
        if self.opened_by.as_ref() == Some(manifest.digest()) {
            self.gate.add_permits(1);
        }
        Ok(manifest)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.blob_size(digest).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let read = self.inner.blob(digest, range).await?;
        if *digest != self.held {
            return Ok(read);
        }
        self.asked.notify_one();
        let gate = self.gate.clone();
        let open = async move {
            gate.acquire().await.unwrap().forget();
            futures_util::stream::empty()
        };
        // The first bytes come, the rest waits.
        let mut body = read.body;
        let first = futures_util::stream::iter(body.next().await);
        let body = first.chain(open.flatten_stream()).chain(body).boxed();
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

/// While a blob moves as slowly as it likes, manifests are read all the same, even where one blob moves at a time.
#[tokio::test(start_paused = true)]
async fn small_requests_do_not_wait_for_blobs() {
    let (one, two) = (image("one").unwrap(), image("two").unwrap());
    let held = &one.blobs.iter().max_by_key(|blob| blob.bytes.len()).unwrap().descriptor.digest;
    let from = Gated::new(held, Some(two.manifest.digest()));
    one.put(&from.inner, &[]).await.unwrap();
    two.put(&from.inner, &[]).await.unwrap();
    // What opens the gate lies so deep that the blob is asked for before it.
    let mut inner = two.manifest;
    for _ in 0..4 {
        inner = index([&inner]).unwrap();
        from.inner.put_manifest(&inner, &[], &Precondition::None).await.unwrap();
    }
    let list = index([&one.manifest, &inner]).unwrap();
    from.inner.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let target = Target::Digest(list.digest().clone());
    let options = CopyOptions { concurrency: 1, bytes_in_flight: 1, ..CopyOptions::default() };
    let copying = copy(Arc::new(from), &target, Arc::new(Memory::new()), options);
    let copied = tokio::time::timeout(Duration::from_secs(3600), copying).await;
    assert_eq!(copied.expect("nothing waits for ever").unwrap().manifests, 7);
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_no_garbage_in_a_layout() {
    let packed = image("given up").unwrap();
    let held = &packed.blobs.iter().max_by_key(|blob| blob.bytes.len()).unwrap().descriptor.digest;
    let from = Arc::new(Gated::new(held, None));
    packed.put(&from.inner, &[]).await.unwrap();
    let (_directory, layout) = new_layout().await;
    let layout = Arc::new(layout);
    let before = files(layout.path());
    let target = Target::Digest(packed.manifest.digest().clone());
    let copying = {
        let (from, layout) = (from.clone(), layout.clone());
        let options =
            CopyOptions { concurrency: 1, tags: vec![tag("t")], ..CopyOptions::default() };
        tokio::spawn(async move { copy(from, &target, layout, options).await })
    };
    from.asked.notified().await;
    copying.abort();
    assert!(copying.await.unwrap_err().is_cancelled());
    // Its parts end when they are next looked at, and a file goes where files are dealt with.
    let gone = async {
        while files(layout.path()) != before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("what was begun is gone");
}

/// What a store does that may mount.
#[derive(Clone, Copy)]
enum Mounts {
    Done,
    Upload,
    No,
}

/// A store beside another one, whose first attempt at every blob breaks off.
struct Sibling {
    inner: Memory,
    other: Arc<Memory>,
    mounts: Mounts,
    asked: Mutex<Vec<Option<Name>>>,
}

#[async_trait]
impl Source for Sibling {
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
        self.inner.blob(digest, range).await
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
impl Store for Sibling {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.mount = true;
        capabilities
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        // A first attempt that breaks off, and one that goes on in the middle.
        drop(content.open(0).await?);
        drop(content.open(1).await?);
        self.inner.put_blob(descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.inner.stage(algorithm).await
    }

    async fn mount(&self, descriptor: &Descriptor, from: Option<&Name>) -> Result<Mounted> {
        self.asked.lock().unwrap().push(from.cloned());
        match self.mounts {
            Mounts::Done => {
                let content =
                    oci_ref::SourceBlob::new(self.other.clone(), descriptor.digest.clone());
                self.inner.put_blob(descriptor, &content).await?;
                Ok(Mounted::Done)
            }
            Mounts::Upload => Ok(Mounted::Upload(self.inner.stage(Algorithm::Sha256).await?)),
            Mounts::No => Ok(Mounted::No),
        }
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.inner.put_manifest(manifest, tags, when).await
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

#[tokio::test]
async fn blobs_are_mounted_where_both_are_one_registry_and_told_when_tried_again() {
    let packed = image("mounted").unwrap();
    let blobs = packed.blobs.len() as u64;
    let name: Name = "source/repository".parse().unwrap();
    for (mounts, mount_from, mounted, retried) in [
        (Mounts::Done, Some(name.clone()), blobs, 0),
        (Mounts::Upload, Some(name.clone()), 0, 0),
        (Mounts::No, Some(name.clone()), 0, 2 * blobs),
        (Mounts::Done, None, 0, 2 * blobs),
    ] {
        let from = Arc::new(Memory::new());
        packed.put(&from, &[]).await.unwrap();
        let to = Arc::new(Sibling {
            inner: Memory::new(),
            other: from.clone(),
            mounts,
            asked: Mutex::default(),
        });
        let counts = Arc::new(Mutex::new((0, 0)));
        let heard = counts.clone();
        let options = CopyOptions {
            mount_from: mount_from.clone(),
            progress: Some(Arc::new(move |event: &CopyEvent<'_>| match event {
                CopyEvent::Mounted(_) => heard.lock().unwrap().0 += 1,
                CopyEvent::Retried(_, offset) => {
                    assert!(*offset <= 1);
                    heard.lock().unwrap().1 += 1;
                }
                _ => {}
            })),
            ..CopyOptions::default()
        };
        let target = Target::Digest(packed.manifest.digest().clone());
        let copied = copy(from, &target, to.clone(), options).await.unwrap();
        assert_eq!((copied.mounted, copied.blobs), (mounted, blobs - mounted));
        assert_eq!(*counts.lock().unwrap(), (mounted, retried));
        let asked = to.asked.lock().unwrap().clone();
        assert_eq!(asked.len() as u64, if mount_from.is_some() { blobs } else { 0 });
        assert!(asked.iter().all(|from| *from == mount_from));
    }
}
