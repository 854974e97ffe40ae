//! Objects: bytes under opaque keys. What they are, and who owns them, only the metadata knows.
#![cfg_attr(not(feature = "clouds"), allow(dead_code, reason = "files need only some of it"))]

#[cfg(feature = "clouds")]
mod cloud;
mod files;
mod read;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Body, Result};
use oci_spec_types::Hasher;
use tokio::task::spawn_blocking;

use crate::blocking;

#[cfg(feature = "clouds")]
pub(crate) use cloud::Cloud;
pub(crate) use files::{Files, sync_directory};

/// The name of one object: random, so that nothing about its content or owner can be read from it, and so that no
/// key is ever used twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey(Box<str>);

impl ObjectKey {
    /// Length in hexadecimal digits.
    const LENGTH: usize = 32;

    /// A key that nobody has.
    pub(crate) fn fresh() -> Result<Self> {
        let random: [u8; Self::LENGTH / 2] = crate::random::bytes()?;
        Ok(Self(hex::encode(random).into()))
    }

    /// A key that was stored. `None` if it cannot be one, so that no path is ever made of anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == Self::LENGTH && text.bytes().all(digit)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where objects lie.
///
/// The metadata knows of a key before the first byte is written under it, and forgets it after the object is deleted, so
/// that after a crash every object is one that the metadata names.
#[async_trait]
pub(crate) trait Objects: Send + Sync + 'static {
    /// Begins an empty object under a fresh key.
    async fn create(
        &self,
        key: &ObjectKey,
        journal: Arc<dyn Journal>,
    ) -> Result<Box<dyn ObjectWrite>>;

    /// Goes on with an object that was suspended after its first `offset` bytes. What lies behind is dropped; it is an
    /// error if there are fewer.
    async fn reopen(
        &self,
        key: &ObjectKey,
        offset: u64,
        state: Bytes,
    ) -> Result<Box<dyn ObjectWrite>>;

    /// The bytes in `range` of a finished object, which must all be there. Memory is bounded by a constant number of chunks.
    async fn open(&self, key: &ObjectKey, range: Range<u64>) -> Result<Body>;

    /// Deletes an object, lastingly, and what was written of one that was not finished, for which there is a state. One that
    /// is not there is no error.
    async fn delete(&self, key: &ObjectKey, state: Option<Bytes>) -> Result<()>;

    /// The smallest chunk, in bytes, that a suspended upload takes without keeping bytes aside, if there is such.
    fn min_chunk(&self) -> Option<u64> {
        None
    }

    /// A URL under which anybody can read a finished object for so long. `None` if there are none here.
    async fn url(&self, _key: &ObjectKey, _lifetime: Duration) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether two that write to one unfinished object could harm each other's bytes. If not, one of them fails.
    fn must_fork(&self) -> bool;

    /// How many bytes an object has. `None` if it is not there.
    async fn size(&self, key: &ObjectKey) -> Result<Option<u64>>;

    /// At least one and about `limit` keys of objects that are there, greater than `after` and in order; none if there are no more.
    /// What comes or goes meanwhile may be in it or not.
    async fn list(&self, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectKey>>;
}

/// An object that is being written. After a failed append, it can only be rewound.
#[async_trait]
pub(crate) trait ObjectWrite: Send + Sync {
    /// Writes bytes at the end.
    async fn append(&mut self, bytes: Bytes) -> Result<()>;

    /// The same, and hashes them.
    async fn append_hashed(&mut self, bytes: Bytes, mut hasher: Hasher) -> Result<Hasher> {
        let content = bytes.clone();
        let hashing = spawn_blocking(move || {
            hasher.update(&content);
            hasher
        });
        let written = self.append(bytes).await;
        let hasher = hashing.await.map_err(blocking::stopped)?;
        written.map(|()| hasher)
    }

    /// Ends the object: all that was written, and its name, survive a power cut from now on.
    async fn finish(&mut self) -> Result<Finished>;

    /// Makes all that was written survive a power cut, to go on later.
    async fn suspend(&mut self) -> Result<Suspended>;

    /// Drops all but the first `offset` bytes, where it was suspended before. `false` if that cannot be done any more: nobody can
    /// go on with it.
    async fn rewind(&mut self, offset: u64) -> Result<bool>;
}

/// How an object has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It is what was written.
    Surely,
    /// It is there, and it has as many bytes as were written. Whether it is those, only reading them tells.
    Perhaps,
}

/// What has to be kept of a suspended object.
#[derive(Debug)]
pub(crate) enum Suspended {
    /// A state for [`Objects::reopen`], which may be empty.
    Object(Bytes),
    /// All that was written: there is no object yet.
    Content(Bytes),
}

/// Where a writer notes what is needed to delete bytes before it writes them.
#[async_trait]
pub(crate) trait Journal: Send + Sync {
    /// Returns when it is durable.
    async fn note(&self, key: &ObjectKey, state: Bytes) -> Result<()>;
}
