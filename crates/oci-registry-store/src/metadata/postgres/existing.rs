//! Repositories that were there a moment ago.
//!
//! Every read begins with the question whether its repository exists, and then asks the database for what it is about. The
//! first answer only decides which error a reader gets, so it may be a moment old.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oci_spec_types::Name;

/// How long an answer is good.
const MOMENT: Duration = Duration::from_secs(1);

/// How many are kept.
const MOST: usize = 10_000;

#[derive(Default)]
pub(super) struct Existing(Mutex<HashMap<Name, Instant>>);

impl Existing {
    pub(super) fn contains(&self, name: &Name) -> bool {
        self.lock().get(name).is_some_and(|seen| seen.elapsed() < MOMENT)
    }

    /// Notes one that was there when it was asked for, at `asked`.
    pub(super) fn insert(&self, name: &Name, asked: Instant) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, seen| seen.elapsed() < MOMENT);
        }
        if known.len() < MOST {
            known.insert(name.clone(), asked);
        }
    }

    /// Forgets all, since this process has just removed something.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
