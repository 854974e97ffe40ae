//! Room that is kept free on the disk, so that what frees room can still be done: the database has
//! to note each deletion.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use oci_ref::{Error, ErrorKind, Result};

use crate::blocking;

/// The time for which a look at the disk is relied on: others write to it, too.
const RELIED_ON: Duration = Duration::from_secs(1);

/// The disk of a directory.
pub(crate) struct Space {
    directory: PathBuf,
    /// The bytes that are kept free.
    reserve: u64,
    known: Mutex<Option<Known>>,
}

/// The outcome of a look at the disk.
struct Known {
    when: Instant,
    /// The bytes that may be written before the next look.
    left: u64,
}

impl Space {
    pub(crate) fn new(directory: PathBuf, reserve: u64) -> Self {
        Self { directory, reserve, known: Mutex::default() }
    }

    /// Sees that the reserve is there when so many bytes more have been written. Looks at the disk
    /// once a second, and when half of what was free has been taken.
    ///
    /// # Errors
    /// [`StorageFull`](ErrorKind::StorageFull) if it is not.
    pub(crate) async fn take(&self, bytes: u64) -> Result<()> {
        if self.reserve == 0 || self.take_known(bytes) {
            return Ok(());
        }
        let directory = self.directory.clone();
        let free = blocking::run(move || {
            let found = rustix::fs::statvfs(&directory).map_err(|error| {
                let message = format!("cannot see how much room {} has", directory.display());
                Error::io(message, error.into())
            })?;
            Ok(found.f_bavail.saturating_mul(found.f_frsize))
        })
        .await?;
        let Some(left) = free.checked_sub(self.reserve.saturating_add(bytes)) else {
            let (directory, reserve) = (self.directory.display(), self.reserve);
            let message = format!(
                "{directory} has {free} bytes free, of which {reserve} are kept free: {bytes} do \
                 not fit"
            );
            return Err(Error::new(ErrorKind::StorageFull, message));
        };
        let known = Known { when: Instant::now(), left: left / 2 };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(())
    }

    /// Takes bytes of what was free at the last look, if that is known to be enough.
    fn take_known(&self, bytes: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_mut().filter(|known| known.when.elapsed() < RELIED_ON);
        let Some(known) = known else { return false };
        match known.left.checked_sub(bytes) {
            Some(left) => {
                known.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_disk_is_looked_at_now_and_then() {
        let directory = tempfile::tempdir().unwrap();
        let space = Space::new(directory.path().to_owned(), 1);
        space.take(1).await.unwrap();
        assert!(space.take_known(1));
        let left = space.known.lock().unwrap().as_ref().unwrap().left;
        assert!(!space.take_known(left + 1), "more than half of it");
        assert!(space.take_known(left) && !space.take_known(1));
        space.take(1).await.unwrap();
        let long_ago = Instant::now().checked_sub(RELIED_ON).unwrap();
        space.known.lock().unwrap().as_mut().unwrap().when = long_ago;
        assert!(!space.take_known(1), "somebody else may have written");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let refused = Space::new(path.clone(), u64::MAX).take(0).await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::StorageFull);
        assert!(refused.message().contains(&*path.to_string_lossy()), "{refused}");
        Space::new(path.clone(), 1).take(u64::MAX).await.unwrap_err();
        Space::new(path, 0).take(u64::MAX).await.unwrap();
        Space::new("/does/not/exist".into(), 1).take(1).await.unwrap_err();
    }
}
