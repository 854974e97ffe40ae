//! A large repository is collected and checked beside pushes and pulls of clients, none of which sees a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use oci_ref::{Access, ByteRange, Manifest, Precondition, Registry, Source, Store};
use oci_registry_client::Client;
use oci_registry_server::{ServerOptions, TestRegistry};
use oci_registry_store::EngineOptions;
use oci_spec_types::Reference;
use tokio::sync::RwLock;

use crate::support::*;

/// Time for the test: garbage is as old as it needs to be.
static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);

/// How many manifests the repository has. `OCI_TEST_MANIFESTS` says another number.
fn size() -> u64 {
    let said = std::env::var("OCI_TEST_MANIFESTS").ok();
    said.map_or(600, |said| said.parse().unwrap())
}

/// The layer of an image: every seventh lies in a file.
fn layer(n: u64) -> bytes::Bytes {
    noise(if n.is_multiple_of(7) { 50_000 } else { 500 }, 1_000_000 + n)
}

async fn push_numbered(store: &dyn Store, n: u64) -> Manifest {
    let bytes = layer(n);
    let blob = describe(&bytes);
    if store.blob_size(&blob.digest).await.unwrap().is_none() {
        store.put_blob(&blob, &bytes).await.unwrap();
    }
    let manifest = image(&blob, &[], &n.to_string(), None);
    let tags = [tag(&format!("t{n}"))];
    store.put_manifest(&manifest, &tags, &Precondition::None).await.unwrap();
    manifest
}

async fn pull_numbered(store: &dyn Store, n: u64) {
    let manifest = store.manifest(&tag(&format!("t{n}")).into()).await.unwrap();
    let config = &manifest.image().unwrap().config.digest;
    assert_eq!(pull(store, config, ByteRange::All).await.unwrap(), layer(n));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upkeep_of_a_large_repository_is_not_noticed() {
    let size = size();
    let mut options = EngineOptions::default();
    options.untagged = Some(Duration::ZERO);
    options.longest_read = Duration::ZERO;
    options.clock = || NOW.load(Ordering::SeqCst);
    let engine = Arc::new(TestEngine::with(options).await);
    let store = engine.registry.repository(&name("large"), Access::Write).await.unwrap();
    let pushes = (0..size).map(|n| {
        let store = store.clone();
        async move { push_numbered(&*store, n).await }
    });
    let begun = Instant::now();
    let pushed: Vec<Manifest> = futures_util::stream::iter(pushes).buffered(64).collect().await;
    println!("{size} manifests pushed in {:?}", begun.elapsed());
    // Half of them lose their tags, and are garbage two days later.
    let untag = (0..size).filter(|n| n % 2 == 1).map(|n| {
        let store = store.clone();
        async move { store.delete_tag(&tag(&format!("t{n}"))).await.unwrap() }
    });
    futures_util::stream::iter(untag).buffer_unordered(64).collect::<()>().await;
    NOW.fetch_add(2 * DAY, Ordering::SeqCst);

    let server = TestRegistry::with(engine.registry.clone(), ServerOptions::new()).await.unwrap();
    let reference = Reference::new(server.host().parse().unwrap(), name("large"));
    let done = Arc::new(AtomicBool::new(false));
    // Days pass between pushes, and not within one.
    let time = Arc::new(RwLock::new(()));
    let clients = (0..4_u64).map(|client| {
        let (done, time) = (Arc::clone(&done), Arc::clone(&time));
        // Without retries: each failure is seen.
        let store = Client::builder().build().unwrap().repository(&reference).unwrap();
        tokio::spawn(async move {
            let (mut requests, mut slowest) = (0, Duration::ZERO);
            while !done.load(Ordering::Relaxed) {
                let _time_stands = time.read().await;
                let begun = Instant::now();
                let n = (requests * 4 + client) * 2 % size;
                match requests % 3 {
                    // What is there, what was garbage, and what is new.
                    0 => pull_numbered(&store, n).await,
                    1 => drop(push_numbered(&store, (n + 1) % size).await),
                    _ => drop(push_numbered(&store, size + n).await),
                }
                slowest = slowest.max(begun.elapsed());
                requests += 1;
            }
            (requests, slowest)
        })
    });
    let clients: Vec<_> = clients.collect();
    let begun = Instant::now();
    let mut report = engine.collect().await;
    println!("collected in {:?}: {report:?}", begun.elapsed());
    // Its blobs have their grace from then on.
    let nobody_pushes = time.write().await;
    NOW.fetch_add(2 * DAY, Ordering::SeqCst);
    drop(nobody_pushes);
    let begun = Instant::now();
    let blobs = engine.collect().await;
    println!("collected in {:?}: {blobs:?}", begun.elapsed());
    (report.links, report.objects) = (blobs.links, blobs.objects);
    let begun = Instant::now();
    let checked = engine.assert_sound().await;
    println!("checked in {:?}: {checked:?}", begun.elapsed());
    done.store(true, Ordering::Relaxed);
    let mut pushed_again = 0;
    for client in clients {
        let (requests, slowest) = client.await.unwrap();
        println!("{requests} pushes and pulls without a failure, the slowest in {slowest:?}");
        pushed_again += requests;
    }
    // What was pushed again meanwhile stays.
    assert!(pushed_again > 0);
    assert!(report.manifests + pushed_again >= size / 2, "{report:?}");
    for manifest in pushed.iter().step_by(2) {
        assert!(store.manifest(&manifest.digest().clone().into()).await.is_ok());
    }
    engine.assert_sound().await;
}
