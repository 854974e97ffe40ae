//! A copy under way.

use std::collections::{HashMap, hash_map};
use std::future::Future;
use std::sync::{Arc, Mutex, Once, OnceLock};

use futures_core::future::BoxFuture;
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Tag};
use tokio::sync::OnceCell;
use tokio::task::{JoinError, JoinSet};

use super::Copied;
use super::admission::Reached;
use super::before::refuse_signatures;
use super::content::Content;
use super::done::{Done, Outcome, lock};
use super::kept::Kept;
use super::limits::{Chain, Limits};
use super::options::CopyOptions;
use super::progress::CopyEvent;
use super::select::Selection;
use crate::graph::Entry;
use crate::{Error, ErrorKind, Manifest, Mounted, Precondition, Result, Source, Store, Target};

pub(super) struct Run {
    pub(super) from: Arc<dyn Source>,
    pub(super) to: Arc<dyn Store>,
    pub(super) options: CopyOptions,
    pub(super) limits: Limits,
    pub(super) done: Done,
    counts: Mutex<Counts>,
    /// The entries that are copied of the indexes of which not all are.
    pub(super) selection: OnceLock<Selection>,
    /// Done once it has been told that there may be signatures elsewhere.
    elsewhere: Once,
    /// The manifests that have been admitted.
    admitted: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// Manifests that were copied, whose referrers have not been looked at.
    subjects: Mutex<Vec<(Digest, usize)>>,
}

#[derive(Default)]
struct Counts {
    /// True for each manifest that was written; the others were there.
    manifests: HashMap<Digest, bool>,
    blobs: u64,
    bytes: u64,
    mounted: u64,
    skipped: u64,
}

impl Run {
    pub(super) fn new(from: Arc<dyn Source>, to: Arc<dyn Store>, options: CopyOptions) -> Self {
        Self {
            limits: Limits::new(&options),
            done: Done::default(),
            counts: Mutex::default(),
            selection: OnceLock::new(),
            elsewhere: Once::new(),
            admitted: Mutex::default(),
            subjects: Mutex::default(),
            from,
            to,
            options,
        }
    }

    /// Reads what was asked for.
    pub(super) async fn read_named(&self, target: &Target) -> Result<Manifest> {
        let found = self.from.manifest(target).await;
        let found =
            found.map_err(|error| error.context(format!("reading {target} at the source")))?;
        self.admit(&found, found.descriptor(), Reached::Named).await?;
        Ok(found)
    }

    /// Tells once where signatures may lie that cannot be copied.
    pub(super) fn tell_elsewhere(&self, place: &str) {
        self.elsewhere.call_once(|| self.options.tell(&CopyEvent::SignaturesElsewhere(place)));
    }

    /// The place where it is remembered that a manifest has been admitted.
    pub(super) fn admission_of(&self, digest: &Digest) -> Arc<OnceCell<()>> {
        lock(&self.admitted).entry(digest.clone()).or_default().clone()
    }

    /// Copies the root, what refers to it if that was asked for, and then its tags.
    pub(super) async fn copy_root(self: Arc<Self>, root: Manifest) -> Result<Copied> {
        let mut root = self.copy_references(root, 0, Some(&Chain::default())).await?;
        if self.options.referrers || self.options.tag_schemes {
            self.write(root.clone(), &[], &Precondition::None).await?;
            self.add_subject(&root, 0);
            let kept = Kept::bytes(root);
            self.clone().copy_all_referrers().await?;
            root = kept.manifest(&*self.from).await?;
        }
        let root = self.write(root, &self.options.tags, &self.options.when).await?;
        let counts = lock(&self.counts);
        let manifests = counts.manifests.values().filter(|written| **written).count();
        Ok(Copied {
            descriptor: root.descriptor().clone(),
            manifests: manifests as u64,
            blobs: counts.blobs,
            bytes: counts.bytes,
            mounted: counts.mounted,
            skipped: counts.skipped + (counts.manifests.len() - manifests) as u64,
        })
    }

    /// Remembers that what refers to a manifest goes along, unless it becomes another.
    fn add_subject(&self, manifest: &Manifest, depth: usize) {
        if !self.strips(manifest) {
            lock(&self.subjects).push((manifest.digest().clone(), depth));
        }
    }

