//! The memory that large manifests take while they come, are stored, and go out.
//!
//! A manifest of up to 64 KiB does not count: a connection may buffer more than that by itself.
//! What is larger draws from one budget, whoever it is for, so that memory does not grow with the
//! number of clients who are slow. When none is left for what is received, the slowest is given up.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_ref::LARGE_DOCUMENT;
use oci_spec_types::ErrorCode;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::ServerOptions;
use crate::error::Failure;

/// The bytes that a permit stands for.
const UNIT: u64 = 1 << 10;

/// The most large manifests that are parsed, or on their way into the engine, at a time: a
/// document can be many times as large when it is parsed.
const STORED_AT_ONCE: usize = 2;

/// The most large manifests that are read from the engine at a time.
const READ_AT_ONCE: usize = 2;

/// The time that a large manifest may take in any case.
const PATIENCE: Duration = Duration::from_secs(5);

/// The budget of a router.
pub(crate) struct Budget {
    /// For what is received. What goes out has its own half, so that slow readers do not keep
    /// others from pushing.
    received: Arc<Incoming>,
    sent: Arc<Semaphore>,
    stored: Arc<Semaphore>,
    read: Semaphore,
}

impl Budget {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        // There must be room for one.
        let half = (options.manifest_memory / 2).max(options.max_manifest_bytes);
        let units = half.div_ceil(UNIT).min(Semaphore::MAX_PERMITS as u64) as usize;
        Self {
            received: Arc::new(Incoming {
                left: Arc::new(Semaphore::new(units)),
                bodies: Mutex::default(),
            }),
            sent: Arc::new(Semaphore::new(units)),
            stored: Arc::new(Semaphore::new(STORED_AT_ONCE)),
            read: Semaphore::new(READ_AT_ONCE),
        }
    }

    /// A share for a body that is received.
    pub(crate) fn receive(&self) -> Received {
        Received { incoming: self.received.clone(), share: None, body: None }
    }

    /// A share of up to so many bytes for what is sent, and how many it is for: at most half of
    /// what is left, so that some is always left, and at least 64 KiB, which needs none.
    pub(crate) fn send(&self, wanted: u64) -> (u64, Option<OwnedSemaphorePermit>) {
        let least = LARGE_DOCUMENT as u64;
        let left = self.sent.available_permits() as u64 / 2 * UNIT;
        let length = wanted.min(left).max(least.min(wanted));
        if length <= least {
            return (length, None);
        }
        match self.sent.clone().try_acquire_many_owned(units(length)) {
            Ok(share) => (length, Some(share)),
            // Somebody else was quicker.
            Err(_) => (least, None),
        }
    }

    /// A turn to parse and store a manifest of so many bytes. One that is not large needs none.
    pub(crate) async fn store(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= LARGE_DOCUMENT {
            return None;
        }
        // Nobody closes it.
        self.stored.clone().acquire_owned().await.ok()
    }

    /// A turn to read a large manifest whole.
    pub(crate) async fn read(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.read.acquire().await.ok()
    }
}

/// The large bodies that are being received.
struct Incoming {
    left: Arc<Semaphore>,
    bodies: Mutex<Bodies>,
}

#[derive(Default)]
struct Bodies {
    next: u64,
    open: HashMap<u64, Body>,
}

struct Body {
    since: Instant,
    bytes: usize,
    end: Arc<Notify>,
}

impl Incoming {
    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        // Every change under the lock is complete before anything can panic.
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the body up that has come most slowly, of those that have had some time.
    fn end_slowest(&self) {
        let bodies = self.bodies();
        let old = bodies.open.values().filter(|body| body.since.elapsed() >= PATIENCE);
        let pace =
            |body: &&Body| body.bytes as u128 * 1000 / body.since.elapsed().as_millis().max(1);
        if let Some(body) = old.min_by_key(pace) {
            body.end.notify_one();
        }
    }
}

/// The share of the budget of a body that is received.
pub(crate) struct Received {
    incoming: Arc<Incoming>,
    share: Option<OwnedSemaphorePermit>,
    /// Its number, once it is large, and what tells that it is given up.
    body: Option<(u64, Arc<Notify>)>,
}

