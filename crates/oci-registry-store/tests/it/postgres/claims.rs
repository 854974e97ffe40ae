//! Claims of uploads that are given back while others wait for them.

use std::collections::BTreeSet;
use std::time::Duration;

use oci_ref::{Access, ErrorKind, Registry, Staged, Store, UploadId};
use oci_registry_store::{DurableRegistry, EngineOptions};
use tokio_postgres::Client;

use super::server;
use crate::support::*;

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// Tells one renewal of the only lease from the next.
async fn renewal(client: &Client) -> String {
    client.query_one("SELECT until::text FROM replica", &[]).await.unwrap().get(0)
}

/// A transaction that holds the only claim that nobody has held in this way yet.
async fn hold(url: &str, held: &[&str]) -> (Client, String) {
    let client = server::connect(url).await;
    client.batch_execute("BEGIN").await.unwrap();
    let find = "SELECT session FROM claim WHERE session <> ALL ($1) FOR UPDATE";
    let session = client.query_one(find, &[&held]).await.unwrap().get(0);
    (client, session)
}

async fn resume(store: &dyn Store, id: &UploadId) -> Box<dyn Staged> {
    loop {
        match store.resume(id).await {
            Ok(staged) => return staged,
            Err(error) => assert_eq!(*error.kind(), ErrorKind::RangeInvalid { size: 0 }),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A claim is given back once. Whoever claims the upload after that has it alone, and the lease is renewed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_given_back_late_is_not_taken_from_the_next() {
    if !server::is_there("a_claim_that_is_given_back_late_is_not_taken_from_the_next") {
        return;
    }
    let (directory, url) = (tempfile::tempdir().unwrap(), server::fresh_url().await);
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options.lease = Duration::from_secs(1);
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();

    let first = store.stage(sha256()).await.unwrap().suspend().await.unwrap();
    let first_claim = store.resume(&first).await.unwrap();
    let (first_gate, first_session) = hold(&url, &[]).await;
    let second = store.stage(sha256()).await.unwrap().suspend().await.unwrap();
    let second_claim = store.resume(&second).await.unwrap();
    let (second_gate, _) = hold(&url, &[&first_session]).await;

    // Both are being given back, and wait. A renewal goes by, or is found to wait, too.
    drop((first_claim, second_claim));
    let client = server::connect(&url).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    server::until(&client, waiting, |count| count >= 2).await;
    let mut renewals = BTreeSet::new();
    while number(&client, waiting).await < 3 && renewals.len() < 3 {
        renewals.insert(renewal(&client).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    first_gate.batch_execute("COMMIT").await.unwrap();
    let next = resume(&*store, &first).await;
    second_gate.batch_execute("COMMIT").await.unwrap();
    drop(resume(&*store, &second).await);
    // Whatever a renewal was doing has ended after the next one.
    let mut later = BTreeSet::new();
    while later.len() < 3 {
        later.insert(renewal(&client).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_kind(store.resume(&first).await, ErrorKind::RangeInvalid { size: 0 });
    assert_eq!(renewals.len(), 3, "a renewal waited for a claim");
    drop(next);
}
