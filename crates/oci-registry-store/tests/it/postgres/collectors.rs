//! Replicas that collect at the same time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use oci_ref::{Access, Registry};
use oci_registry_store::{CollectOptions, CollectReport, DurableRegistry, EngineOptions};

use super::server;
use crate::support::*;

/// More than one step of a collection takes.
const GARBAGE: usize = 130;

/// With what differs between replicas.
async fn open_with(url: &str, change: impl FnOnce(&mut EngineOptions)) -> DurableRegistry {
    let directory = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options.longest_read = Duration::ZERO;
    change(&mut options);
    DurableRegistry::open(directory.path(), options).await.unwrap()
}

async fn open(url: &str) -> DurableRegistry {
    open_with(url, |options| options.grace = Duration::ZERO).await
}

async fn collect(registry: &DurableRegistry) -> CollectReport {
    registry.collect(&CollectOptions::default(), |_| {}).await.unwrap()
}

/// While one collector waits for a repository that is busy, another takes the garbage of other
/// repositories, and does not wait behind the first.
#[tokio::test(flavor = "multi_thread")]
async fn each_takes_the_garbage_of_other_repositories() {
    if !server::is_there("each_takes_the_garbage_of_other_repositories") {
        return;
    }
    let url = server::fresh_url().await;
    let (first, second) = (open(&url).await, open(&url).await);
    for (n, repository) in ["busy", "idle"].into_iter().enumerate() {
        let store = first.repository(&name(repository), Access::Write).await.unwrap();
        for blob in 0..GARBAGE {
            push(&*store, &noise(20, (n * 1000 + blob) as u64)).await;
        }
    }
    // The garbage of the busy one is the oldest.
    let client = server::connect(&url).await;
    let age = "UPDATE repository_blob SET candidate_since = CASE repository.name WHEN 'busy' THEN 1 ELSE 2 END
               FROM repository WHERE repository.id = repository_blob.repository";
    client.batch_execute(age).await.unwrap();
    // As whoever adds to a repository does.
    let lock = "SELECT pg_advisory_lock_shared(
                    ('x' || left(encode(sha256(E'repository\\nbusy'), 'hex'), 16))::bit(64)::bigint)";
    client.batch_execute(lock).await.unwrap();
    let waiting = tokio::spawn({
        let first = first.clone();
        async move { collect(&first).await }
    });
    let waits = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
                 WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
    server::until(&client, waits, |count| count > 0).await;
    // The second ends up waiting for what the first has, when nothing else is left.
    let behind = tokio::spawn({
        let second = second.clone();
        async move { collect(&second).await }
    });
    let idle = "SELECT count(*) FROM repository WHERE name = 'idle'";
    server::until(&client, idle, |count| count == 0).await;
    assert!(!waiting.is_finished());
    let left = "SELECT count(*) FROM repository_blob";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), GARBAGE as i64);
    client.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let reports = [waiting.await.unwrap(), behind.await.unwrap()];
    let links: u64 = reports.iter().map(|report| report.links).sum();
    assert_eq!(links, 2 * GARBAGE as u64);
}

/// Replicas whose clocks are minutes apart collect nothing before its grace is over by any of them,
/// and all of it after that.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_minutes_apart() {
    if !server::is_there("clocks_that_are_minutes_apart") {
        return;
    }
    static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);
    const APART: i64 = 5 * 60;
    let url = server::fresh_url().await;
    let late = open_with(&url, |it| it.clock = || NOW.load(Ordering::SeqCst)).await;
    let early = open_with(&url, |it| it.clock = || NOW.load(Ordering::SeqCst) + APART).await;
    for (n, registry) in [&late, &early].into_iter().enumerate() {
        let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();
        push(&*store, &noise(20, n as u64)).await;
    }
    let grace = EngineOptions::default().grace.as_secs() as i64;
    NOW.fetch_add(grace - 2 * APART, Ordering::SeqCst);
    for registry in [&late, &early] {
        assert_eq!(collect(registry).await.links, 0);
    }
    // By its own clock for the one that is behind, too.
    NOW.fetch_add(3 * APART, Ordering::SeqCst);
    assert_eq!(collect(&late).await.links, 2);
}
