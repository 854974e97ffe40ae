//! Opening data directories that are in use, damaged, foreign, of another version, or cannot be written.

use std::fs;
use std::path::Path;

use oci_ref::{Error, ErrorKind};
use oci_registry_store::{DurableRegistry, EngineOptions};
use rusqlite::Connection;

use crate::support::*;

/// The error of opening a directory, whose messages all name it.
async fn refusal(path: &Path) -> (ErrorKind, String) {
    let error: Error = error_of(DurableRegistry::open(path, EngineOptions::default()).await);
    let message = error.to_string();
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    (error.kind().clone(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_made_with_its_parents() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some/where/data");
    DurableRegistry::open(&path, EngineOptions::default()).await.unwrap().close().await;
    DurableRegistry::open(&path, EngineOptions::default()).await.unwrap().close().await;
    assert!(path.join("metadata.sqlite").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_engine_at_a_time() {
    let engine = TestEngine::new().await;
    let (kind, message) = refusal(engine.directory.path()).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("in use by another process"), "{message}");
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    // A handle that is still held keeps it open.
    let store = engine.repository("a/b").await;
    let TestEngine { registry, directory, .. } = engine;
    drop(registry);
    assert_eq!(refusal(directory.path()).await.0, ErrorKind::Unavailable);
    drop(store);
    DurableRegistry::open(directory.path(), EngineOptions::default()).await.unwrap();
}

async fn closed_engine() -> tempfile::TempDir {
    TestEngine::new().await.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database() {
    let directory = closed_engine().await;
    fs::remove_file(directory.path().join("metadata.sqlite")).unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Internal);
    assert!(message.contains("metadata.sqlite is missing"), "{message}");
    assert!(!directory.path().join("metadata.sqlite").exists());

    // An empty one would be made a new one, and all that was stored would seem to be lost.
    fs::write(directory.path().join("metadata.sqlite"), "").unwrap();
    fs::write(directory.path().join("metadata.sqlite-wal"), "what may be saved").unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Internal);
    assert!(message.contains("metadata.sqlite is empty"), "{message}");
    assert!(directory.path().join("metadata.sqlite-wal").exists());
}

/// The first opening can be cut off anywhere; the next goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_opening_that_was_cut_off() {
    for left in ["objects", "format.new", "metadata.sqlite", "metadata.sqlite-journal"] {
        let directory = closed_engine().await;
        fs::remove_file(directory.path().join("format")).unwrap();
        match left {
            "objects" => fs::remove_file(directory.path().join("metadata.sqlite")).unwrap(),
            "format.new" => fs::write(directory.path().join(left), "oci-reg").unwrap(),
            // SQLite was about to say in the new database that it has a log.
            "metadata.sqlite-journal" => {
                fs::write(directory.path().join("metadata.sqlite"), "").unwrap();
                fs::write(directory.path().join(left), [0; 512]).unwrap();
            }
            _ => {}
        }
        DurableRegistry::open(directory.path(), EngineOptions::default())
            .await
            .unwrap()
            .close()
            .await;
        assert!(directory.path().join("format").is_file());
        assert!(!directory.path().join("format.new").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema() {
    let directory = closed_engine().await;
    let database = directory.path().join("metadata.sqlite");
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&database).unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("schema version 99") && message.contains("newer"), "{message}");
    assert!(fs::read(&database).unwrap() == before, "the database was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_program() {
    let directory = closed_engine().await;
    let database = directory.path().join("metadata.sqlite");
    fs::remove_file(&database).unwrap();
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE photo (id INTEGER)").unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("another program"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database() {
    for damage in ["not a database", "cut off", "overwritten"] {
        let directory = closed_engine().await;
        let database = directory.path().join("metadata.sqlite");
        let mut bytes = fs::read(&database).unwrap();
        match damage {
            "not a database" => bytes = b"this was never a database".repeat(100),
            "cut off" => bytes.truncate(5000),
            _ => bytes[100..4096].fill(0x55),
        }
        fs::write(&database, bytes).unwrap();
        let (kind, message) = refusal(directory.path()).await;
        assert_eq!(kind, ErrorKind::Internal, "{damage}: {message}");
        assert!(message.contains("damaged"), "{damage}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_format_of_the_directory() {
    let directory = closed_engine().await;
    fs::write(directory.path().join("format"), "oci-registry-store data directory, format 2\n")
        .unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("format 2") && message.contains("format 1"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_somebody_else() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.txt"), "words").unwrap();
    let (kind, message) = refusal(directory.path()).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("thesis.txt"), "{message}");
    assert!(!directory.path().join("metadata.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("data")] {
        assert_eq!(refusal(&path).await.0, ErrorKind::Io);
    }
    // Where nobody, not even root, can make anything.
    if cfg!(target_os = "linux") {
        let (kind, message) = refusal(Path::new("/proc/data")).await;
        assert_eq!(kind, ErrorKind::Io);
        assert!(message.contains("cannot make data directory"), "{message}");
    }
}
