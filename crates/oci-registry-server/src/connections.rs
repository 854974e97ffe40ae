//! The connections that are open, and which of them ends for a new one when there are as many as
//! there may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::activity::Activity;

/// The open connections of a server.
#[derive(Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
    /// Somebody waits for a place.
    wanted: AtomicBool,
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Entry>,
}

struct Entry {
    activity: Arc<Activity>,
    end: Arc<Notify>,
    /// It has been told to end.
    ending: bool,
}

impl Connections {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change under the lock is complete before anything can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, which has a place.
    pub(crate) fn add(
        self: &Arc<Self>,
        activity: &Arc<Activity>,
        place: OwnedSemaphorePermit,
    ) -> Open {
        let end = Arc::new(Notify::new());
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let entry = Entry { activity: activity.clone(), end: end.clone(), ending: false };
        table.open.insert(number, entry);
        drop(table);
        // It is idle until it is asked for something.
        self.change();
        Open { connections: Arc::clone(self), number, end, place: Some(place) }
    }

    /// Notes whether somebody waits for a place.
    pub(crate) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Tells the connection to end that has been idle longest, if any is, and none is about to end
    /// already.
    pub(crate) fn end_idlest(&self) {
        let mut table = self.table();
        let ends = |entry: &Entry| entry.ending && entry.activity.idle_since().is_some();
        if table.open.values().any(ends) {
            return;
        }
        let idle = table.open.values_mut().filter(|entry| !entry.ending);
        let idle = idle.filter_map(|entry| Some((entry.activity.idle_since()?, entry)));
        if let Some((_, entry)) = idle.min_by_key(|(since, _)| *since) {
            entry.ending = true;
            entry.end.notify_one();
        }
    }

    /// Waits until another connection may be told to end, since one has become idle.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Tells who waits that a connection has become idle, or does not end after all.
    pub(crate) fn change(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }
}

/// An open connection, until it is dropped.
pub(crate) struct Open {
    connections: Arc<Connections>,
    number: u64,
    end: Arc<Notify>,
    place: Option<OwnedSemaphorePermit>,
}

impl Open {
    /// Waits until it is to end for another one.
    pub(crate) async fn end(&self) {
        self.end.notified().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The place first: as long as the connection is known, no other one is told to end for it.
        self.place = None;
        self.connections.table().open.remove(&self.number);
        // Who came in between has told none to end, and waits.
        self.connections.change();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    /// Idle connections, of which one ends for each new one. Each waits for one that has ended, or
    /// for the news that none ends any more.
    #[tokio::test]
    async fn who_waits_hears_of_each_end() {
        let connections = Arc::new(Connections::default());
        let places = Arc::new(Semaphore::new(2));
        let add = || {
            let place = places.clone().try_acquire_owned().unwrap();
            connections.add(&Arc::new(Activity::new()), place)
        };
        let (first, second) = (add(), add());
        connections.want(true);
        connections.end_idlest();
        assert_eq!(first.end().now_or_never(), Some(()), "it has been idle longest");
        connections.end_idlest();
        assert_eq!(second.end().now_or_never(), None, "one is enough");
        assert_eq!(connections.changed().now_or_never(), None);
        drop(first);
        assert_eq!(places.available_permits(), 1);
        assert_eq!(connections.changed().now_or_never(), Some(()));
        let third = add();
        assert_eq!(connections.changed().now_or_never(), Some(()), "it is idle");
        connections.end_idlest();
        assert_eq!(second.end().now_or_never(), Some(()));
        drop((second, third));
    }
}
