//! Sessions that were named, and that nobody has begun to record or to end since.
//!
//! Most uploads are begun by one request and ended by the next. This process is the only one that uses its data directory, so
//! it knows that the database has nothing about them, without asking it. A session is forgotten here before the transaction
//! that would change that is queued, whatever comes of the transaction: from then on the database is asked.

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

    /// Whether nothing of it can be in the database.
    pub(super) fn contains(&self, id: &SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Forgets one of which something may be in the database soon.
    pub(super) fn remove(&self, id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use oci_spec_types::Digest;

    use super::super::Sqlite;
    use super::*;
    use crate::metadata::{Claimed, Content, Metadata, NewBlob, SessionState};

    /// A push of two requests: the second asks where the upload is, and then goes on with it.
    #[tokio::test]
    async fn an_upload_is_not_looked_up_between_its_two_requests() {
        let data = tempfile::tempdir().unwrap();
        let metadata = Sqlite::open(&data.path().join("db"), false, 0).unwrap();
        let repository = "a/b".parse().unwrap();
        let id = SessionId::fresh().unwrap();
        metadata.session_begun(&id);
        let held_up = metadata.readers.hold_up().await;
        let asked = metadata.session(&repository, &id).now_or_never();
        assert!(matches!(asked, Some(Ok(SessionState::Blank))), "{asked:?}");
        let _claim = metadata.claim_session(&id).await.unwrap().unwrap();
        let asked = metadata.session(&repository, &id).now_or_never();
        assert!(matches!(asked, Some(Ok(SessionState::Blank))), "{asked:?}");
        let blob = NewBlob {
            repository: repository.clone(),
            digest: Digest::sha256(b"content"),
            size: 7,
            content: Content::Inline("content".into()),
            session: Some(Claimed { id: id.clone(), version: None }),
            now: 0,
        };
        metadata.commit_blob(blob).await.unwrap();
        assert!(metadata.session(&repository, &id).now_or_never().is_none(), "it has to be read");
        drop(held_up);
        let asked = metadata.session(&repository, &id).await.unwrap();
        assert!(matches!(asked, SessionState::Closed(Some(_))), "{asked:?}");
    }

    #[test]
    fn a_session_is_remembered_until_it_is_written_to_and_so_many_are() {
        let begun = Begun::default();
        let ids: Vec<_> = (0..=MOST).map(|_| SessionId::fresh().unwrap()).collect();
        assert!(!begun.contains(&ids[0]));
        begun.insert(&ids[0]);
        assert!(begun.contains(&ids[0]));
        assert!(begun.contains(&ids[0]), "asking changes nothing");
        begun.remove(&ids[0]);
        assert!(!begun.contains(&ids[0]));
        ids.iter().for_each(|id| begun.insert(id));
        assert!(begun.0.lock().unwrap().len() <= MOST);
        assert!(begun.contains(&ids[MOST]), "the last one is remembered");
    }
}
