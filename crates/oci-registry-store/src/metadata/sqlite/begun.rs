//! Sessions that were named and not asked for since.
//!
//! Most uploads are begun by one request and ended by the next. This process is the only one that uses its data directory, so
//! it knows that nothing can be recorded of them, without asking the database.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::upload::SessionId;

/// How many are remembered.
const MOST: usize = 4096;

#[derive(Default)]
pub(super) struct Begun(Mutex<HashSet<SessionId>>);

impl Begun {
    /// Remembers a session, and may forget others: the database knows them, too.
    pub(super) fn insert(&self, id: &SessionId) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() >= MOST {
            begun.clear();
        }
        begun.insert(id.clone());
    }

    /// Whether it is remembered, and forgets it: whoever asks may write to it next.
    pub(super) fn take(&self, id: &SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_new_once_and_so_many_are_remembered() {
        let begun = Begun::default();
        let ids: Vec<_> = (0..=MOST).map(|_| SessionId::fresh().unwrap()).collect();
        assert!(!begun.take(&ids[0]));
        begun.insert(&ids[0]);
        assert!(begun.take(&ids[0]));
        assert!(!begun.take(&ids[0]));
        ids.iter().for_each(|id| begun.insert(id));
        assert!(begun.0.lock().unwrap().len() <= MOST);
        assert!(begun.take(&ids[MOST]), "the last one is remembered");
    }
}
