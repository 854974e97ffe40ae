//! A database server that goes away, and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use oci_ref::{Access, ByteRange, ErrorKind, Precondition, Registry, Source, Store};
use oci_registry_store::{DurableRegistry, EngineOptions};
use oci_spec_types::Digest;

use super::server::{self, Server};
use crate::support::*;

/// How many push at the same time.
const PUSHERS: usize = 6;

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    blobs: BTreeSet<Digest>,
    manifests: BTreeSet<Digest>,
    refused: usize,
}

/// The server is cut off in the middle of pushes, again and again. What fails meanwhile says that it may be tried later; what
/// was acknowledged is there afterwards; and what failed has left nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    if !server::is_there("nothing_acknowledged_is_lost") {
        return;
    }
    let Some(server) = tokio::task::spawn_blocking(Server::start).await.unwrap() else {
        // The server that was named is not ours to stop.
        return;
    };
    let server = Arc::new(server);
    server::create(&server.url("postgres"), "registry").await;
    let url = server.url("registry");
    let directory = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    options.lease = Duration::from_secs(1);
    let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();

    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|n| {
            tokio::spawn(push_until(registry.clone(), n, Arc::clone(&stop), Arc::clone(&done)))
        })
        .collect();
    for _ in 0..3 {
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 30 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let cut = Arc::clone(&server);
        tokio::task::spawn_blocking(move || cut.stop()).await.unwrap();
        let refused = registry.catalog(None, 1).await;
        assert_kind(refused, ErrorKind::Unavailable);
        let cut = Arc::clone(&server);
        tokio::task::spawn_blocking(move || cut.resume()).await.unwrap();
    }
    let before = done.load(Ordering::Relaxed);
    while done.load(Ordering::Relaxed) < before + 30 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut refused = 0;
    for (n, pusher) in pushers.into_iter().enumerate() {
        let acknowledged = pusher.await.unwrap();
        refused += acknowledged.refused;
        let store = registry.repository(&name(&format!("r{n}")), Access::Read).await.unwrap();
        for digest in &acknowledged.blobs {
            let bytes = pull(&*store, digest, ByteRange::All).await.unwrap();
            assert_eq!(describe(&bytes).digest, *digest);
        }
        for digest in acknowledged.manifests {
            store.manifest(&digest.into()).await.unwrap();
        }
    }
    assert!(refused > 0, "the server was never missed");

    // What was given up while nobody could be told is found later.
    let in_blobs = server::number(&url, "SELECT count(*) FROM blob WHERE object IS NOT NULL").await;
    let pending = "SELECT count(*) FROM pending_object";
    for _ in 0..1000 {
        registry.sweep().await.unwrap();
        if objects_in(directory.path()).len() as i64 == in_blobs
            && server::number(&url, pending).await == 0
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(objects_in(directory.path()).len() as i64, in_blobs);
    assert_eq!(server::number(&url, pending).await, 0);
}

