//! Databases that are missing, foreign, of another version, or refuse whoever asks.

use oci_ref::{Access, Error, ErrorKind, Registry as _};
use oci_registry_store::{Database, DurableRegistry, EngineOptions};

use super::server::{self, PASSWORD};
use oci_ref::Source as _;

use crate::support::*;

pub(super) async fn open(url: &str) -> Result<DurableRegistry, Error> {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let opened = DurableRegistry::open(&data, on(url)).await;
    assert_eq!(data.exists(), opened.is_ok(), "nothing is made if the database is refused");
    opened
}

fn on(url: &str) -> EngineOptions {
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options
}

pub(super) async fn refusal(url: &str) -> (ErrorKind, String) {
    let error = error_of(open(url).await);
    let message = error.to_string();
    assert!(!format!("{error:?}").contains(PASSWORD), "{error:?}");
    assert!(message.contains(&url.parse::<Database>().unwrap().to_string()), "{message}");
    (error.kind().clone(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_cannot_be_used() {
    if !server::is_there("databases_that_cannot_be_used") {
        return;
    }
    let url = server::fresh_url().await;
    let (kind, message) = refusal(&url.replace(PASSWORD, "wrong")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("refuses the user or the password"), "{message}");
    let (kind, message) = refusal(&url.replace(&format!(":{PASSWORD}"), "")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("password"), "{message}");
    let (kind, message) = refusal(&url.replace("oci_test", "missing")).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("does not exist"), "{message}");
    let (kind, message) = refusal("postgres://me:not-to-be-shown@/x?host=/nowhere").await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("cannot be reached"), "{message}");

    server::execute(&url, "CREATE TABLE photo (id integer)").await;
    let (kind, message) = refusal(&url).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("another program") && message.contains("photo"), "{message}");
    // In a schema of its own it can live beside them.
    server::execute(&url, "CREATE SCHEMA registry").await;
    let engine = open(&format!("{url}&options=-csearch_path%3Dregistry")).await.unwrap();
    push_image(&*engine.repository(&name("a"), Access::Write).await.unwrap(), "x", &[]).await;
    assert_eq!(server::number(&url, "SELECT count(*) FROM registry.manifest").await, 1);
    engine.close().await;
    let (_, message) = refusal(&format!("{url}&options=-csearch_path%3Dnone")).await;
    assert!(message.contains("search_path"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema() {
    if !server::is_there("a_newer_schema") {
        return;
    }
    let url = server::fresh_url().await;
    open(&url).await.unwrap().close().await;
    server::execute(&url, "UPDATE oci_registry_schema SET version = 99").await;
    let replicas = server::number(&url, "SELECT count(*) FROM replica").await;
    let (kind, message) = refusal(&url).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("schema version 99") && message.contains("newer"), "{message}");
    assert_eq!(server::number(&url, "SELECT count(*) FROM replica").await, replicas);
}

/// Of several that open an empty database at once, one makes the tables.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once() {
    if !server::is_there("replicas_that_start_at_once") {
        return;
    }
    let url = server::fresh_url().await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let opened = (0..8).map(|_| DurableRegistry::open(&data, on(&url)));
    let engines = futures_util::future::try_join_all(opened).await.unwrap();
    let blob =
        push(&*engines[0].repository(&name("a"), Access::Write).await.unwrap(), &noise(9, 9)).await;
    for engine in &engines {
        let store = engine.repository(&name("a"), Access::Read).await.unwrap();
        assert_eq!(store.blob_size(&blob.digest).await.unwrap(), Some(9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_of_one_kind() {
    if !server::is_there("directories_are_of_one_kind") {
        return;
    }
    let url = server::fresh_url().await;
    let sqlite = TestEngine::new_in_sqlite().await.close().await;
    let error = error_of(DurableRegistry::open(sqlite.path(), on(&url)).await);
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("shared database"), "{error}");
    let shared = tempfile::tempdir().unwrap();
    DurableRegistry::open(shared.path(), on(&url)).await.unwrap().close().await;
    let error = error_of(DurableRegistry::open(shared.path(), EngineOptions::default()).await);
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("shared database"), "{error}");
}
