//! The engine: metadata, objects, and what lives in memory beside them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Error, ErrorKind, Result};
use tokio::sync::{Mutex, RwLock, watch};

use crate::blocking;
use crate::buffers::{Buffers, LARGE};
use crate::cache::ManifestCache;
use crate::directory::DataDirectory;
use crate::metadata::{Metadata, Sqlite};
use crate::objects::{Files, Journal, ObjectKey, Objects};
use crate::options::EngineOptions;
use crate::space::Space;
use crate::upgrade;
use crate::upload::{self, Held, OpenUploads, SessionId, Tokens, idle_since, seconds};

/// How many bytes of memory all that is on its way between connections and files may take together, before everybody has to do
/// with little at a time: 20 MiB.
const MEMORY: usize = 20 << 20;

/// How many rows are looked at in one step of cleaning up.
const STEP: usize = 1000;

/// How many objects are remembered that could not be deleted. The next start finds the rest.
const MOST_LEFT: usize = 10_000;

/// Everything that repositories and uploads share. The fields are dropped in this order: the directory is given free after
/// the database is closed.
pub(crate) struct Engine {
    pub(crate) metadata: Box<dyn Metadata>,
    pub(crate) objects: Box<dyn Objects>,
    pub(crate) manifests: ManifestCache,
    pub(crate) upload_buffers: Buffers,
    pub(crate) open_uploads: Arc<OpenUploads>,
    pub(crate) tokens: Tokens,
    space: Space,
    /// True if objects are files beside the database.
    in_files: bool,
    pub(crate) options: EngineOptions,
    /// Objects that nobody owns and that could not be deleted.
    left: std::sync::Mutex<Vec<ObjectKey>>,
    /// Held by the one collection that runs.
    pub(crate) collecting: Mutex<()>,
    /// Held by the one check that runs.
    pub(crate) checking: Mutex<()>,
    /// Read by whoever deletes objects that were a blob's. Written by whoever needs all of them to stay.
    pub(crate) deletions: RwLock<()>,
    _directory: DataDirectory,
    closed: watch::Sender<()>,
}

impl Engine {
    pub(crate) async fn open(path: &Path, options: EngineOptions) -> Result<Arc<Self>> {
        Self::open_with(path, options, |files| Box::new(files)).await
    }

    /// Opens a directory whose files are reached through something else.
    async fn open_with(
        path: &Path,
        options: EngineOptions,
        through: impl FnOnce(Files) -> Box<dyn Objects>,
    ) -> Result<Arc<Self>> {
        // First of all, so that nothing has been changed if it is not what it should be.
        let bucket = bucket::open(&options).await?;
        let (path, sync, create): (PathBuf, bool, bool) =
            (path.into(), options.sync, options.create);
        let cache = options.cache / 2;
        let buffers = Buffers::new(MEMORY, LARGE);
        let upload_buffers = upload::buffers(&buffers, bucket.is_some());
        let shared = options.database.connect(&options).await?;
        let (directory, metadata, objects) = blocking::run(move || {
            let (directory, metadata) = match shared {
                Some(metadata) => (DataDirectory::open_shared(&path)?, metadata),
                None => {
                    let directory = match create {
                        true => DataDirectory::open(&path),
                        false => DataDirectory::open_existing(&path),
                    }?;
                    let sqlite = Sqlite::open(&directory.database(), sync, cache)?;
                    (directory, Box::new(sqlite) as Box<dyn Metadata>)
                }
            };
            let objects = Files::open(directory.objects(), sync, &buffers)?;
            directory.complete()?;
            Ok((directory, metadata, objects))
        })
        .await?;
        check_storage(&*metadata, &options).await?;
        upgrade::record_references(&*metadata, (options.clock)()).await?;
        let secret = metadata.session_secret(crate::random::bytes()?).await?;
        let most = Held { uploads: options.max_uploads, bytes: options.upload_space };
        let engine = Arc::new(Self {
            metadata,
            in_files: bucket.is_none(),
            objects: bucket.unwrap_or_else(|| through(objects)),
            manifests: ManifestCache::new(options.cache / 2),
            upload_buffers,
            open_uploads: OpenUploads::new(most),
            tokens: Tokens::new(secret),
            space: Space::new(directory.path().to_owned(), options.min_free_space),
            options,
            left: std::sync::Mutex::default(),
            collecting: Mutex::default(),
            checking: Mutex::default(),
            deletions: RwLock::default(),
            _directory: directory,
            closed: watch::Sender::new(()),
        });
        engine.delete_strays().await?;
        engine.end_sessions(idle_since(engine.options.session_idle)).await?;
        engine.open_uploads.count(&*engine.metadata).await?;
        Ok(engine)
    }

