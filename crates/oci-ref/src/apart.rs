//! Work over large documents, apart from the threads on which requests are answered.
//!
//! To parse megabytes takes long enough for others to notice, and what comes of it can be many
//! times as large. So it is done where it holds nobody up, and by a few at a time, whoever asks for
//! it.

use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

use crate::{Error, ErrorKind, Result};

/// The most bytes of a document that is worked on where it is: 64 KiB, which is well under a
/// millisecond.
pub const LARGE_DOCUMENT: usize = 64 << 10;

/// The most large documents that are worked on at a time. At least one processor is left to others,
/// where there are several.
static SLOTS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(at_once())));

fn at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    (processors / 2).clamp(1, 4)
}

/// Runs work over a document of so many bytes, such as parsing or hashing it. If there are more
/// than [`LARGE_DOCUMENT`], it runs on a thread for blocking work, of a tokio runtime, after that
/// of others: half as many at a time as there are processors, from one to four, in the whole
/// process. Work that has begun runs to its end even if nobody waits for it any longer.
///
/// # Errors
/// Those of the work, and `Internal` if it panics or the runtime ends.
pub async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes <= LARGE_DOCUMENT {
        return work();
    }
    let stopped = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Internal, "the work on a document was stopped before its end")
            .with_source(error)
    };
    let slot = SLOTS.clone().acquire_owned().await.map_err(|error| stopped(error.into()))?;
    let work = move || {
        let done = work();
        drop(slot);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| stopped(error.into()))?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_is_small_stays_on_its_thread_and_what_is_large_does_not() {
        let here = std::thread::current().id();
        let thread = || Ok(std::thread::current().id());
        assert_eq!(apart(LARGE_DOCUMENT, thread).await.unwrap(), here);
        assert_ne!(apart(LARGE_DOCUMENT + 1, thread).await.unwrap(), here);
    }

    #[tokio::test]
    async fn few_run_at_a_time_and_a_panic_frees_its_place() {
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(0)));
        let work = |number: usize| {
            let (running, peak) = (running.clone(), peak.clone());
            apart(usize::MAX, move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                let mut highest = peak.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                *highest = now.max(*highest);
                drop(highest);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                assert!(number.is_multiple_of(2), "every other one panics");
                Ok(())
            })
        };
        let done = futures_util::future::join_all((0..50).map(work)).await;
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 25);
        assert!((1..=at_once()).contains(&peak.lock().unwrap()));
    }
}
