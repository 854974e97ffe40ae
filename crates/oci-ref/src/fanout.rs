//! Several stores as one, so that one reading of a source feeds them all.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Tag};
use tokio::sync::mpsc;

use crate::{
    BlobRead, Body, ByteRange, Capabilities, Cursor, Error, Manifest, Page, Precondition,
    Referrers, Reopen, Result, Source, Staged, Store, Target,
};

/// How many chunks a slow store may be behind the fastest.
const BEHIND: usize = 4;

/// Several stores as one: what is written goes to each, and is there if each has it. [`copy`](crate::copy()) to it reads
/// the source once.
///
/// A blob is sent to the stores that lack it, at the pace of the slowest. A store that fails is left behind while the
/// others go on; the first error is returned. Reads are answered by the first store, but signatures
/// are those of all.
pub struct Fanout {
    first: Arc<dyn Store>,
    others: Vec<Arc<dyn Store>>,
}

impl Fanout {
    /// A store over `first` and others.
    pub fn new(first: Arc<dyn Store>, others: Vec<Arc<dyn Store>>) -> Self {
        Self { first, others }
    }

    fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Does the same with each, and gives the first error once all have ended.
    async fn each<'a, F: Future<Output = Result<()>>>(
        &'a self,
        work: impl Fn(&'a Arc<dyn Store>) -> F,
    ) -> Result<()> {
        join_all(self.stores().map(work)).await.into_iter().collect()
    }
}

#[async_trait]
impl Source for Fanout {
    /// The descriptor, if all stores have the same.
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        let found = self.first.resolve(target).await?;
        for other in &self.others {
            let also = other.resolve(target).await?;
            if also.digest != found.digest {
                return Err(Error::new(
                    ErrorCode::ManifestUnknown,
                    format!(
                        "{target} is {} in one store and {} in another",
                        found.digest, also.digest
                    ),
                ));
            }
        }
        Ok(found)
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.first.manifest(target).await
    }

    /// The size, if all stores have the blob.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let mut found = None;
        for store in self.stores() {
            match store.blob_size(digest).await? {
                Some(size) => found = Some(size),
                None => return Ok(None),
            }
        }
        Ok(found)
    }

    /// Tells whether all stores have the blob.
    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        for store in self.stores() {
            if !store.has_blob(blob).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        self.first.blob(digest, range).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        self.first.tags(after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        self.first.referrers(subject, artifact_type, after, limit).await
    }

    /// The signatures that any of the stores has, each once.
    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        let mut all: Vec<Bytes> = Vec::new();
        for store in self.stores() {
            for signature in store.signatures(manifest).await? {
                if !all.contains(&signature) {
                    all.push(signature);
                }
            }
        }
        Ok(all)
    }

    fn may_have_signatures(&self) -> bool {
        self.stores().any(|store| store.may_have_signatures())
    }

    fn signatures_elsewhere(&self) -> Option<String> {
        self.stores().find_map(|store| store.signatures_elsewhere())
    }
}

#[async_trait]
impl Store for Fanout {
    /// What all of them can.
    fn capabilities(&self) -> Capabilities {
        let mut all = self.first.capabilities();
        all.mount = false;
        for other in &self.others {
            let other = other.capabilities();
            all.sparse = match (all.sparse, other.sparse) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            all.signatures &= other.signatures;
            all.preconditions &= other.preconditions;
            all.min_chunk = all.min_chunk.max(other.min_chunk);
            all.manifest_types = common(all.manifest_types, other.manifest_types);
            if all.native_types != other.native_types {
                all.native_types = None;
            }
            all.operating_systems = common(all.operating_systems, other.operating_systems);
        }
        all
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        let mut lacking = Vec::new();
        for store in self.stores() {
            if store.blob_size(&descriptor.digest).await?.is_none() {
                lacking.push(store);
            }
        }
        if let [only] = lacking.as_slice() {
            return only.put_blob(descriptor, content).await;
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let body = content.open(0).await?;
        let (senders, feeds): (Vec<_>, Vec<_>) = lacking.iter().map(|_| Feed::new(content)).unzip();
        let writing = lacking.iter().zip(feeds).map(|(store, feed)| async move {
            // The feed must go as soon as its store is done, or the others would wait for a reader.
            let feed = feed;
            store.put_blob(descriptor, &feed).await
        });
        let (written, ()) = join(join_all(writing), pump(body, senders)).await;
        written.into_iter().collect()
    }

    async fn stage(&self, _algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Err(Error::unsupported("several stores at once take blobs whose digest is known only"))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.each(|store| store.put_manifest(manifest, tags, when)).await
    }

    async fn put_signatures(&self, manifest: &Digest, signatures: &[Bytes]) -> Result<()> {
        self.each(|store| store.put_signatures(manifest, signatures)).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.each(|store| store.delete_tag(tag)).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.each(|store| store.delete_manifest(digest)).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.each(|store| store.delete_blob(digest)).await
    }
}

fn common<T: PartialEq>(one: Option<Vec<T>>, other: Option<Vec<T>>) -> Option<Vec<T>> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Some(one.into_iter().filter(|item| other.contains(item)).collect())
        }
        (one, other) => one.or(other),
    }
}

/// One store's share of a common reading. Who reads again reads the content itself.
struct Feed<'a> {
    first: Mutex<Option<mpsc::Receiver<Result<Bytes>>>>,
    content: &'a dyn Reopen,
}

impl<'a> Feed<'a> {
    fn new(content: &'a dyn Reopen) -> (mpsc::Sender<Result<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(BEHIND);
        let first = Mutex::new(Some(receiver));
        (sender, Self { first, content })
    }

    fn take(&self) -> Option<mpsc::Receiver<Result<Bytes>>> {
        self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

#[async_trait]
impl Reopen for Feed<'_> {
    async fn open(&self, offset: u64) -> Result<Body> {
        match self.take() {
            Some(receiver) if offset == 0 => {
                let next = |mut receiver: mpsc::Receiver<_>| async {
                    receiver.recv().await.map(|next| (next, receiver))
                };
                Ok(stream::unfold(receiver, next).boxed())
            }
            _ => self.content.open(offset).await,
        }
    }
}

/// Hands each chunk to all who still read.
async fn pump(mut body: Body, mut senders: Vec<mpsc::Sender<Result<Bytes>>>) {
    while !senders.is_empty()
        && let Some(next) = body.next().await
    {
        let mut still = Vec::with_capacity(senders.len());
        for sender in senders {
            let next = match &next {
                Ok(chunk) => Ok(chunk.clone()),
                Err(error) => Err(Error::new(error.kind().clone(), error.message().to_owned())),
            };
            if sender.send(next).await.is_ok() {
                still.push(sender);
            }
        }
        senders = still;
        if next.is_err() {
            return;
        }
    }
}
