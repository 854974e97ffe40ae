//! The state of a connection: sending the head of a request, having one answered, or nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The state of one connection, as those see it who read, answer, and may have to end it.
pub(crate) struct Activity {
    phase: Mutex<Phase>,
    /// The peer has sent something, at some time.
    heard: AtomicBool,
    /// The peer has not taken yet what is being sent to it.
    sending: AtomicBool,
    /// The last request that has begun is one of an upload.
    uploads: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A head is expected, of which something has come or which is the first, since then.
    Head(Instant),
    /// A request is being answered.
    Busy,
    /// Nothing has been asked since then.
    Idle(Instant),
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Head(Instant::now())),
            heard: AtomicBool::new(false),
            sending: AtomicBool::new(false),
            uploads: AtomicBool::new(false),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Nothing can panic while it is locked.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has come from the peer.
    pub(crate) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
        let mut phase = self.phase();
        if matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(Instant::now());
        }
    }

    /// Tells whether the peer has ever sent anything.
    pub(crate) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// The head of a request has come, which may be one of an upload.
    pub(crate) fn begin(&self, uploads: bool) {
        self.uploads.store(uploads, Ordering::Relaxed);
        *self.phase() = Phase::Busy;
    }

    /// Tells whether the last request is one of an upload, whose body can be large.
    pub(crate) fn uploads(&self) -> bool {
        self.uploads.load(Ordering::Relaxed)
    }

    /// The answer has been given to whoever sends it.
    pub(crate) fn end(&self) {
        *self.phase() = Phase::Idle(Instant::now());
    }

    /// Notes whether the peer keeps us waiting with what is being sent to it.
    pub(crate) fn sending(&self, sending: bool) {
        self.sending.store(sending, Ordering::Relaxed);
        let mut phase = self.phase();
        if matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Idle(Instant::now());
        }
    }

    /// Since when no request is being answered on it; none if one is, or if its answer is still
    /// being sent.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        match *self.phase() {
            _ if self.sending.load(Ordering::Relaxed) => None,
            Phase::Head(since) | Phase::Idle(since) => Some(since),
            Phase::Busy => None,
        }
    }

    /// When it is to be ended, unless something happens before: each phase has a limit.
    pub(crate) fn deadline(&self, head: Duration, idle: Duration) -> Option<Instant> {
        let (since, limit) = match *self.phase() {
            _ if self.sending.load(Ordering::Relaxed) => return None,
            Phase::Head(since) => (since, head),
            Phase::Idle(since) => (since, idle),
            Phase::Busy => return None,
        };
        since.checked_add(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn heads_and_silence_have_limits_of_their_own() {
        let (activity, start) = (Activity::new(), Instant::now());
        let left = || activity.deadline(HEAD, IDLE).map(|end| end.duration_since(start).as_secs());
        assert_eq!((left(), activity.heard()), (Some(30), false));
        tokio::time::advance(Duration::from_secs(20)).await;
        activity.hear();
        assert_eq!(left(), Some(30), "the first head began with the connection");
        activity.begin(false);
        assert_eq!((left(), activity.idle_since()), (None, None));
        tokio::time::advance(Duration::from_secs(80)).await;
        activity.hear();
        activity.end();
        assert_eq!(left(), Some(175));
        tokio::time::advance(Duration::from_secs(70)).await;
        activity.hear();
        activity.hear();
        assert_eq!(left(), Some(200), "it has begun to ask again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_reads_is_not_idle() {
        let activity = Activity::new();
        activity.begin(false);
        activity.end();
        activity.sending(true);
        tokio::time::advance(IDLE * 2).await;
        assert_eq!((activity.deadline(HEAD, IDLE), activity.idle_since()), (None, None));
        activity.sending(false);
        assert_eq!(activity.idle_since(), Some(Instant::now()));
    }
}
