//! What an engine can be told.

use std::time::Duration;

use oci_ref::{Form, Referenced};

use crate::Storage;
use crate::database::Database;

/// References of a manifest that must be there when it is stored. A subject, and what may lie
/// elsewhere (layers with URLs, and such as are not distributed), need never be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// All.
    #[default]
    Complete,
    /// The blobs of an image; what an index lists may come later, or never, and so may what
    /// manifests of unknown types reference.
    SparseIndexes,
    /// Nothing: what is missing is recorded, and counts as referenced once it comes.
    Unchecked,
}

impl References {
    /// Tells that a manifest is taken without this one of its references.
    pub(crate) fn allow_absence_of(self, referenced: &Referenced<'_>) -> bool {
        match self {
            Self::Complete => false,
            Self::SparseIndexes => referenced.form == Form::Either,
            Self::Unchecked => true,
        }
    }
}

/// How an engine works.
///
/// ```
/// let mut options = oci_registry_store::EngineOptions::default();
/// options.references = oci_registry_store::References::SparseIndexes;
/// assert!(options.sync);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Whether the directory is made if it is not there. On by default.
    pub create: bool,
    /// Whether content is synced to the disk before it is acknowledged. On by default.
    ///
    /// Without it, pushes are faster, and all that was pushed survives when the *process* ends, however it ends. But after a
    /// power cut or a crash of the operating system, content that was acknowledged shortly before can be
    /// missing, and a blob that the metadata names can have holes or be cut off. The metadata itself stays readable.
    pub sync: bool,
    /// Where the bytes of large blobs lie: in the data directory by default. Metadata, manifests and small blobs lie in the
    /// database in any case.
    pub storage: Storage,
    /// Whether all content has been moved to `storage` from where it lay before. The storage is remembered, and another one refused,
    /// since in it all content would seem to be lost. Off by default.
    pub storage_moved: bool,
    /// Whether a server may send those who read a blob from a bucket to the bucket itself, by a URL that lets anybody read that
    /// blob for 20 minutes. Off by default. Has no meaning for other storage.
    pub redirect_reads: bool,
    /// The most bytes that a blob has which lies in the database: 32 KiB by default. Blobs of 256 KiB never do, and of 64 KiB only
    /// while few uploads are under way. What is there already stays where it is.
    pub inline_limit: usize,
    /// How many bytes of memory all uploads to a bucket together may take for what is on its way there: 512 MiB by default. At
    /// least 32 MiB. Who has to wait for half a minute is told to come back later.
    pub upload_memory: usize,
    /// Where the metadata lies: in the data directory by default.
    pub database: Database,
    /// The most connections to a database server at a time: 16 by default, and at least 2. Has no meaning for SQLite.
    pub database_connections: usize,
    /// How long this process is taken for alive after the database server has last heard of it: a minute by default. After that,
    /// others may take over the uploads that it was writing. Has no meaning for SQLite.
    pub lease: Duration,
    /// What of a manifest's references must be there when it is stored: all by default.
    pub references: References,
    /// How long an upload may rest before it expires: an hour by default.
    pub session_idle: Duration,
    /// The most unfinished uploads that may hold bytes: 4096 by default. One that has only begun
    /// holds none, nor does a small one that is sent in one request. What goes beyond is
    /// [`Unavailable`](oci_ref::ErrorKind::Unavailable). Processes that share a database count
    /// together what rests there, and each what it is writing.
    pub max_uploads: u64,
    /// The most bytes that all of those together may hold: 256 GiB by default.
    pub upload_space: u64,
    /// The bytes of the data directory's disk that are kept free: 32 MiB by default. What would
    /// leave fewer is [`StorageFull`](oci_ref::ErrorKind::StorageFull); reads and deletions go on.
    /// `0` keeps none.
    pub min_free_space: u64,
    /// How long content stays that nothing references: a day by default. It begins anew when the content is pushed again or
    /// mounted, and when somebody who asks whether it is there is told that it is.
    ///
    /// A push takes a while between its first blob and its manifest, so this must be longer than any push takes.
    pub grace: Duration,
    /// How long manifests stay that have no tag, from when they lost it. `None`, the default, keeps them until they are
    /// deleted. Never shorter than `grace`. A manifest stays as long as an index that stays lists it, or as its
    /// subject stays.
    pub untagged: Option<Duration>,
    /// How long a read of a blob can take: an hour by default. The bytes of a blob that was deleted or collected are deleted
    /// after this time, so that whoever is reading it can finish.
    ///
    /// A file that is open is read to its end in any case. Of a bucket, a read that takes longer can break off with an error,
    /// and so can one through a URL that [`redirect_reads`](Self::redirect_reads) gave; none ever gets other bytes.
    pub longest_read: Duration,
    /// The time by which the grace is counted, in seconds since 1970. For tests, which cannot wait for days.
    #[doc(hidden)]
    pub clock: fn() -> i64,
    /// The memory that content that was read recently may take, in bytes: 32 MiB by default. Half
    /// of it is for the bytes of manifests, and half for what names stand for, for small blobs, and
    /// for pages of SQLite's file, of which each reader keeps at least 2 MiB. `0` keeps nothing
    /// else.
    pub cache: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            create: true,
            sync: true,
            storage: Storage::default(),
            storage_moved: false,
            redirect_reads: false,
            inline_limit: 32 << 10,
            upload_memory: 512 << 20,
            database: Database::default(),
            database_connections: 16,
            lease: Duration::from_secs(60),
            references: References::Complete,
            session_idle: Duration::from_secs(60 * 60),
            max_uploads: 4096,
            upload_space: 256 << 30,
            min_free_space: 32 << 20,
            grace: Duration::from_secs(24 * 60 * 60),
            untagged: None,
            longest_read: Duration::from_secs(60 * 60),
            clock: crate::upload::now,
            cache: 32 << 20,
        }
    }
}
