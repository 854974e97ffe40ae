//! A copy of everything, as of one moment, while the registry goes on.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_ref::{Error, ErrorKind, Result};
use tokio::sync::Mutex;

use crate::blocking;
use crate::buffers::{Buffers, LARGE};
use crate::directory::DataDirectory;
use crate::engine::Engine;
use crate::metadata::{Content, Metadata, Sqlite, StoredBlob};
use crate::objects::{Files, Journal, ObjectKey, Objects};
use crate::verify::{Pace, verify};

/// How many files are copied at a time.
const COPIES: usize = 4;

/// How many blobs are listed at a time.
const PAGE: usize = 100;

/// What a backup has copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupReport {
    /// Blobs, those in the database as well as those in files.
    pub blobs: u64,
    /// Files.
    pub objects: u64,
    /// The bytes of those files.
    pub bytes: u64,
}

pub(crate) async fn run(
    engine: &Engine,
    to: &Path,
    progress: &(dyn Fn(&BackupReport) + Send + Sync),
) -> Result<BackupReport> {
    if engine.metadata.is_shared() {
        return Err(Error::unsupported(
            "a registry on a database server is backed up in two steps: first the database (by pg_dump, for example), then its storage; docs/replicas.md has them",
        ));
    }
    let path = to.to_owned();
    let directory = blocking::run(move || DataDirectory::create(&path)).await?;
    // Until this is dropped, what the database names now stays.
    let _all_stay = engine.deletions.write().await;
    engine.metadata.back_up(&directory.database()).await?;
    let (database, place) = (directory.database(), directory.objects());
    let (metadata, objects) = blocking::run(move || {
        let metadata = Sqlite::open(&database, true, 0)?;
        Ok((metadata, Files::open(place, true, &Buffers::new(0, LARGE))?))
    })
    .await?;
    let report = Mutex::new(BackupReport::default());
    let mut after = 0;
    loop {
        let page = metadata.stored_blobs(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        let (objects, report) = (&objects, &report);
        let copies = page.into_iter().map(|blob| async move {
            let copied = copy(engine, objects, &blob).await?;
            let mut report = report.lock().await;
            report.blobs += 1;
            if copied {
                report.objects += 1;
                report.bytes += blob.size;
            }
            progress(&report);
            Ok::<_, Error>(())
        });
        futures_util::stream::iter(copies).buffer_unordered(COPIES).try_collect::<()>().await?;
    }
    blocking::run(move || {
        // It closes the database, which merges its log.
        drop(metadata);
        let synced = File::open(directory.database()).and_then(|file| file.sync_all());
        synced.map_err(|error| {
            let database = directory.database();
            Error::io(format!("cannot sync {}", database.display()), error)
        })?;
        directory.complete()
    })
    .await?;
    Ok(report.into_inner())
}

/// Copies the file of a blob, if it has one, and verifies it on the way.
async fn copy(engine: &Engine, to: &Files, blob: &StoredBlob) -> Result<bool> {
    let Content::Object(key) = &blob.content else { return Ok(false) };
    let mut writer = to.create(key, Arc::new(Unnoted)).await?;
    let (from, pace) = (&*engine.objects, &mut Pace::new(None));
    let damage = verify(from, key, &blob.digest, blob.size, pace, Some(&mut *writer)).await?;
    if let Some(damage) = damage {
        let message = format!(
            "blob {} cannot be backed up: {damage}; mend that with fsck first, and begin in a new directory",
            blob.digest
        );
        return Err(Error::new(ErrorKind::Internal, message));
    }
    writer.finish().await?;
    Ok(true)
}

/// Nothing is noted of the files of a backup: it is deleted as a whole if it fails.
struct Unnoted;

#[async_trait]
impl Journal for Unnoted {
    async fn note(&self, _key: &ObjectKey, _state: Bytes) -> Result<()> {
        Ok(())
    }
}
