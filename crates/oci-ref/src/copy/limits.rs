//! How much happens at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CopyOptions;

/// What one permit of the byte budget stands for.
const UNIT: u64 = 64 << 10;

/// Bounds on what is under way. Small requests have places of their own, so that large blobs never starve them.
pub(super) struct Limits {
    requests: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    units: u32,
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
        }
    }

    /// A place for a small request: a manifest, or a question.
    pub(super) async fn request(&self) -> OwnedSemaphorePermit {
        take(&self.requests, 1).await
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
