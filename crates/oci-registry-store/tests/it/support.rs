//! What the tests share: an engine in a temporary directory, and content to put into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{Access, ByteRange, Error, ErrorKind, Manifest, Precondition, Registry, Store};
use oci_registry_store::{
    CollectOptions, CollectReport, Database, DurableRegistry, EngineOptions, FsckEvent,
    FsckOptions, FsckReport,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, ImageIndex, MediaType, Name, Tag};
use tempfile::TempDir;

#[cfg(feature = "postgres")]
use crate::postgres::server;

/// An engine whose directory goes away with it.
pub(crate) struct TestEngine {
    pub(crate) registry: DurableRegistry,
    pub(crate) options: EngineOptions,
    pub(crate) directory: TempDir,
}

impl TestEngine {
    pub(crate) async fn new() -> Self {
        Self::with(EngineOptions::default()).await
    }

    /// With SQLite, whatever the other tests run on.
    #[cfg(feature = "postgres")]
    pub(crate) async fn new_in_sqlite() -> Self {
        Self::opened(EngineOptions::default()).await
    }

    pub(crate) async fn with(mut options: EngineOptions) -> Self {
        options.database = database().await;
        Self::opened(options).await
    }

    /// With the database that the options name.
    pub(crate) async fn opened(options: EngineOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    /// Closes the engine and opens it again.
    pub(crate) async fn reopen(self) -> Self {
        let Self { registry, options, directory } = self;
        registry.close().await;
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    /// An engine on what a crash at this moment would leave: a copy of the directory as it is, and of the database on a server.
    pub(crate) async fn crashed(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        #[cfg_attr(
            not(feature = "postgres"),
            expect(unused_mut, reason = "only servers are copied")
        )]
        let mut options = self.options.clone();
        #[cfg(feature = "postgres")]
        if options.database.is_shared() {
            options.database = server::copy(&options.database).await;
        }
        copy_directory(self.directory.path(), directory.path());
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    pub(crate) async fn repository(&self, repository: &str) -> Arc<dyn Store> {
        self.registry.repository(&name(repository), Access::Write).await.unwrap()
    }

    /// The files that hold objects.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        objects_in(self.directory.path())
    }

    /// Closes the engine and leaves its directory.
    pub(crate) async fn close(self) -> TempDir {
        self.registry.close().await;
        self.directory
    }

