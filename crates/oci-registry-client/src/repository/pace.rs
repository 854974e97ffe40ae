//! The pace at which a body comes.

use std::time::Duration;

/// The shortest time of waiting after which a pace is judged.
const MIN_WINDOW: Duration = Duration::from_secs(30);

/// The pace at which a body comes, counted while it is waited for.
pub(super) struct Pace {
    /// The fewest bytes a second, and the time of waiting after which that is judged. `None` for no
    /// limit.
    limit: Option<(u64, Duration)>,
    waited: Duration,
    received: u64,
    slow: bool,
    /// The bytes that have to come before there is progress again.
    owed: u64,
}

impl Pace {
    pub(super) fn new(min_rate: Option<u64>, idle: Option<Duration>) -> Self {
        // Who may be silent for so long may come late.
        let limit = min_rate.zip(idle.map(|idle| idle.max(MIN_WINDOW)));
        Self { limit, waited: Duration::ZERO, received: 0, slow: false, owed: 0 }
    }

    /// Counts a piece.
    pub(super) fn came(&mut self, waited: Duration, bytes: u64) {
        let Some((rate, window)) = self.limit else { return };
        self.waited += waited;
        self.received = self.received.saturating_add(bytes);
        self.owed = self.owed.saturating_sub(bytes);
        if self.waited >= window {
            self.slow = (self.received as f64) < rate as f64 * self.waited.as_secs_f64();
            (self.waited, self.received) = (Duration::ZERO, 0);
        }
    }

    /// Returns the limit once after it was not kept. It has to be kept for a while before what
    /// comes is progress again.
    pub(super) fn take_fault(&mut self) -> Option<u64> {
        let (rate, window) = self.limit.filter(|_| std::mem::take(&mut self.slow))?;
        self.owed = rate.saturating_mul(window.as_secs());
        Some(rate)
    }

    /// Tells whether what came last is progress.
    pub(super) fn is_progress(&self) -> bool {
        self.owed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_body_is_a_fault_and_no_progress() {
        let mut pace = Pace::new(Some(100), Some(20 * SECOND));
        for second in 1..=60 {
            pace.came(SECOND, 100);
            assert_eq!(pace.take_fault(), None, "{second}");
            assert!(pace.is_progress());
        }
        for second in 1..=30 {
            pace.came(SECOND, 99);
            assert_eq!(pace.take_fault().is_some(), second == 30, "{second}");
        }
        pace.came(SECOND, 2999);
        assert!(!pace.is_progress());
        pace.came(SECOND, 1);
        assert!(pace.is_progress());
    }

    #[test]
    fn silence_within_its_limit_is_no_fault() {
        let mut pace = Pace::new(Some(100), Some(120 * SECOND));
        pace.came(119 * SECOND, 1);
        pace.came(SECOND, 20_000);
        assert_eq!(pace.take_fault(), None);
        for (rate, idle) in [(None, Some(SECOND)), (Some(100), None)] {
            let mut pace = Pace::new(rate, idle);
            pace.came(10_000 * SECOND, 1);
            assert_eq!(pace.take_fault(), None);
        }
    }
}
