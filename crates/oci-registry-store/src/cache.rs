//! Manifests that were read or stored recently, within a fixed number of bytes.

use bytes::Bytes;
use oci_spec_types::Digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::weight;

/// The bytes that a manifest takes besides its own and its digest's.
const OVERHEAD: usize = 128;

/// What a manifest takes on average.
const TYPICAL: usize = 2 << 10;

/// The bytes of manifests, verified, by their digests. Who may see which is not decided here.
pub(crate) struct ManifestCache(Cache<Digest, Bytes, Cost>);

impl ManifestCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Cache::with_weighter(limit / TYPICAL, limit as u64, Cost))
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.0.get(digest)
    }

    pub(crate) fn insert(&self, digest: &Digest, bytes: &Bytes) {
        self.0.insert(digest.clone(), bytes.clone());
    }
}

#[derive(Clone)]
struct Cost;

impl Weighter<Digest, Bytes> for Cost {
    fn weight(&self, digest: &Digest, bytes: &Bytes) -> u64 {
        (OVERHEAD + weight::text(digest.as_str()) + bytes.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(number: usize) -> (Digest, Bytes) {
        let bytes = Bytes::from(format!(r#"{{"schemaVersion":2,"n":"{number:01000}"}}"#));
        (Digest::sha256(&bytes), bytes)
    }

    #[test]
    fn memory_is_bounded() {
        const LIMIT: usize = 256 << 10;
        let cache = ManifestCache::new(LIMIT);
        let all: Vec<_> = (0..1000).map(manifest).collect();
        for (digest, bytes) in &all {
            cache.insert(digest, bytes);
        }
        assert!(cache.0.weight() <= LIMIT as u64);
        let kept = all.iter().filter(|(digest, bytes)| cache.get(digest).as_ref() == Some(bytes));
        assert!(kept.count() > 50);
    }

    #[test]
    fn no_room_keeps_nothing() {
        let cache = ManifestCache::new(0);
        let (digest, bytes) = manifest(0);
        cache.insert(&digest, &bytes);
        assert!(cache.get(&digest).is_none());
    }
}
