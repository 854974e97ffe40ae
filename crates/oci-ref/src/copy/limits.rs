//! How much happens at a time.
//!
//! The memory of a copy does not depend on the content of the source. Manifests that list nothing
//! (leaves) have places by their bytes; the indexes of a root are a [`Chain`], one after the other,
//! and only one chain at a time has large ones. So nobody waits for ever:
//! - A request, a transfer and a place of bytes are held by who waits for nothing after them.
//! - Who copies a leaf has a place for it, and waits for blobs, which need none.
//! - A chain waits for leaves, also those of another chain: they go on in tasks of their own,
//!   whatever their own chain waits for.
//! - A chain never waits for an index that another one copies: it copies it too, which ends in the
//!   same. So who waits for the place of large chains waits for one that waits for leaves only.

use std::sync::Arc;

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::CopyOptions;
use crate::{DEFAULT_BLOB_LIMIT, LARGE_DOCUMENT};

/// What one permit of the byte budget stands for.
const UNIT: u64 = 64 << 10;

/// The bytes of all images and artifacts whose manifests are held at a time: 8 MiB. In memory one
/// takes some times as much.
const MANIFESTS: u64 = 8 << 20;

/// Bounds on what is under way. Small requests have places of their own, so that large blobs never starve them.
pub(super) struct Limits {
    requests: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    units: u32,
    manifests: Arc<Semaphore>,
    large_chains: Arc<Semaphore>,
}

/// The indexes of one root. They are copied one after the other, and of large ones only the root's
/// bytes are held beside the one that is at work. From the first that is large to its end, this is
/// the only chain that has such.
#[derive(Clone, Default)]
pub(super) struct Chain(Arc<OnceCell<OwnedSemaphorePermit>>);

/// The place of a transfer; it is given back when dropped.
pub(super) struct Transfer(
    #[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2],
);

impl Limits {
    pub(super) fn new(options: &CopyOptions) -> Self {
        let places = options.concurrency.clamp(1, 4096);
        let units = (options.bytes_in_flight / UNIT).clamp(1, u64::from(u32::MAX >> 4));
        let units = u32::try_from(units).unwrap_or(1);
        Self {
            requests: Arc::new(Semaphore::new(places)),
            transfers: Arc::new(Semaphore::new(places)),
            bytes: Arc::new(Semaphore::new(units as usize)),
            units,
            manifests: Arc::new(Semaphore::new((MANIFESTS / UNIT) as usize)),
            large_chains: Arc::new(Semaphore::new(1)),
        }
    }

    /// A place for a small request: a manifest, or a question.
    pub(super) async fn request(&self) -> OwnedSemaphorePermit {
        take(&self.requests, 1).await
    }

    /// A place for a manifest of so many bytes, from before it is read. That of a leaf is held
    /// until it is written, and who has one must not wait for other manifests; that of an index its
    /// chain holds.
    pub(super) async fn manifest(
        &self,
        size: u64,
        chain: Option<&Chain>,
    ) -> Option<OwnedSemaphorePermit> {
        if let Some(Chain(place)) = chain {
            if size > LARGE_DOCUMENT as u64 {
                place.get_or_init(|| take(&self.large_chains, 1)).await;
            }
            return None;
        }
        // Nothing that is larger is read as a manifest.
        let size = if size > DEFAULT_BLOB_LIMIT { 1 } else { size.clamp(1, MANIFESTS) };
        Some(take(&self.manifests, u32::try_from(size.div_ceil(UNIT)).unwrap_or(1)).await)
    }

    /// A place for a blob of so many bytes.
    pub(super) async fn transfer(&self, size: u64) -> Transfer {
        let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let place = take(&self.transfers, 1).await;
        Transfer([place, take(&self.bytes, units.clamp(1, self.units)).await])
    }
}

async fn take(semaphore: &Arc<Semaphore>, count: u32) -> OwnedSemaphorePermit {
    let permit = semaphore.clone().acquire_many_owned(count).await;
    permit.expect("the semaphores of a copy are never closed")
}
