//! What was found recently, for as long as it cannot have changed.
//!
//! This process is the only one that writes (the data directory is locked), and one thread of it does, so it knows when
//! an answer stops being true. Every transaction that ends, committed or not, is counted. A reader notes the count before it
//! reads. A transaction that may change what is found in a repository says so before it commits: from then on only what
//! was read after its end counts. Nobody is told that it has committed before that.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_ref::{Cursor, Page};
use oci_spec_types::{Descriptor, Name};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::metadata::{BlobRecord, BlobSize, Content};
use crate::weight;

/// Repositories share so many marks. Two of them that share one forget for each other, which costs a read.
const MARKS: usize = 1024;

/// What an entry takes besides what is in it.
const OVERHEAD: usize = 96;

/// How many bytes an entry for a manifest's name takes on average.
const DESCRIBED: usize = 512;

/// Transactions that have ended before a reader began.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

/// What keeps content from being collected: something that was a candidate last at this time, in seconds since 1970, or a
/// reference. A change that could shorten it changes what is found in the repository. A renewal, or a collector that has found
/// it held by something else, makes it longer, which may be learned later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held(i64);

impl Held {
    /// By a reference or a tag.
    pub(super) const FAST: Self = Self(i64::MAX);

    /// By being a candidate since this time.
    pub(super) fn since(time: i64) -> Self {
        Self(time)
    }

    /// Whether it is not to be relied on without a renewal.
    pub(super) fn is_stale(self, before: i64) -> bool {
        self.0 < before
    }
}

/// What is told of a blob whose size and hold are known.
pub(super) fn blob_size((size, held): (u64, Held), stale_before: i64) -> BlobSize {
    BlobSize { size, stale: held.is_stale(stale_before) }
}

pub(super) struct Recent {
    ended: AtomicU64,
    /// By repository: what was read before so many transactions had ended is not true any more.
    marks: Box<[AtomicU64]>,
    hasher: RandomState,
    /// Repositories that exist, under the empty name.
    pub(super) repositories: Kept<()>,
    /// What tags and digests of manifests stand for.
    pub(super) manifests: Kept<Descriptor>,
    /// What holds manifests.
    pub(super) holds: Kept<Held>,
    /// How large blobs are, and what holds them.
    pub(super) sizes: Kept<(u64, Held)>,
    /// Blobs that lie in the database, and where others lie.
    pub(super) blobs: Kept<BlobRecord>,
    /// Pages of referrers.
    pub(super) referrers: Kept<Arc<Page<Descriptor>>>,
}

impl Recent {
    /// Keeps about so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            ended: AtomicU64::new(0),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            repositories: Kept::new(bytes / 16),
            manifests: Kept::new(bytes / 4),
            holds: Kept::new(bytes / 16),
            sizes: Kept::new(bytes / 8),
            blobs: Kept::new(bytes / 8 * 3),
            referrers: Kept::new(bytes / 8),
        }
    }

    /// To be called before reading.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.ended.load(Ordering::Acquire))
    }

    /// To be called within a transaction that may change what is found in a repository, by the thread that writes.
    pub(super) fn changing(&self, repository: &Name) {
        self.mark(repository).store(self.next(), Ordering::SeqCst);
    }

    /// The same for a transaction that may change any repository.
    pub(super) fn changing_all(&self) {
        for mark in &self.marks {
            mark.store(self.next(), Ordering::SeqCst);
        }
    }

    /// To be called after a transaction, before anybody is answered, by the thread that writes.
    pub(super) fn end_transaction(&self) {
        self.ended.fetch_add(1, Ordering::Release);
    }

    fn next(&self) -> u64 {
        self.ended.load(Ordering::Relaxed) + 1
    }

    fn mark(&self, repository: &Name) -> &AtomicU64 {
        // At most MARKS - 1.
        &self.marks[(self.hasher.hash_one(repository) % MARKS as u64) as usize]
    }

    /// What is kept under a name of a repository, if it is still true.
    pub(super) fn get<T: Clone + Weigh>(
        &self,
        kept: &Kept<T>,
        repository: &Name,
        name: &str,
    ) -> Option<T> {
        let (read, found) = kept.0.get(&(repository.as_str(), name))?;
        (read.0 >= self.mark(repository).load(Ordering::SeqCst)).then_some(found)
    }
}

/// Found content by repository and name, each with the moment before it was read.
pub(super) struct Kept<T: Clone + Weigh>(Cache<Key, (Moment, T), Bytes>);

impl<T: Clone + Weigh> Kept<T> {
    fn new(bytes: usize) -> Self {
        Self(Cache::with_weighter(bytes / DESCRIBED, bytes as u64, Bytes))
    }

    pub(super) fn insert(&self, read: Moment, repository: &Name, name: &str, found: T) {
        let key = Key { repository: repository.as_str().into(), name: name.into() };
        self.0.insert(key, (read, found));
    }
}