    /// Lets all uploads that rest expire.
    #[cfg(feature = "clouds")]
    pub(crate) async fn expire(self) -> Self {
        let Self { registry, options, directory } = self;
        registry.close().await;
        try_change(
            directory.path(),
            &options.database,
            "UPDATE session SET touched = 0 WHERE touched IS NOT NULL",
        )
        .await;
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    /// Closes the engine, changes its database, and opens it again.
    pub(crate) async fn tamper(self, sql: &str) -> Self {
        let Self { registry, options, directory } = self;
        registry.close().await;
        change(directory.path(), &options.database, sql).await;
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    /// Closes the engine, lets so many seconds pass for all that it would collect, and opens it again.
    pub(crate) async fn age(self, seconds: i64) -> Self {
        let Self { registry, options, directory } = self;
        registry.close().await;
        for statement in aging(seconds) {
            try_change(directory.path(), &options.database, &statement).await;
        }
        let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
        Self { registry, options, directory }
    }

    pub(crate) async fn collect(&self) -> CollectReport {
        self.registry.collect(&CollectOptions::default(), |_| {}).await.unwrap()
    }

    /// A collection that also takes manifests that have been untagged for a day, after a dry run that must foretell it.
    pub(crate) async fn collect_untagged(&self) -> CollectReport {
        let mut options = CollectOptions::default();
        options.untagged_older_than = Some(Duration::from_secs(DAY as u64));
        options.dry_run = true;
        let mut foretold = self.registry.collect(&options, |_| {}).await.unwrap();
        options.dry_run = false;
        let report = self.registry.collect(&options, |_| {}).await.unwrap();
        (foretold.dry_run, foretold.objects) = (false, report.objects);
        assert_eq!(foretold, report, "the dry run foretold something else");
        report
    }

    /// A check, and what it told.
    pub(crate) async fn fsck(&self, repair: bool) -> (FsckReport, Vec<String>) {
        let mut options = FsckOptions::default();
        options.repair = repair;
        let told = Mutex::new(Vec::new());
        let tell = |event: &FsckEvent<'_>| {
            if let FsckEvent::Problem(problem) = event {
                told.lock().unwrap().push(problem.what.clone());
            }
        };
        let report = self.registry.fsck(&options, tell).await.unwrap();
        (report, told.into_inner().unwrap())
    }

    /// Everything must be as it should be.
    pub(crate) async fn assert_sound(&self) -> FsckReport {
        let (report, told) = self.fsck(false).await;
        assert!(told.is_empty() && report.problems == 0, "{told:#?}");
        report
    }

    /// How many bytes the objects have together.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.objects().iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }
}

/// A bit longer than a day.
pub(crate) const DAY: i64 = 24 * 60 * 60 + 60;

/// Lets time pass for all that is collected.
fn aging(seconds: i64) -> [String; 4] {
    [
        ("repository_blob", "candidate_since"),
        ("repository_manifest", "candidate_since"),
        ("pending_object", "delete_after"),
        ("deleted_subject", "since"),
    ]
    .map(|(table, column)| format!("UPDATE {table} SET {column} = {column} - {seconds}"))
}

/// Where the metadata of an engine under test lies: in SQLite, or in PostgreSQL if `OCI_TEST_ENGINE` says so.
async fn database() -> Database {
    match std::env::var("OCI_TEST_ENGINE").as_deref() {
        #[cfg(feature = "postgres")]
        Ok("postgres") => {
            assert!(server::is_there("anything"), "there is no PostgreSQL to test on");
            server::fresh().await
        }
        Ok("sqlite") | Err(_) => Database::default(),
        Ok(other) => panic!("OCI_TEST_ENGINE is {other:?}"),
    }
}

/// Changes the metadata past the engine. It may be open: only this process may write, but this one is the test.
pub(crate) async fn change(data: &Path, database: &Database, sql: &str) {
    assert!(try_change(data, database, sql).await > 0, "{sql} changed nothing");
}

/// Changes what tables there are, or what they have.
pub(crate) async fn alter(data: &Path, database: &Database, sql: &str) {
    try_change(data, database, sql).await;
}

async fn try_change(data: &Path, database: &Database, sql: &str) -> u64 {
    #[cfg(feature = "postgres")]
    if database.is_shared() {
        let client = server::connect(&server::url_of(database)).await;
        // As damage does, it minds no keys, if it is somebody who need not.
        let _ = client.batch_execute("SET session_replication_role = replica").await;
        return client.execute(&sql.replace("x'", "'\\x"), &[]).await.unwrap();
    }
    let _ = database;
    let database = rusqlite::Connection::open(data.join("metadata.sqlite")).unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    database.execute(sql, []).unwrap() as u64
}

/// Bytes in SQL.
pub(crate) fn literal(bytes: &[u8]) -> String {
    format!("x'{}'", hex::encode(bytes))
}

/// How many rows a table has.
pub(crate) async fn count(data: &Path, database: &Database, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    #[cfg(feature = "postgres")]
    if database.is_shared() {
        return server::number(&server::url_of(database), &query).await;
    }
    let _ = database;
    let database = rusqlite::Connection::open(data.join("metadata.sqlite")).unwrap();
    database.query_row(&query, [], |row| row.get(0)).unwrap()
}

/// The files that hold objects in a data directory.
pub(crate) fn objects_in(data: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in fs::read_dir(data.join("objects")).unwrap() {
        let files = fs::read_dir(directory.unwrap().path()).unwrap();
        found.extend(files.map(|file| file.unwrap().path()));
    }
    found
}

/// Copies what is there. What goes away meanwhile is left out.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            let copied = fs::copy(entry.path(), target);
            let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            assert!(copied.is_ok() || copied.as_ref().is_err_and(gone), "{copied:?}");
        }
    }
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Bytes that compress badly and differ by seed.
pub(crate) fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) fn describe(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, bytes)
}

