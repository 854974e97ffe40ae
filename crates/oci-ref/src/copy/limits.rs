//! How much happens at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CopyOptions;
use crate::DEFAULT_BLOB_LIMIT;

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
}

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
        }
    }

    /// A place for a small request: a manifest, or a question.
    pub(super) async fn request(&self) -> OwnedSemaphorePermit {
        take(&self.requests, 1).await
    }

    /// A place for the manifest of an image or artifact of so many bytes, from before it is read until
    /// it is written. Who has one must not wait for other manifests.
    pub(super) async fn manifest(&self, size: u64) -> OwnedSemaphorePermit {
        // Nothing that is larger is read as a manifest.
        let size = if size > DEFAULT_BLOB_LIMIT { 1 } else { size.clamp(1, MANIFESTS) };
        take(&self.manifests, u32::try_from(size.div_ceil(UNIT)).unwrap_or(1)).await
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
