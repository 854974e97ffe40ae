//! The engine as a registry: repositories by name, and the upkeep of what is stored.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use oci_ref::{Access, Cursor, Error, Page, Registry, Result, Store};
use oci_spec_types::{Digest, ErrorCode, Name};

use crate::backup::{self, BackupReport};
use crate::collect::{self, CollectOptions, CollectReport};
use crate::engine::Engine;
use crate::fsck::{self, FsckEvent, FsckOptions, FsckReport};
use crate::options::EngineOptions;
use crate::repository::Repository;

/// A registry whose content lies in a data directory: metadata in SQLite, bytes in files beside it. Or the metadata lies on a
/// database server, if [`EngineOptions::database`] says so.
///
/// What has been acknowledged survives a crash and a power cut (unless [`EngineOptions::sync`] is off). One process uses a data
/// directory at a time, unless the database is on a server. Clones share the engine.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use oci_ref::{ByteRange, Source, Store};
/// use oci_ref::{Access, Registry};
/// use oci_registry_store::{DurableRegistry, EngineOptions};
/// use oci_spec_types::{Descriptor, MediaType};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let data = directory.path().join("data");
/// let registry = DurableRegistry::open(&data, EngineOptions::default()).await?;
/// let repository = registry.repository(&"team/app".parse().unwrap(), Access::Write).await?;
/// let blob = Descriptor::of(MediaType::OCTET_STREAM, b"hello");
/// repository.put_blob(&blob, &bytes::Bytes::from("hello")).await?;
/// drop(repository);
/// registry.close().await;
///
/// let registry = DurableRegistry::open(&data, EngineOptions::default()).await?;
/// let repository = registry.repository(&"team/app".parse().unwrap(), Access::Read).await?;
/// assert_eq!(repository.blob_size(&blob.digest).await?, Some(5));
/// # Ok::<(), oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct DurableRegistry {
    engine: Arc<Engine>,
}

impl DurableRegistry {
    /// Opens a data directory, and makes it if it is not there. The time this takes does not depend on how much is stored, only on
    /// how many uploads were cut off when it was used last.
    ///
    /// # Errors
    /// - [`Unavailable`](oci_ref::ErrorKind::Unavailable) if another process, or another engine in this one, uses it, or
    ///   the database server does not answer;
    /// - [`Invalid`](oci_ref::ErrorKind::Invalid) if it is not a data directory, belongs to another
    ///   user than this process's or root, has links in it, or was written by a newer version, or
    ///   the database server refuses. Nothing has been changed then;
    /// - [`Internal`](oci_ref::ErrorKind::Internal) if the database is damaged;
    /// - [`Io`](oci_ref::ErrorKind::Io) if it cannot be made or written to.
    pub async fn open(path: impl AsRef<Path>, options: EngineOptions) -> Result<Self> {
        let engine = Engine::open(path.as_ref(), options).await?;
        Ok(Self { engine })
    }

    /// Removes what uploads that rest for longer than [`EngineOptions::session_idle`] have left. To be called now and then,
    /// such as once a minute; opening does it too.
    ///
    /// # Errors
    /// If the database fails. What could not be removed is tried again the next time.
    pub async fn sweep(&self) -> Result<()> {
        self.engine.sweep().await
    }

    /// Collects garbage: content that nothing references any more, and the bytes of what was deleted or collected before.
    /// To be called now and then, such as once an hour. What it costs depends on what was pushed and deleted since the last
    /// time, and not on how much is stored. Pushes and pulls go on meanwhile. `progress` is told after each step what has been
    /// done so far.
    ///
    /// The bytes of a blob are deleted some time after the blob ([`EngineOptions::longest_read`]), so by a later collection.
    ///
    /// # Errors
    /// If the database fails. What has been done until then stays done. A file that cannot be deleted is no error; it is
    /// logged, counted, and tried again later.
    #[expect(
        clippy::manual_async_fn,
        reason = "the compiler cannot tell by itself that it is Send"
    )]
    pub fn collect(
        &self,
        options: &CollectOptions,
        progress: impl Fn(&CollectReport) + Send + Sync,
    ) -> impl Future<Output = Result<CollectReport>> + Send {
        async move { collect::run(&self.engine, options, &progress).await }
    }

    /// Checks all that is stored, and mends it if asked to: the database, each blob and manifest by its digest, the references
    /// that are recorded, and that each file belongs to something. Reads everything once, at a bounded pace if asked to; pushes and
    /// pulls go on meanwhile. If it is dropped before its end, a later one can go on from there.
    ///
    /// A blob that is damaged or missing is mended by taking it out, so that clients are told that it is not there
    /// and push it again. A manifest that is damaged and has a tag is only reported: no tag is ever removed.
    ///
    /// # Errors
    /// [`Unavailable`](oci_ref::ErrorKind::Unavailable) if another check is under way; if the database fails. What is wrong
    /// with content is no error, but in the report.
    #[expect(
        clippy::manual_async_fn,
        reason = "the compiler cannot tell by itself that it is Send"
    )]
    pub fn fsck(
        &self,
        options: &FsckOptions,
        tell: impl Fn(&FsckEvent<'_>) + Send + Sync,
    ) -> impl Future<Output = Result<FsckReport>> + Send {
        async move { fsck::run(&self.engine, options, &tell).await }
    }

    /// Copies everything, as it is at one moment, to a directory that is empty or not there. What comes of it is a data directory
    /// that [`open`](Self::open) takes, without the uploads that were under way. Pushes, pulls and collections go on meanwhile; only the
    /// bytes of what is deleted stay until the end. Each file is verified on the way.
    ///
    /// # Errors
    /// [`Invalid`](oci_ref::ErrorKind::Invalid) if the directory is not empty; [`Internal`](oci_ref::ErrorKind::Internal) if
    /// content is damaged; if anything cannot be read or written. What was copied until then is no data directory, and is
    /// to be deleted.
    pub fn backup(
        &self,
        to: impl AsRef<Path>,
        progress: impl Fn(&BackupReport) + Send + Sync,
    ) -> impl Future<Output = Result<BackupReport>> + Send {
        let to = to.as_ref().to_owned();
        async move { backup::run(&self.engine, &to, &progress).await }
    }

    /// Closes the registry: waits until every clone, repository and upload has been dropped and the last upload has cleaned up,
    /// after which the directory can be opened again.
    ///
    /// Dropping the last of them closes it too, but then nothing tells when.
    pub async fn close(self) {
        let mut closed = self.engine.closed();
        // Closing the database blocks. If this is not the last handle, it is quick.
        let dropped = tokio::task::spawn_blocking(move || drop(self));
        let _ = dropped.await;
        // The sender is dropped last of all, and never sends.
        let _ = closed.changed().await;
    }
}

#[async_trait]
impl Registry for DurableRegistry {
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>> {
        if access == Access::Read && !self.engine.metadata.has_repository(name).await? {
            return Err(Error::new(
                ErrorCode::NameUnknown,
                format!("repository {name} is not known"),
            ));
        }
        Ok(Arc::new(Repository::new(Arc::clone(&self.engine), name.clone())))
    }

    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>> {
        let after = after.map(Cursor::name).transpose()?;
        self.engine.metadata.catalog(after, limit).await
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>> {
        self.engine.metadata.holders(digest, limit).await
    }
}