/// Stores a blob and gives its descriptor.
pub(crate) async fn push(store: &dyn Store, bytes: &Bytes) -> Descriptor {
    let descriptor = describe(bytes);
    store.put_blob(&descriptor, bytes).await.unwrap();
    descriptor
}

pub(crate) async fn pull(
    store: &dyn Store,
    digest: &Digest,
    range: ByteRange,
) -> Result<Bytes, Error> {
    let read = store.blob(digest, range).await?;
    let expected = read.range.end - read.range.start;
    let chunks: Vec<Bytes> = read.body.try_collect().await?;
    let bytes = Bytes::from(chunks.concat());
    assert_eq!(bytes.len() as u64, expected);
    Ok(bytes)
}

/// An image of some blobs that all exist, told apart by a text.
pub(crate) fn image(
    config: &Descriptor,
    layers: &[Descriptor],
    text: &str,
    subject: Option<&Descriptor>,
) -> Manifest {
    let mut document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_IMAGE_MANIFEST,
        "config": config,
        "layers": layers,
        "annotations": {"text": text},
    });
    if let Some(subject) = subject {
        document["subject"] = serde_json::to_value(subject).unwrap();
    }
    Manifest::parse(document.to_string().into(), None, None).unwrap()
}

pub(crate) fn index(manifests: &[&Manifest]) -> Manifest {
    index_about(manifests, None)
}

pub(crate) fn index_about(manifests: &[&Manifest], subject: Option<&Manifest>) -> Manifest {
    let manifests: Vec<&Descriptor> =
        manifests.iter().map(|manifest| manifest.descriptor()).collect();
    let mut document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_IMAGE_INDEX,
        "manifests": manifests,
    });
    if let Some(subject) = subject {
        document["subject"] = serde_json::to_value(subject.descriptor()).unwrap();
    }
    Manifest::parse(document.to_string().into(), None, None).unwrap()
}

/// An index that lists whatever it is, such as the layers of a build cache.
pub(crate) fn listing(entries: &[Descriptor]) -> Manifest {
    let index = ImageIndex::new(entries.to_vec());
    Manifest::parse(serde_json::to_vec(&index).unwrap().into(), None, None).unwrap()
}

/// A manifest of a type that nobody knows, which references these.
pub(crate) fn bundle(parts: &[Descriptor]) -> Manifest {
    let document = serde_json::json!({
        "mediaType": "application/vnd.example.bundle.v1+json", "parts": [{"of": parts}],
    });
    Manifest::parse(document.to_string().into(), None, None).unwrap()
}

/// Stores an image with one small config and gives it.
pub(crate) async fn push_image(store: &dyn Store, text: &str, tags: &[Tag]) -> Manifest {
    let config = push(store, &Bytes::from_static(b"{}")).await;
    let manifest = image(&config, &[], text, None);
    store.put_manifest(&manifest, tags, &Precondition::None).await.unwrap();
    manifest
}

pub(crate) fn sha256() -> Algorithm {
    Algorithm::Sha256
}

/// The error of something that must fail.
pub(crate) fn error_of<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error,
    }
}

#[track_caller]
pub(crate) fn assert_code<T>(result: Result<T, Error>, expected: ErrorCode) {
    let error = error_of(result);
    assert_eq!(error.code(), Some(&expected), "{error:?}");
}

#[track_caller]
pub(crate) fn assert_kind<T>(result: Result<T, Error>, expected: ErrorKind) {
    let error = error_of(result);
    assert_eq!(*error.kind(), expected, "{error:?}");
}
