//! The work that a copy has done: each digest once, however many manifests reference it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use oci_spec_types::{Descriptor, Digest};
use tokio::sync::OnceCell;

use crate::LARGE_DOCUMENT;

/// The outcome of copying a manifest that an index lists, or that refers to another.
pub(super) enum Outcome {
    /// It is there as it was, or need not be.
    Same,
    /// It is another now.
    Became(Box<Descriptor>),
    /// It lists others, which its type did not tell. Nothing of it has been copied.
    Lists,
}

/// Finished work by digest: of blobs, of manifests that list nothing (leaves), and of those
/// that list others (indexes). A digest may be wanted as a blob by one manifest and as a manifest
/// by another; a store keeps the two apart.
#[derive(Default)]
pub(super) struct Done {
    blobs: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    leaves: Mutex<HashMap<Digest, Arc<OnceCell<Outcome>>>>,
    /// Only what is finished: nobody waits for an index that another chain copies.
    indexes: Mutex<HashMap<Digest, Outcome>>,
}

impl Done {
    /// The place of a blob; who comes later waits there for the first.
    pub(super) fn blob(&self, digest: &Digest) -> Arc<OnceCell<()>> {
        lock(&self.blobs).entry(digest.clone()).or_default().clone()
    }

    /// The place of a leaf; who comes later waits there for the first.
    pub(super) fn leaf(&self, digest: &Digest) -> Arc<OnceCell<Outcome>> {
        lock(&self.leaves).entry(digest.clone()).or_default().clone()
    }

    pub(super) fn has_index(&self, digest: &Digest) -> bool {
        lock(&self.indexes).contains_key(digest)
    }

    pub(super) fn add_index(&self, digest: Digest, outcome: Outcome) {
        lock(&self.indexes).insert(digest, outcome);
    }

    /// Returns the descriptor of an entry that became another manifest.
    pub(super) fn became(&self, digest: &Digest) -> Option<Descriptor> {
        let now = |outcome: &Outcome| match outcome {
            Outcome::Became(now) => Some(Descriptor::clone(now)),
            Outcome::Same | Outcome::Lists => None,
        };
        let index = lock(&self.indexes).get(digest).and_then(now);
        index.or_else(|| lock(&self.leaves).get(digest)?.get().and_then(now))
    }

    /// Tells that an entry lists others: by its type, or since it has been read.
    pub(super) fn is_index(&self, entry: &Descriptor) -> bool {
        let leaves = lock(&self.leaves);
        let read = leaves.get(&entry.digest).and_then(|leaf| leaf.get());
        entry.media_type.is_index() || matches!(read, Some(Outcome::Lists))
    }

    /// The entries that are to be copied next, of those that have not been.
    pub(super) fn next<'a>(
        &self,
        entries: impl Iterator<Item = &'a Descriptor>,
    ) -> Vec<Descriptor> {
        first(entries.filter(|entry| !self.has(entry)))
    }

    fn has(&self, entry: &Descriptor) -> bool {
        let is_leaf = || {
            let leaves = lock(&self.leaves);
            let leaf = leaves.get(&entry.digest).and_then(|leaf| leaf.get());
            leaf.is_some_and(|leaf| !matches!(leaf, Outcome::Lists))
        };
        self.has_index(&entry.digest) || !entry.media_type.is_index() && is_leaf()
    }
}

/// The first of the entries: no more than a small index lists, or one.
pub(super) fn first<'a>(entries: impl Iterator<Item = &'a Descriptor>) -> Vec<Descriptor> {
    let mut weight = 0;
    let fits = |entry: &&Descriptor| {
        let is_first = weight == 0;
        weight += serde_json::to_vec(entry).map_or(LARGE_DOCUMENT, |text| text.len());
        is_first || weight <= LARGE_DOCUMENT
    };
    entries.take_while(fits).cloned().collect()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can leave the data half changed.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
