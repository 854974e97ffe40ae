//! Manifests that were read recently, within a fixed number of bytes.

use std::hash::Hash;

use oci_ref::Manifest;
use oci_spec_types::Descriptor;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::weight;

/// What a manifest takes at least, besides what is known of it.
const OVERHEAD: usize = 256;

/// What a manifest takes on average.
const TYPICAL: usize = 8 << 10;

/// Parsed manifests, by digest and media type. Who may see which is not decided here.
pub(crate) struct ManifestCache(Cache<Key, Manifest, Cost>);

impl ManifestCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Cache::with_weighter(limit / TYPICAL, limit as u64, Cost))
    }

    pub(crate) fn get(&self, descriptor: &Descriptor) -> Option<Manifest> {
        self.0.get(&(descriptor.digest.as_str(), descriptor.media_type.as_str()))
    }

    pub(crate) fn insert(&self, manifest: &Manifest) {
        let descriptor = manifest.descriptor();
        let key = Key {
            digest: descriptor.digest.as_str().into(),
            media_type: descriptor.media_type.as_str().into(),
        };
        self.0.insert(key, manifest.clone());
    }
}

#[derive(PartialEq, Eq)]
struct Key {
    digest: Box<str>,
    media_type: Box<str>,
}

impl Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&*self.digest, &*self.media_type).hash(state);
    }
}

impl Equivalent<Key> for (&str, &str) {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == &*key.digest && self.1 == &*key.media_type
    }
}

/// The bytes, and what they parse into.
#[derive(Clone)]
struct Cost;

impl Weighter<Key, Manifest> for Cost {
    fn weight(&self, key: &Key, manifest: &Manifest) -> u64 {
        let key = weight::text(&key.digest) + weight::text(&key.media_type);
        (OVERHEAD + key + weight::manifest(manifest)) as u64
    }
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
    fn memory_is_bounded() {
        const LIMIT: usize = 256 << 10;
        let cache = ManifestCache::new(LIMIT);
        let all: Vec<Manifest> = (0..1000).map(manifest).collect();
        for manifest in &all {
            cache.insert(manifest);
        }
        assert!(cache.0.weight() <= LIMIT as u64);
        let kept = all.iter().filter(|manifest| cache.get(manifest.descriptor()).is_some());
        assert!(kept.count() > 50);
    }

    #[test]
    fn no_room_keeps_nothing() {
        let cache = ManifestCache::new(0);
        cache.insert(&manifest(0));
        assert!(cache.get(manifest(0).descriptor()).is_none());
    }
}
