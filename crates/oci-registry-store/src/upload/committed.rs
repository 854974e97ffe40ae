//! Uploads that were committed not long ago, for clients who have not heard of it.
//!
//! It is kept in memory, since a client asks again within seconds: another server, or one that was
//! started since, does not know, and the client has to begin anew.

use oci_spec_types::Digest;
use quick_cache::sync::Cache;

use super::SessionId;

/// The most that are remembered: 2 MiB.
const REMEMBERED: usize = 10_000;

/// The digests as which sessions ended.
pub(crate) struct Committed(Cache<SessionId, Digest>);

impl Default for Committed {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Committed {
    pub(crate) fn insert(&self, id: SessionId, digest: &Digest) {
        self.0.insert(id, digest.clone());
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<Digest> {
        self.0.get(id)
    }
}