    /// The time by which candidates and deletions are counted.
    pub(crate) fn now(&self) -> i64 {
        (self.options.clock)()
    }

    /// What nothing references, and has been a candidate since before this time, is renewed before anybody relies on it.
    pub(crate) fn stale_before(&self, now: i64) -> i64 {
        now.saturating_sub(seconds(self.options.grace / 2))
    }

    /// When the object of a blob that goes now may be deleted.
    pub(crate) fn delete_after(&self, now: i64) -> i64 {
        now.saturating_add(seconds(self.options.longest_read))
    }

    /// Sees that there is room for so many more bytes of an object. None is needed here if it lies
    /// in a bucket.
    pub(crate) async fn room_for_object(&self, bytes: u64) -> Result<()> {
        if self.in_files { self.space.take(bytes).await } else { Ok(()) }
    }

    /// Sees that there is room for so many more bytes in the database. None is needed here if it is
    /// on a server.
    pub(crate) async fn room_for_row(&self, bytes: u64) -> Result<()> {
        if self.metadata.is_shared() { Ok(()) } else { self.space.take(bytes).await }
    }

    /// Resolves when the engine has been closed.
    pub(crate) fn closed(&self) -> watch::Receiver<()> {
        self.closed.subscribe()
    }

    /// Deletes an object that nobody owns. If that fails, a sweep tries again, or the next start.
    pub(crate) async fn discard(&self, key: &ObjectKey) {
        if let Err(error) = self.try_discard(key).await {
            tracing::warn!(%key, %error, "an unused object could not be deleted; it is tried again later");
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.len() < MOST_LEFT {
                left.push(key.clone());
            }
        }
    }

    /// Tries again what could not be deleted.
    async fn discard_left(&self) {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for key in left {
            self.discard(&key).await;
        }
    }

    async fn try_discard(&self, key: &ObjectKey) -> Result<()> {
        // A commit that failed may yet have reached the disk. After this one, it has not.
        if self.metadata.condemn_object(key).await? {
            self.delete(key).await?;
            self.metadata.forget_objects(std::slice::from_ref(key)).await?;
        }
        Ok(())
    }