async fn push_until(
    registry: DurableRegistry,
    pusher: usize,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Acknowledged {
    let store = registry.repository(&name(&format!("r{pusher}")), Access::Write).await.unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let seed = (pusher * 1_000_000 + round) as u64;
        let bytes = noise(if round % 2 == 0 { 1000 } else { 60_000 }, seed);
        let blob = describe(&bytes);
        let pushed = async {
            store.put_blob(&blob, &bytes).await?;
            acknowledged.blobs.insert(blob.digest.clone());
            let manifest = image(&blob, &[], &round.to_string(), None);
            store.put_manifest(&manifest, &[tag("latest")], &Precondition::None).await?;
            acknowledged.manifests.insert(manifest.digest().clone());
            Ok::<(), oci_ref::Error>(())
        };
        match pushed.await {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error:?}");
                acknowledged.refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    acknowledged
}

/// Commits that are done, and whose answer is lost: the server waits for a standby that is not there after it has committed, and
/// its connection is cut then.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_keeps_its_bytes() {
    if !server::is_there("a_commit_whose_answer_is_lost_keeps_its_bytes") {
        return;
    }
    let Some(server) = tokio::task::spawn_blocking(Server::start).await.unwrap() else {
        return;
    };
    let admin = server::connect(&server.url("postgres")).await;
    server::create(&server.url("postgres"), "registry").await;
    server::execute(&server.url("registry"), "CREATE TABLE public.other (n integer)").await;
    let url = format!("{}&options=-csearch_path%3Dregistry", server.url("registry"));
    server::execute(&server.url("registry"), "CREATE SCHEMA registry").await;
    let directory = tempfile::tempdir().unwrap();
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    // So that nothing else commits meanwhile.
    options.lease = Duration::from_secs(60 * 60);
    let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
    let store = registry.repository(&name("a"), Access::Write).await.unwrap();

    let bytes = |seed| noise(1_500_000, seed);
    let digest = |seed| describe(&bytes(seed)).digest;

    // A blob that was written at once.
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes(1)).await.unwrap();
    assert_kind(unheard(&server, &admin, staged.commit(&digest(1))).await, ErrorKind::Unavailable);
    assert_eq!(pull(&*store, &digest(1), ByteRange::All).await.unwrap(), bytes(1));

    // One that went on after a rest.
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes(2).slice(..600_000)).await.unwrap();
    let id = staged.suspend().await.unwrap();
    let mut staged = store.resume(&id).await.unwrap();
    staged.append(bytes(2).slice(600_000..)).await.unwrap();
    assert_kind(unheard(&server, &admin, staged.commit(&digest(2))).await, ErrorKind::Unavailable);
    assert_eq!(pull(&*store, &digest(2), ByteRange::All).await.unwrap(), bytes(2));

    // A rest that was recorded.
    let mut staged = store.stage(sha256()).await.unwrap();
    staged.append(bytes(3).slice(..600_000)).await.unwrap();
    let id = staged.suspend().await.unwrap();
    let mut staged = store.resume(&id).await.unwrap();
    staged.append(bytes(3).slice(600_000..1_000_000)).await.unwrap();
    assert_kind(unheard(&server, &admin, staged.suspend()).await, ErrorKind::Unavailable);
    assert_eq!(store.upload_offset(&id).await.unwrap(), 1_000_000);
    let mut staged = loop {
        // The claim is given back in the background.
        match store.resume(&id).await {
            Ok(staged) => break staged,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::RangeInvalid { .. }), "{error:?}")
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    staged.append(bytes(3).slice(1_000_000..)).await.unwrap();
    staged.commit(&digest(3)).await.unwrap();
    assert_eq!(pull(&*store, &digest(3), ByteRange::All).await.unwrap(), bytes(3));
    assert_eq!(objects_in(directory.path()).len(), 3);
}

/// Runs something whose commit is done and not answered.
async fn unheard<T>(
    server: &Server,
    admin: &tokio_postgres::Client,
    work: impl Future<Output = Result<T, oci_ref::Error>>,
) -> Result<T, oci_ref::Error> {
    wait_for_nobody(server, admin, true).await;
    let cut = async {
        cut_waiting(admin).await;
        // What is done after the failure is answered again.
        wait_for_nobody(server, admin, false).await;
    };
    tokio::join!(work, cut).0
}

/// Makes every commit wait for a standby that is not there, or none.
async fn wait_for_nobody(server: &Server, admin: &tokio_postgres::Client, wait: bool) {
    let change = match wait {
        true => "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        false => "ALTER SYSTEM RESET synchronous_standby_names",
    };
    admin.execute(change, &[]).await.unwrap();
    admin.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    if !wait {
        return;
    }
    // It takes a moment until all of the server knows.
    loop {
        let other = server::connect(&server.url("registry")).await;
        let insert = other.execute("INSERT INTO public.other VALUES (1)", &[]);
        let limited = tokio::time::timeout(Duration::from_millis(100), insert).await;
        if limited.is_err() {
            cut_waiting(admin).await;
            return;
        }
    }
}

/// Ends the connections of commits that wait for a standby.
async fn cut_waiting(admin: &tokio_postgres::Client) {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while admin.execute(cut, &[]).await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Until they are gone.
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while admin.execute(waiting, &[]).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