#[derive(PartialEq, Eq)]
struct Key {
    repository: Box<str>,
    name: Box<str>,
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&*self.repository, &*self.name).hash(state);
    }
}

impl Equivalent<Key> for (&str, &str) {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == &*key.repository && self.1 == &*key.name
    }
}

#[derive(Clone)]
struct Bytes;

impl<T: Clone + Weigh> Weighter<Key, (Moment, T)> for Bytes {
    fn weight(&self, key: &Key, found: &(Moment, T)) -> u64 {
        let key_bytes = weight::text(&key.repository) + weight::text(&key.name);
        (OVERHEAD + size_of_val(key) + size_of_val(found) + key_bytes + found.1.weight()) as u64
    }
}

/// How many bytes a value keeps in memory, besides itself.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for () {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Held {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for (u64, Held) {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Descriptor {
    fn weight(&self) -> usize {
        weight::descriptor(self)
    }
}

impl Weigh for Arc<Page<Descriptor>> {
    fn weight(&self) -> usize {
        let next = match &self.next {
            Some(Cursor::After(position) | Cursor::Opaque(position)) => weight::text(position),
            None => 0,
        };
        size_of::<Page<Descriptor>>() + weight::descriptors(&self.items) + next
    }
}

impl Weigh for BlobRecord {
    fn weight(&self) -> usize {
        match &self.content {
            Content::Inline(data) => data.len(),
            Content::Object(key) => key.as_str().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec_types::MediaType;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn described(text: &[u8]) -> Descriptor {
        Descriptor::of(MediaType::OCTET_STREAM, text)
    }

    #[test]
    fn what_was_read_before_a_change_is_not_found_any_more() {
        let recent = Recent::new(1 << 20);
        let team = name("team/app");
        let mut others = (0..).map(|n| name(&format!("other{n}")));
        let apart = |other: &Name| !std::ptr::eq(recent.mark(other), recent.mark(&team));
        let other = others.find(apart).unwrap();
        let find = |repository: &Name| recent.get(&recent.manifests, repository, "v1");
        let early = recent.moment();
        recent.manifests.insert(early, &team, "v1", described(b"old"));
        recent.manifests.insert(early, &other, "v1", described(b"other"));
        assert_eq!(find(&team), Some(described(b"old")));

        recent.changing(&team);
        assert_eq!(find(&team), None, "it may be committed from now on");
        // Read while the transaction was open: whether before its end or after, nobody knows.
        recent.manifests.insert(recent.moment(), &team, "v1", described(b"old"));
        recent.end_transaction();
        assert_eq!(find(&team), None);
        recent.manifests.insert(early, &team, "v1", described(b"old"));
        assert_eq!(find(&team), None, "a slow reader brings nothing back");

        recent.manifests.insert(recent.moment(), &team, "v1", described(b"new"));
        assert_eq!(find(&team), Some(described(b"new")));
        assert_eq!(find(&other), Some(described(b"other")));
        recent.changing_all();
        recent.end_transaction();
        assert_eq!((find(&team), find(&other)), (None, None));
    }

    #[test]
    fn names_of_different_repositories_are_different() {
        let recent = Recent::new(1 << 20);
        recent.manifests.insert(recent.moment(), &name("a/b"), "c", described(b"1"));
        assert_eq!(recent.get(&recent.manifests, &name("a"), "b/c"), None);
    }

    #[test]
    fn memory_is_bounded() {
        let recent = Recent::new(1 << 20);
        let data = bytes::Bytes::from(vec![0; 4096]);
        for n in 0..1000 {
            let content = Content::Inline(data.clone());
            let record = BlobRecord { size: 4096, content };
            recent.blobs.insert(recent.moment(), &name("a"), &format!("{n}"), record);
        }
        assert!(recent.blobs.0.weight() <= 1 << 20);
        assert!(recent.blobs.0.len() > 50);
    }

    /// Whoever pushes decides how long a type is, and how many tags name it.
    #[test]
    fn long_types_are_counted_for_each_name_that_has_one() {
        const LONG: usize = 4000;
        let recent = Recent::new(1 << 20);
        let typed = Descriptor { artifact_type: Some("x".repeat(LONG)), ..described(b"typed") };
        let page = Page { items: vec![typed.clone()], next: None };
        for n in 0..1000 {
            let (team, name) = (name("a"), format!("{n}"));
            recent.manifests.insert(recent.moment(), &team, &name, typed.clone());
            recent.referrers.insert(recent.moment(), &team, &name, Arc::new(page.clone()));
        }
        let kept = (recent.manifests.0.len(), recent.referrers.0.len());
        assert!((1..=(1 << 18) / LONG).contains(&kept.0), "{kept:?}");
        assert!((1..=(1 << 17) / LONG).contains(&kept.1), "{kept:?}");
    }
}