    /// Copies an entry once, however often it is asked for: an index, which has a chain, or a leaf.
    fn copy_child(
        self: Arc<Self>,
        child: Descriptor,
        reached: Reached,
        depth: usize,
        chain: Option<Chain>,
    ) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let digest = child.digest.clone();
            let copying = self.copy_entry(child, reached, depth, chain.as_ref());
            let copied = self.once(&digest, chain.is_some(), copying).await;
            copied.map_err(|error| error.context(format!("copying manifest {digest}")))
        })
    }

    async fn copy_entry(
        self: &Arc<Self>,
        entry: Descriptor,
        reached: Reached,
        depth: usize,
        chain: Option<&Chain>,
    ) -> Result<Outcome> {
        let held = self.limits.manifest(entry.size, chain).await;
        let request = self.limits.request().await;
        let read = self.read_entry(&entry, reached).await;
        drop(request);
        match read {
            Ok(Entry::Manifest(manifest)) if chain.is_none() && manifest.lists() => {
                Ok(Outcome::Lists)
            }
            Ok(Entry::Manifest(manifest)) => {
                drop(entry);
                let copied = self.copy_read(manifest, &[], depth, chain).await;
                drop(held);
                copied
            }
            Ok(Entry::Blob) => {
                drop(held);
                self.copy_blob_once(&entry).await.map(|()| Outcome::Same)
            }
            Err(error) if error.is_not_found() && entry.may_be_elsewhere() => Ok(Outcome::Same),
            Err(error) => Err(error),
        }
    }

    /// Copies a manifest that has been read, and all that it references.
    async fn copy_read(
        self: &Arc<Self>,
        manifest: Manifest,
        tags: &[Tag],
        depth: usize,
        chain: Option<&Chain>,
    ) -> Result<Outcome> {
        let manifest = self.copy_references(manifest, depth, chain).await?;
        let when = if tags.is_empty() { &Precondition::None } else { &self.options.when };
        let written = self.write(manifest.clone(), tags, when).await?;
        if self.options.referrers || self.options.tag_schemes {
            self.add_subject(&manifest, depth);
        }
        Ok(match written.digest() == manifest.digest() {
            true => Outcome::Same,
            false => Outcome::Became(Box::new(written.descriptor().clone())),
        })
    }

    /// Copies one manifest of several with all that it references, and sets its tags. Without tags, one that an index
    /// lists too is written once.
    pub(super) async fn copy_one(self: Arc<Self>, root: Manifest, tags: &[Tag]) -> Result<()> {
        let chain = root.lists().then(Chain::default);
        let (digest, size) = (root.digest().clone(), root.descriptor().size);
        let kept = Kept::bytes(root);
        let copying = async {
            let _held = self.limits.manifest(size, chain.as_ref()).await;
            let root = kept.manifest(&*self.from).await?;
            self.copy_read(root, tags, 0, chain.as_ref()).await
        };
        match tags.is_empty() {
            true => self.once(&digest, chain.is_some(), copying).await,
            false => copying.await.map(|_| ()),
        }
    }

    /// The manifests that were copied since this was last asked, and how deep each lies.
    pub(super) fn take_subjects(&self) -> Vec<(Digest, usize)> {
        std::mem::take(&mut lock(&self.subjects))
    }

    /// Copies what a manifest references: of its entries those that were selected, or all. Gives
    /// it back: meanwhile only its bytes are kept if it is large, and of one that is itself listed
    /// nothing while indexes in it are copied, however deep they are nested.
    async fn copy_references(
        self: &Arc<Self>,
        mut manifest: Manifest,
        depth: usize,
        chain: Option<&Chain>,
    ) -> Result<Manifest> {
        while let Some(chain) = chain {
            let next = self.done.next(self.wanted(&manifest));
            if next.is_empty() {
                break;
            }
            let nests = depth > 0 && next.iter().any(|entry| self.done.is_index(entry));
            let keep = if nests { Kept::at_source } else { Kept::bytes };
            let kept = keep(manifest);
            self.copy_children(next, Reached::Listed, depth + 1, chain).await?;
            manifest = kept.manifest(&*self.from).await?;
        }
        self.copy_blobs(&manifest).await?;
        Ok(manifest)
    }

    async fn copy_blobs(self: &Arc<Self>, manifest: &Manifest) -> Result<()> {
        let mut blobs: Vec<Descriptor> = manifest.blobs().cloned().collect();
        for referenced in manifest.references().filter(|it| it.descriptor.is_none()) {
            // Nobody knows what a digest is for that is only written somewhere: what is there comes
            // along.
            let digest = referenced.digest.clone();
            let size = self.from.blob_size(&digest).await?;
            blobs.extend(size.map(|size| Descriptor::new(MediaType::OCTET_STREAM, digest, size)));
        }
        // The largest first: the others fit in beside them.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let mut tasks = JoinSet::new();
        for blob in blobs {
            let run = self.clone();
            self.make_room(&mut tasks).await?;
            tasks.spawn(async move { run.copy_blob_once(&blob).await });
        }
        finish(tasks).await
    }

    async fn copy_blob_once(self: &Arc<Self>, blob: &Descriptor) -> Result<()> {
        let place = self.done.blob(&blob.digest);
        let copied = place.get_or_try_init(|| self.copy_blob(blob)).await.copied();
        copied.map_err(|error| error.context(format!("copying blob {}", blob.digest)))
    }

    /// Copies all that a list has of referrers.
    pub(super) async fn copy_referring(
        self: &Arc<Self>,
        list: &[Descriptor],
        depth: usize,
    ) -> Result<()> {
        let chain = Chain::default();
        loop {
            let next = self.done.next(list.iter());
            if next.is_empty() {
                return Ok(());
            }
            self.copy_children(next, Reached::Refers, depth, &chain).await?;
        }
    }

    /// Copies entries: leaves side by side, and beside them one index after the other. Leaves that
    /// turn out to be indexes are left.
    async fn copy_children(
        self: &Arc<Self>,
        children: Vec<Descriptor>,
        reached: Reached,
        depth: usize,
        chain: &Chain,
    ) -> Result<()> {
        if let (true, Some(first)) = (depth > self.options.max_depth, children.first()) {
            let limit = self.options.max_depth;
            return Err(Error::new(
                ErrorKind::TooLarge { limit: limit as u64 },
                format!("{} is referenced through more than {limit} manifests", first.digest),
            ));
        }
        let (indexes, leaves): (Vec<_>, Vec<_>) =
            children.into_iter().partition(|child| self.done.is_index(child));
        let mut tasks = JoinSet::new();
        for leaf in leaves {
            self.make_room(&mut tasks).await?;
            tasks.spawn(self.clone().copy_child(leaf, reached, depth, None));
        }
        let (run, chain) = (self.clone(), chain.clone());
        tasks.spawn(async move {
            for index in indexes {
                run.clone().copy_child(index, reached, depth, Some(chain.clone())).await?;
            }
            Ok(())
        });
        finish(tasks).await
    }

    /// Waits until few enough tasks run that another one may begin.
    async fn make_room(&self, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        while tasks.len() >= self.options.concurrency.max(1) * 2
            && let Some(ended) = tasks.join_next().await
        {
            flatten(ended)?;
        }
        Ok(())
    }

    pub(super) async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let _request = self.limits.request().await;
        let signatures = match self.options.drop_signatures {
            true => Vec::new(),
            false => self.from.signatures(manifest.digest()).await?,
        };
        if !self.to.capabilities().signatures {
            refuse_signatures(&signatures, manifest.digest())?;
        }
        if signatures.is_empty()
            && *when == Precondition::None
            && self.is_there(manifest, tags).await?
        {
            self.count_manifest(manifest, false);
            return Ok(());
        }
        if !self.options.dry_run {
            let written = self.to.put_manifest(manifest, tags, when).await;
            written.map_err(|error| {
                error.context(format!("writing manifest {}", manifest.digest()))
            })?;
            self.to.put_signatures(manifest.digest(), &signatures).await?;
        }
        self.count_manifest(manifest, true);
        Ok(())
    }

    /// Counts and tells what became of a manifest, once: it may be written again to get a tag.
    pub(super) fn count_manifest(&self, manifest: &Manifest, written: bool) {
        let is_news = match lock(&self.counts).manifests.entry(manifest.digest().clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(written);
                true
            }
            hash_map::Entry::Occupied(mut known) => {
                written && !std::mem::replace(known.get_mut(), true)
            }
        };
        match (is_news, written) {
            (true, true) => self.options.tell(&CopyEvent::Written(manifest.descriptor())),
            (true, false) => self.options.tell(&CopyEvent::Skipped(manifest.descriptor())),
            (false, _) => {}
        }
    }

    /// Whether the destination has a manifest, and every tag names it.
    async fn is_there(&self, manifest: &Manifest, tags: &[Tag]) -> Result<bool> {
        let by_digest = [Target::Digest(manifest.digest().clone())];
        let by_tag = tags.iter().cloned().map(Target::Tag);
        for target in by_digest.into_iter().chain(by_tag) {
            match self.to.resolve(&target).await {
                Ok(found) if found.digest == *manifest.digest() => {}
                Ok(_) => return Ok(false),
                Err(error) if error.is_not_found() => return Ok(false),
                // A tag that names several manifests does not name this one; setting it ends that.
                Err(error) if *error.kind() == ErrorKind::Invalid => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn copy_blob(self: &Arc<Self>, blob: &Descriptor) -> Result<()> {
        let request = self.limits.request().await;
        if self.need_not_move(blob).await? {
            self.options.tell(&CopyEvent::Skipped(blob));
            self.count(|counts| counts.skipped += 1);
            return Ok(());
        }
        drop(request);
        let _transfer = self.limits.transfer(blob.size).await;
        if !self.options.dry_run {
            let content = Content::new(self.clone(), blob.clone());
            let sent = match self.mount(blob).await? {
                Mounted::Done => {
                    self.options.tell(&CopyEvent::Mounted(blob));
                    self.count(|counts| counts.mounted += 1);
                    return Ok(());
                }
                Mounted::Upload(staged) => staged.put(blob, &content).await,
                Mounted::No => self.to.put_blob(blob, &content).await,
            };
            match sent {
                // Damaged on its way, or given by a mirror that has something else: it is read once more.
                Err(error) if error.is_other_content() => self.to.put_blob(blob, &content).await?,
                sent => sent?,
            }
        }
        self.options.tell(&CopyEvent::Transferred(blob));
        self.count(|counts| {
            counts.blobs += 1;
            counts.bytes += blob.size;
        });
        Ok(())
    }

    /// Whether a blob is at the destination, or belongs elsewhere.
    async fn need_not_move(&self, blob: &Descriptor) -> Result<bool> {
        match self.to.has_blob(blob).await {
            // Such a layer may lie elsewhere, and its URLs go along in the manifest.
            Ok(false) if blob.may_be_elsewhere() => {
                Ok(self.from.blob_size(&blob.digest).await?.is_none())
            }
            Err(error) if error.code() == Some(&ErrorCode::SizeInvalid) => {
                Err(error.context("the destination has another blob under this digest"))
            }
            found => found,
        }
    }

    async fn mount(&self, blob: &Descriptor) -> Result<Mounted> {
        let sibling = self.options.siblings.as_ref().and_then(|known| known(&blob.digest));
        match sibling.as_ref().or(self.options.mount_from.as_ref()) {
            Some(from) if self.to.capabilities().mount => self.to.mount(blob, Some(from)).await,
            _ => Ok(Mounted::No),
        }
    }

    /// Copies a manifest once, however often it is asked for. Who comes later waits for a leaf that
    /// is being copied, never for an index.
    async fn once(
        &self,
        digest: &Digest,
        is_index: bool,
        copying: impl Future<Output = Result<Outcome>>,
    ) -> Result<()> {
        if !is_index {
            return self.done.leaf(digest).get_or_try_init(|| copying).await.map(|_| ());
        }
        if !self.done.has_index(digest) {
            self.done.add_index(digest.clone(), copying.await?);
        }
        Ok(())
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }
}

/// Waits for all parts; the first error ends the others.
async fn finish(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        flatten(ended)?;
    }
    Ok(())
}

fn flatten(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Internal, "a part of the copy panicked").with_source(error))
    })
}
