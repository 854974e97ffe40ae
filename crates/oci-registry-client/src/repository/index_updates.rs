//! Changes of lists of referrers that wait for one another, so that one write makes several, and
//! none is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_spec_types::{Descriptor, Digest};

/// The most lists that are remembered.
const MAX_KNOWN: usize = 1000;

/// A change of a list of referrers.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(Box<Descriptor>),
    Remove(Digest),
}

impl Change {
    /// The referrer that is listed, or is no more.
    pub(super) fn referrer(&self) -> &Digest {
        match self {
            Self::Add(entry) => &entry.digest,
            Self::Remove(digest) => digest,
        }
    }
}

/// Makes changes in order, and says whether there was anything to change.
pub(super) fn apply(listed: &mut Vec<Descriptor>, changes: &[Change]) -> bool {
    let before = listed.clone();
    for change in changes {
        match change {
            Change::Add(entry) => {
                match listed.iter_mut().find(|found| found.digest == entry.digest) {
                    Some(found) => *found = (**entry).clone(),
                    None => listed.push((**entry).clone()),
                }
            }
            Change::Remove(digest) => listed.retain(|found| found.digest != *digest),
        }
    }
    *listed != before
}

/// The changes that this client is about to make, by the tag of the list.
#[derive(Default)]
pub(crate) struct IndexUpdates {
    queues: Mutex<HashMap<String, Arc<Queue>>>,
    /// The digests of what is known to be a list: it was written here, or its entries were looked
    /// at.
    known: Mutex<HashMap<String, Digest>>,
}

impl IndexUpdates {
    pub(super) fn queue(&self, key: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        queues.entry(key.to_owned()).or_default().clone()
    }

    /// Remembers what a tag names as a list.
    pub(super) fn remember(&self, key: &str, list: &Digest) {
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key.to_owned(), list.clone());
    }

    pub(super) fn is_known(&self, key: &str, list: &Digest) -> bool {
        self.known().get(key) == Some(list)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes that wait for the one that is under way; all of them are then made by one write.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Vec<(u64, Change)>>,
    /// Held by who writes.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Counts the changes, so that each has a number.
    count: AtomicU64,
}

impl Queue {
    /// Puts a change at the end. It waits until it is taken or its place is given up.
    pub(super) fn push(&self, change: Change) -> Place<'_> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.waiting().push((number, change));
        Place { queue: self, number }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, Change)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change's place in the queue. Who gives up waiting takes the change back.
pub(super) struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl<'a> Place<'a> {
    /// Takes all that waits, to write it; `None` if another has written this change as well.
    pub(super) fn take(&self) -> Option<Taken<'a>> {
        let mut waiting = self.queue.waiting();
        let waits = waiting.iter().any(|(number, _)| *number == self.number);
        waits.then(|| Taken {
            queue: self.queue,
            own: self.number,
            changes: std::mem::take(&mut *waiting),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting().retain(|(number, _)| *number != self.number);
    }
}

/// Changes taken out of the queue to be written. Those of others go back unless they were: they try
/// for themselves.
pub(super) struct Taken<'a> {
    queue: &'a Queue,
    own: u64,
    changes: Vec<(u64, Change)>,
}

impl Taken<'_> {
    pub(super) fn changes(&self) -> Vec<Change> {
        self.changes.iter().map(|(_, change)| change.clone()).collect()
    }

    /// All of them are in the list that was written.
    pub(super) fn written(mut self) {
        self.changes.clear();
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let own = self.own;
        let others = self.changes.drain(..).filter(|(number, _)| *number != own);
        self.queue.waiting().splice(0..0, others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(text: &str) -> Change {
        Change::Remove(Digest::sha256(text.as_bytes()))
    }

    fn waiting(queue: &Queue) -> Vec<Digest> {
        queue.waiting().iter().map(|(_, change)| change.referrer().clone()).collect()
    }

    // covers: O17
    #[test]
    fn what_is_not_written_goes_back_but_for_the_own_change() {
        let queue = Queue::default();
        let (first, second) = (queue.push(remove("a")), queue.push(remove("b")));
        let taken = first.take().unwrap();
        let third = queue.push(remove("c"));
        assert_eq!(waiting(&queue), [Digest::sha256(b"c")]);
        drop(taken);
        assert_eq!(
            waiting(&queue),
            ["b", "c"].map(|text| Digest::sha256(text.as_bytes())),
            "in their order"
        );

        second.take().unwrap().written();
        assert!(third.take().is_none(), "another has written it");
        assert!(waiting(&queue).is_empty());
        let fourth = queue.push(remove("d"));
        drop(fourth);
        assert!(waiting(&queue).is_empty(), "nobody waits for it any more");
    }

    #[test]
    fn a_known_list_is_forgotten_for_another() {
        let updates = IndexUpdates::default();
        let lists = ["a", "b"].map(|text| Digest::sha256(text.as_bytes()));
        updates.remember("key", &lists[0]);
        assert!(updates.is_known("key", &lists[0]) && !updates.is_known("other", &lists[0]));
        updates.remember("key", &lists[1]);
        assert!(updates.is_known("key", &lists[1]) && !updates.is_known("key", &lists[0]));
    }
}
