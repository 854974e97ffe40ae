//! Manifests that were read recently, within a fixed number of bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci_ref::Manifest;
use oci_spec_types::Descriptor;

/// What a manifest takes at least, besides its bytes.
const OVERHEAD: usize = 1024;

/// Parsed manifests, by digest and media type. Who may see which is not decided here.
pub(crate) struct ManifestCache {
    limit: usize,
    state: Mutex<State>,
}

/// Digest and media type.
type Key = (Box<str>, Box<str>);

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// When each was last used, the oldest first.
    order: BTreeMap<u64, Key>,
    clock: u64,
    used: usize,
}

struct Entry {
    manifest: Manifest,
    used_at: u64,
}

impl ManifestCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    pub(crate) fn get(&self, descriptor: &Descriptor) -> Option<Manifest> {
        let mut state = self.lock();
        let state = &mut *state;
        let key = key(descriptor);
        let entry = state.entries.get_mut(&key)?;
        state.clock += 1;
        state.order.remove(&entry.used_at);
        state.order.insert(state.clock, key);
        entry.used_at = state.clock;
        Some(entry.manifest.clone())
    }

    pub(crate) fn insert(&self, manifest: &Manifest) {
        let cost = cost(manifest);
        // One manifest must not drive out all others.
        if cost > self.limit / 2 {
            return;
        }
        let mut state = self.lock();
        let state = &mut *state;
        let key = key(manifest.descriptor());
        state.remove(&key);
        while state.used + cost > self.limit {
            let Some(oldest) = state.order.first_entry().map(|oldest| oldest.get().clone()) else {
                return;
            };
            state.remove(&oldest);
        }
        state.clock += 1;
        state.used += cost;
        state.order.insert(state.clock, key.clone());
        state.entries.insert(key, Entry { manifest: manifest.clone(), used_at: state.clock });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.used_at);
            self.used -= cost(&entry.manifest);
        }
    }
}

fn key(descriptor: &Descriptor) -> Key {
    (descriptor.digest.as_str().into(), descriptor.media_type.as_str().into())
}

/// The bytes, and about three times as much for what they parse into.
fn cost(manifest: &Manifest) -> usize {
    manifest.bytes().len().saturating_mul(4).saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(number: usize) -> Manifest {
        let json = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{{"n":"{number:04}"}}}}"#
        );
        Manifest::parse(json.into(), None, None).unwrap()
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let all: Vec<Manifest> = (0..5).map(manifest).collect();
        let cache = ManifestCache::new(3 * cost(&all[0]));
        for manifest in &all[..3] {
            cache.insert(manifest);
        }
        assert!(cache.get(all[0].descriptor()).is_some());
        cache.insert(&all[3]);
        let here = |n: usize| cache.get(all[n].descriptor()).is_some();
        assert_eq!([0, 1, 2, 3, 4].map(here), [true, false, true, true, false]);
        cache.insert(&all[3]);
        assert_eq!(cache.lock().used, 3 * cost(&all[0]));
        assert_eq!(cache.lock().order.len(), 3);
    }

    #[test]
    fn no_room_keeps_nothing() {
        let cache = ManifestCache::new(0);
        cache.insert(&manifest(0));
        assert!(cache.get(manifest(0).descriptor()).is_none());
        assert_eq!(cache.lock().used, 0);
    }
}
