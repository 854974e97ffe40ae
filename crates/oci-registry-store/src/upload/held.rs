//! The room that unfinished uploads take: they are bounded in number and in bytes.
//!
//! What is recorded of uploads the database counts, for all processes that share it; what this
//! process is writing beyond that is counted here. Since counting costs a query, it is done when
//! what has begun since the last time could be too much, and now and then: whoever pushes pays
//! nothing for it.

use std::ops::{Add, AddAssign, SubAssign};
use std::sync::{Arc, Mutex, PoisonError};

use oci_ref::{Error, ErrorKind, Result};

use crate::metadata::Metadata;

/// Unfinished uploads, and their bytes on the disk, in a bucket or in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) uploads: u64,
    pub(crate) bytes: u64,
}

impl Held {
    fn fits(self, most: Self) -> bool {
        self.uploads <= most.uploads && self.bytes <= most.bytes
    }

    fn max(self, other: Self) -> Self {
        Self { uploads: self.uploads.max(other.uploads), bytes: self.bytes.max(other.bytes) }
    }
}

impl Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            uploads: self.uploads.saturating_add(other.uploads),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Held {
    fn sub_assign(&mut self, other: Self) {
        self.uploads = self.uploads.saturating_sub(other.uploads);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// The account of what all unfinished uploads hold.
pub(crate) struct OpenUploads {
    most: Held,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    /// The part that this process is writing, beyond what is recorded.
    written: Held,
    /// The sum when it was counted, and all that has been begun since.
    at_most: Held,
}

impl OpenUploads {
    pub(crate) fn new(most: Held) -> Arc<Self> {
        Arc::new(Self { most, now: Mutex::default() })
    }

    /// Counts what there is.
    pub(crate) async fn count(&self, metadata: &dyn Metadata) -> Result<()> {
        self.count_and(metadata, |_| ()).await
    }

    async fn count_and<T>(
        &self,
        metadata: &dyn Metadata,
        then: impl FnOnce(&mut Now) -> T,
    ) -> Result<T> {
        let before = self.with(|now| now.written);
        let recorded = metadata.held_by_uploads().await?;
        Ok(self.with(|now| {
            // What was being written then may have been recorded since, and the other way round.
            now.at_most = recorded + before.max(now.written);
            then(now)
        }))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Now) -> T) -> T {
        work(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The part that one upload holds, beyond what is recorded of it, until this is dropped.
pub(crate) struct Share {
    all: Arc<OpenUploads>,
    held: Held,
}

impl Share {
    /// Lets an upload begin to hold bytes. One of which something is recorded does so already.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there are too many, or they hold too much.
    pub(crate) async fn begin(
        all: &Arc<OpenUploads>,
        metadata: &dyn Metadata,
        is_recorded: bool,
    ) -> Result<Self> {
        let mut share = Self { all: Arc::clone(all), held: Held::default() };
        let one = Held { uploads: u64::from(!is_recorded), bytes: 0 };
        share.more(metadata, one).await?;
        Ok(share)
    }

    /// Lets it hold so many bytes more.
    ///
    /// # Errors
    /// The same as of [`begin`](Self::begin).
    pub(crate) async fn grow(&mut self, metadata: &dyn Metadata, bytes: u64) -> Result<()> {
        self.more(metadata, Held { uploads: 0, bytes }).await
    }

    async fn more(&mut self, metadata: &dyn Metadata, more: Held) -> Result<()> {
        let (all, most) = (Arc::clone(&self.all), self.all.most);
        let held = &mut self.held;
        let mut take = |now: &mut Now| {
            let fits = (now.at_most + more).fits(most);
            if fits {
                now.at_most += more;
                now.written += more;
                *held += more;
            }
            fits
        };
        if all.with(&mut take) || all.count_and(metadata, take).await? {
            return Ok(());
        }
        let there = all.with(|now| now.at_most);
        let message = format!(
            "{} unfinished uploads hold {} bytes, and may be {} and hold {}",
            there.uploads, there.bytes, most.uploads, most.bytes
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.with(|now| now.written -= self.held);
    }
}
