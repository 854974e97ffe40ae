//! Who is writing to which session.
//!
//! This process is the only one that uses its data directory, so a claim lives in memory and ends with its holder,
//! however that ends. The version in a session's record catches whatever this would miss.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::SessionId;

/// The sessions that are being written.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<HashSet<SessionId>>>);

/// The right to write to a session, until it is dropped.
pub(crate) struct Claim {
    claims: Claims,
    id: SessionId,
}

impl Claims {
    /// Claims a session. `None` if somebody else is writing to it.
    pub(crate) fn claim(&self, id: &SessionId) -> Option<Claim> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(id.clone()).then(|| Claim { claims: self.clone(), id: id.clone() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