    /// Deletes a condemned object, whatever there is of it.
    pub(crate) async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let state = self.metadata.object_state(key).await?;
        self.objects.delete(key, state).await
    }

    /// Deletes what uploads left behind when the process ended in the middle of them.
    async fn delete_strays(&self) -> Result<()> {
        let mut last = None;
        loop {
            let strays = self.metadata.stray_objects(last.as_ref(), STEP).await?;
            for key in &strays {
                self.discard(key).await;
            }
            last = strays.into_iter().next_back();
            if last.is_none() {
                return Ok(());
            }
        }
    }

    /// Ends the sessions that nobody has gone on with for so long, however many there are, and
    /// tells how many. No time at all means all of them.
    pub(crate) async fn end_uploads(&self, idle: Duration) -> Result<u64> {
        let (before, mut ended) = (rested_since(idle), 0);
        loop {
            match self.end_sessions(before).await? {
                0 => return Ok(ended),
                more => ended += more,
            }
        }
    }

    /// Counts the sessions that [`end_uploads`](Self::end_uploads) would end now.
    pub(crate) async fn uploads_to_end(&self, idle: Duration) -> Result<u64> {
        let found = self.metadata.idle_sessions(rested_since(idle), usize::MAX).await?;
        Ok(found.len() as u64)
    }

    /// Ends some sessions that nobody has gone on with since this time, and tells how many. What is
    /// being written is not idle.
    async fn end_sessions(&self, before: i64) -> Result<u64> {
        let mut ended = 0;
        for session in self.metadata.idle_sessions(before, STEP).await? {
            let Some(_claim) = self.metadata.claim_session(&session.id).await? else { continue };
            match self.metadata.close_session(session).await {
                Ok(key) => {
                    ended += 1;
                    if let Some(key) = key {
                        self.discard(&key).await;
                    }
                }
                // Somebody has gone on with it, or ended it, since it was listed.
                Err(error) => tracing::debug!(%error, "an idle upload was not closed"),
            }
        }
        Ok(ended)
    }

    /// Expires sessions, and forgets those whose tokens have expired.
    pub(crate) async fn sweep(&self) -> Result<()> {
        self.discard_left().await;
        if self.metadata.is_shared() {
            // Those of other processes that have ended.
            self.delete_strays().await?;
        }
        self.end_sessions(idle_since(self.options.session_idle)).await?;
        // What others have begun is not known otherwise.
        self.open_uploads.count(&*self.metadata).await?;
        let expired = SessionId::made_before(self.options.session_idle);
        while self.metadata.forget_closed_sessions(&expired, STEP).await? == STEP {}
        Ok(())
    }
}

/// Sessions that were last written before this have rested for so long, in seconds since 1970.
fn rested_since(idle: Duration) -> i64 {
    // Also what was written in this second.
    if idle.is_zero() { i64::MAX } else { idle_since(idle) }
}

/// Sees that the storage is the one that the metadata is about. In any other all content would seem to be lost, and a check would
/// mend that.
async fn check_storage(metadata: &dyn Metadata, options: &EngineOptions) -> Result<()> {
    const SETTING: &str = "storage";
    let given = options.storage.to_string();
    match metadata.setting(SETTING).await? {
        Some(known) if known == given.as_bytes() => Ok(()),
        Some(known) if !options.storage_moved => {
            let known = String::from_utf8_lossy(&known).into_owned();
            let message =
                format!("the content of this registry lies in storage {known}, not in {given}");
            Err(Error::new(ErrorKind::Invalid, message))
        }
        _ => metadata.set_setting(SETTING, Some(given.into_bytes())).await,
    }
}

#[async_trait]
impl Journal for Engine {
    async fn note(&self, key: &ObjectKey, state: Bytes) -> Result<()> {
        self.metadata.note_object(key, state).await
    }
}

#[cfg(feature = "clouds")]
mod bucket {
    use oci_ref::Result;

    use crate::objects::{Cloud, Objects};
    use crate::options::EngineOptions;

    /// The bucket that is to be used, unless objects are files.
    pub(super) async fn open(options: &EngineOptions) -> Result<Option<Box<dyn Objects>>> {
        let cloud = Cloud::open(options).await?;
        Ok(cloud.map(|cloud| Box::new(cloud) as Box<dyn Objects>))
    }
}

#[cfg(not(feature = "clouds"))]
mod bucket {
    use oci_ref::{Error, Result};

    use crate::objects::Objects;
    use crate::options::EngineOptions;
    use crate::storage::Place;

    pub(super) async fn open(options: &EngineOptions) -> Result<Option<Box<dyn Objects>>> {
        match options.storage.place {
            Place::Files => Ok(None),
            _ => {
                let storage = &options.storage;
                let message = format!(
                    "storage {storage} needs the feature `clouds`, which was left out of this build"
                );
                Err(Error::unsupported(message))
            }
        }
    }
}

#[cfg(test)]
mod full_disk;