impl Received {
    /// Sees that there is room for so many bytes in all. The one that has most already waits for it
    /// for a while, so that of many who come at the same time some get through.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes <= LARGE_DOCUMENT {
            return Ok(());
        }
        let has = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = units(bytes as u64).saturating_sub(u32::try_from(has).unwrap_or(u32::MAX));
        if more > 0 {
            let left = &self.incoming.left;
            let more = match left.clone().try_acquire_many_owned(more) {
                Ok(more) => more,
                Err(_) => {
                    self.incoming.end_slowest();
                    if !self.is_ahead() {
                        return Err(busy());
                    }
                    let waited = timeout(PATIENCE, left.clone().acquire_many_owned(more)).await;
                    waited.ok().and_then(Result::ok).ok_or_else(busy)?
                }
            };
            match &mut self.share {
                Some(share) => share.merge(more),
                None => self.share = Some(more),
            }
        }
        self.note(bytes);
        Ok(())
    }

    /// Tells whether no other body that is still coming has more bytes.
    fn is_ahead(&self) -> bool {
        let bodies = self.incoming.bodies();
        let own = self.body.as_ref().and_then(|(number, _)| bodies.open.get(number));
        let own = own.map_or(0, |body| body.bytes);
        bodies.open.values().all(|body| body.bytes <= own)
    }

    fn note(&mut self, bytes: usize) {
        let mut bodies = self.incoming.bodies();
        if let Some((number, _)) = &self.body {
            if let Some(body) = bodies.open.get_mut(number) {
                body.bytes = bytes;
            }
            return;
        }
        let (number, end) = (bodies.next, Arc::new(Notify::new()));
        bodies.next += 1;
        bodies.open.insert(number, Body { since: Instant::now(), bytes, end: end.clone() });
        self.body = Some((number, end));
    }

    /// Waits until it is given up for others, and says so.
    pub(crate) async fn given_up(&self) -> Failure {
        match &self.body {
            Some((_, end)) => end.notified().await,
            None => pending().await,
        }
        busy()
    }

    /// All of it has come. From now on it is not given up any more.
    pub(crate) fn complete(&mut self) {
        if let Some((number, _)) = self.body.take() {
            self.incoming.bodies().open.remove(&number);
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.complete();
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// The refusal of a push that can be done again soon, and not now.
fn busy() -> Failure {
    let message = "there is no memory left for large manifests";
    Failure::new(ErrorCode::TooManyRequests, message)
        .with_status(http::StatusCode::SERVICE_UNAVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn budget(mib: u64) -> Budget {
        Budget::new(&ServerOptions::new().manifest_memory(mib << 20).max_manifest_bytes(1 << 20))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_received_is_counted_as_it_comes() {
        let budget = budget(4);
        let (mut one, mut two) = (budget.receive(), budget.receive());
        for bytes in [1, LARGE_DOCUMENT, LARGE_DOCUMENT + 1, MIB / 2, MIB] {
            one.grow(bytes).await.unwrap();
        }
        two.grow(MIB).await.unwrap();
        assert_eq!(budget.received.left.available_permits(), 0);
        let mut third = budget.receive();
        third.grow(LARGE_DOCUMENT).await.unwrap();
        let refused = third.grow(LARGE_DOCUMENT + 1).await.unwrap_err();
        assert_eq!(refused.status, 503);
        assert!(refused.headers.iter().any(|(name, _)| name == http::header::RETRY_AFTER));
        drop(one);
        third.grow(MIB).await.unwrap();
        assert!(two.grow(MIB + 1).await.is_err());
    }

    #[tokio::test]
    async fn what_is_sent_leaves_something_to_others_and_never_stands_still() {
        let budget = budget(16);
        assert_eq!(budget.send(100).0, 100);
        let mut shares = Vec::new();
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let (length, share) = budget.send(4 << 20);
            lengths.push(length);
            shares.push(share);
        }
        assert_eq!(lengths[..4], [4 << 20, 2 << 20, 1 << 20, 512 << 10]);
        assert_eq!(lengths[11], LARGE_DOCUMENT as u64);
        // Slow readers do not keep others from pushing.
        budget.receive().grow(MIB).await.unwrap();
        drop(shares);
        assert_eq!(budget.send(4 << 20).0, 4 << 20);
    }

    // Many who push at the same time, and try again at once, would refuse each other for ever.
    #[tokio::test]
    async fn the_one_that_has_come_furthest_gets_what_others_give_back() {
        let budget = budget(2);
        let (mut first, mut second) = (budget.receive(), budget.receive());
        first.grow(MIB / 2).await.unwrap();
        second.grow(MIB / 4).await.unwrap();
        let mut waits = Box::pin(first.grow(MIB));
        assert!(futures_util::FutureExt::now_or_never(&mut waits).is_none());
        assert!(second.grow(MIB / 2 + 1).await.is_err());
        drop(second);
        let mut third = budget.receive();
        assert!(third.grow(MIB / 4).await.is_err(), "what was given back is taken");
        waits.await.unwrap();
    }

    // Somebody sends a byte now and then, and would keep all others out for hours.
    #[tokio::test(start_paused = true)]
    async fn the_slowest_is_given_up_when_there_is_no_room() {
        let budget = budget(4);
        let (mut slow, mut fast, mut other) =
            (budget.receive(), budget.receive(), budget.receive());
        slow.grow(MIB / 4).await.unwrap();
        fast.grow(MIB / 2).await.unwrap();
        assert!(other.grow(3 * MIB).await.is_err());
        let is_given_up = |body: &Received| {
            let given_up = std::pin::pin!(body.given_up());
            futures_util::FutureExt::now_or_never(given_up).is_some()
        };
        assert!(!is_given_up(&slow) && !is_given_up(&fast), "they have just begun");
        tokio::time::advance(PATIENCE).await;
        slow.grow(MIB / 4 + 1).await.unwrap();
        fast.grow(MIB).await.unwrap();
        assert!(other.grow(3 * MIB).await.is_err());
        assert!(is_given_up(&slow) && !is_given_up(&fast));
        drop(slow);
        fast.complete();
        assert!(other.grow(3 * MIB).await.is_err());
        assert!(!is_given_up(&fast), "it has come");
        assert!(budget.received.bodies().open.is_empty());
    }

    #[tokio::test]
    async fn there_is_room_for_one_manifest_whatever_is_configured() {
        budget(0).receive().grow(MIB).await.unwrap();
    }
}
