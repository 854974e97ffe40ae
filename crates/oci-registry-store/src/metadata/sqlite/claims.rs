//! Who is writing to which session.
//!
//! This process is the only one that uses its data directory, so a claim lives in memory and ends with its holder,
//! however that ends. The version in a session's record catches whatever this would miss.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metadata::{Claim, Release};
use crate::upload::SessionId;

/// The sessions that are being written.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<SessionId>>>);

struct Held {
    claims: Claims,
    id: SessionId,
}

impl Claims {
    /// Claims a session. `None` if somebody else is writing to it.
    pub(super) fn claim(&self, id: &SessionId) -> Option<Claim> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = || Held { claims: self.clone(), id: id.clone() };
        claimed.insert(id.clone()).then(|| Claim::new(false, Box::new(held())))
    }
}

impl Release for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
