//! Two engines on one database and one directory.

use std::time::Duration;

use oci_ref::{
    Access, ByteRange, Error, ErrorKind, Precondition, Registry, Source, Staged, Store, UploadId,
};
use oci_registry_store::{DurableRegistry, EngineOptions};
use oci_spec_types::ErrorCode;
use tempfile::TempDir;

use super::server;
use crate::support::*;

/// Two engines, and what they share.
struct Replicas {
    directory: TempDir,
    url: String,
    options: EngineOptions,
    one: DurableRegistry,
    two: DurableRegistry,
}

impl Replicas {
    async fn new() -> Self {
        // Not renewed while a test runs.
        Self::with_lease(Duration::from_secs(60 * 60)).await
    }

    async fn with_lease(lease: Duration) -> Self {
        let (directory, url) = (tempfile::tempdir().unwrap(), server::fresh_url().await);
        let mut options = EngineOptions::default();
        options.database = url.parse().unwrap();
        options.lease = lease;
        let open = || DurableRegistry::open(directory.path(), options.clone());
        let (one, two) = (open().await.unwrap(), open().await.unwrap());
        Self { directory, url, options, one, two }
    }

    async fn stores(&self) -> (std::sync::Arc<dyn Store>, std::sync::Arc<dyn Store>) {
        let open = async |registry: &DurableRegistry| {
            registry.repository(&name("a/b"), Access::Write).await.unwrap()
        };
        (open(&self.one).await, open(&self.two).await)
    }

    fn objects(&self) -> usize {
        objects_in(self.directory.path()).len()
    }

    /// Makes the database believe that nobody has been heard of for long.
    async fn forget_leases(&self) {
        server::execute(
            &self.url,
            "UPDATE replica SET until = now() - interval '1 day', lease = interval '-1 day'",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_stores_the_other_reads_at_once() {
    if !server::is_there("what_one_stores_the_other_reads_at_once") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    for (seed, size) in [(1, 100), (2, 700_000)] {
        let blob = push(&*one, &noise(size, seed)).await;
        assert_eq!(pull(&*two, &blob.digest, ByteRange::All).await.unwrap(), noise(size, seed));
    }
    let manifest = push_image(&*one, "x", &[tag("t")]).await;
    assert_eq!(two.manifest(&tag("t").into()).await.unwrap().bytes(), manifest.bytes());
    // The tag moves, and goes; the manifest goes: nothing is remembered of what was.
    let moved = push_image(&*two, "y", &[tag("t")]).await;
    assert_eq!(one.resolve(&tag("t").into()).await.unwrap().digest, *moved.digest());
    two.delete_tag(&tag("t")).await.unwrap();
    assert_code(one.manifest(&tag("t").into()).await, ErrorCode::ManifestUnknown);
    two.delete_manifest(manifest.digest()).await.unwrap();
    assert_code(one.manifest(&manifest.digest().clone().into()).await, ErrorCode::ManifestUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_from_one_to_the_other() {
    if !server::is_there("an_upload_goes_from_one_to_the_other") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    for at in [0, 1000, 40_000, 700_000] {
        let bytes = noise(1_500_000, at as u64);
        let digest = describe(&bytes).digest;
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let mut staged = two.resume(&id).await.unwrap();
        assert_eq!(staged.offset(), at as u64);
        staged.append(bytes.slice(at..at + 300_000)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        // Nothing but the record says where it is.
        let mut staged = one.resume(&id).await.unwrap();
        staged.append(bytes.slice(at + 300_000..)).await.unwrap();
        staged.commit(&digest).await.unwrap();
        assert_eq!(pull(&*two, &digest, ByteRange::All).await.unwrap(), bytes);
        assert_code(two.resume(&id).await, ErrorCode::BlobUploadUnknown);
    }
    assert_eq!(server::number(&replicas.url, "SELECT count(*) FROM claim").await, 0);
    assert_eq!(replicas.objects(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_has_nothing_yet_is_free_when_it_was_suspended() {
    if !server::is_there("an_upload_that_has_nothing_yet_is_free_when_it_was_suspended") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    let mut id = one.stage(sha256()).await.unwrap().suspend().await.unwrap();
    for store in [&one, &one, &two, &one, &two, &two] {
        id = store.resume(&id).await.unwrap().suspend().await.unwrap();
    }
    let claims = "SELECT count(*) FROM claim";
    assert_eq!(server::number(&replicas.url, claims).await, 0);
    let empty = noise(0, 0);
    two.resume(&id).await.unwrap().commit(&describe(&empty).digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_on_two_replicas_one_wins() {
    if !server::is_there("of_two_writers_on_two_replicas_one_wins") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    for at in [0, 1000, 700_000] {
        let bytes = noise(800_000, at as u64);
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let (first, second) = tokio::join!(one.resume(&id), two.resume(&id));
        let (mut winner, loser) = match (first, second) {
            (Ok(winner), loser) | (loser, Ok(winner)) => (winner, loser),
            _ => panic!("nobody won"),
        };
        assert_kind(loser, ErrorKind::RangeInvalid { size: at as u64 });
        winner.append(bytes.slice(at..)).await.unwrap();
        assert_kind(two.resume(&id).await, ErrorKind::RangeInvalid { size: at as u64 });
        winner.commit(&describe(&bytes).digest).await.unwrap();
        assert_code(two.resume(&id).await, ErrorCode::BlobUploadUnknown);
        assert_eq!(pull(&*two, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
    }
}

/// Resumes as soon as a claim is free.
async fn resume(store: &dyn Store, id: &UploadId) -> Box<dyn Staged> {
    for _ in 0..4000 {
        match store.resume(id).await {
            Ok(staged) => return staged,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::RangeInvalid { .. }), "{error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("upload {} stays claimed", id.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_upload_is_free_for_the_other() {
    if !server::is_there("a_dropped_upload_is_free_for_the_other") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    for at in [0, 700_000] {
        let bytes = noise(900_000, 3 + at as u64);
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let mut staged = one.resume(&id).await.unwrap();
        staged.append(noise(600_000, 99)).await.unwrap();
        drop(staged);
        let mut staged = resume(&*two, &id).await;
        assert_eq!(staged.offset(), at as u64);
        staged.append(bytes.slice(at..)).await.unwrap();
        staged.commit(&describe(&bytes).digest).await.unwrap();
        assert_eq!(pull(&*one, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
    }
}

/// Whoever was taken for dead may still be writing: that must not harm what the other writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_taken_for_dead_harms_nobody() {
    if !server::is_there("a_writer_that_was_taken_for_dead_harms_nobody") {
        return;
    }
    for zombie_first in [false, true] {
        let replicas = Replicas::new().await;
        let (one, two) = replicas.stores().await;
        let bytes = noise(2_000_000, 1);
        let digest = describe(&bytes).digest;
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..600_000)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let mut zombie = one.resume(&id).await.unwrap();
        zombie.append(noise(300_000, 66)).await.unwrap();
        assert_kind(two.resume(&id).await, ErrorKind::RangeInvalid { size: 600_000 });

        replicas.forget_leases().await;
        let mut heir = two.resume(&id).await.unwrap();
        assert_eq!(heir.offset(), 600_000);
        heir.append(bytes.slice(600_000..)).await.unwrap();
        // The same place of the same upload, with other bytes.
        zombie.append(noise(1_500_000, 67)).await.unwrap();
        if zombie_first {
            zombie.suspend().await.unwrap();
            assert_kind(heir.commit(&digest).await, ErrorKind::RangeInvalid { size: 2_400_000 });
            assert_eq!(one.blob_size(&digest).await.unwrap(), None);
            continue;
        }
        heir.commit(&digest).await.unwrap();
        assert_code(zombie.suspend().await, ErrorCode::BlobUploadUnknown);
        for store in [&one, &two] {
            assert_eq!(pull(&**store, &digest, ByteRange::All).await.unwrap(), bytes);
        }
        assert_eq!(replicas.objects(), 1);
        let pending = "SELECT count(*) FROM pending_object";
        assert_eq!(server::number(&replicas.url, pending).await, 0);
    }
}

/// What took over and gave up leaves the next one just as careful.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_taken_over_and_given_up() {
    if !server::is_there("a_claim_that_was_taken_over_and_given_up") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    let bytes = noise(2_000_000, 1);
    let digest = describe(&bytes).digest;
    let mut staged = one.stage(sha256()).await.unwrap();
    staged.append(bytes.slice(..600_000)).await.unwrap();
    let id = staged.suspend().await.unwrap();
    let mut zombie = one.resume(&id).await.unwrap();
    zombie.append(noise(300_000, 66)).await.unwrap();
    replicas.forget_leases().await;
    drop(two.resume(&id).await.unwrap());
    let mut heir = resume(&*two, &id).await;
    heir.append(bytes.slice(600_000..)).await.unwrap();
    zombie.append(noise(1_500_000, 67)).await.unwrap();
    heir.commit(&digest).await.unwrap();
    assert_eq!(pull(&*one, &digest, ByteRange::All).await.unwrap(), bytes);
    assert_code(zombie.suspend().await, ErrorCode::BlobUploadUnknown);
}

/// What a live replica is writing is not swept by another, nor by one that starts; what a dead one has left is.
#[tokio::test(flavor = "multi_thread")]
async fn sweeps_take_what_the_dead_have_left() {
    if !server::is_there("sweeps_take_what_the_dead_have_left") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, _) = replicas.stores().await;
    let bytes = noise(3 * (256 << 10), 1);
    let mut live = one.stage(sha256()).await.unwrap();
    live.append(bytes.clone()).await.unwrap();
    let mut lost = one.stage(sha256()).await.unwrap();
    lost.append(noise(3 * (256 << 10), 2)).await.unwrap();
    assert_eq!(replicas.objects(), 2);
    replicas.two.sweep().await.unwrap();
    let third = DurableRegistry::open(replicas.directory.path(), replicas.options.clone());
    let third = third.await.unwrap();
    assert_eq!(replicas.objects(), 2);
    live.commit(&describe(&bytes).digest).await.unwrap();

    replicas.forget_leases().await;
    third.sweep().await.unwrap();
    assert_eq!(replicas.objects(), 1);
    // Who had only been slow learns that it has to begin again, and nothing half-written gets a name.
    let result = lost.commit(&describe(&noise(3 * (256 << 10), 2)).digest).await;
    assert_kind(result, ErrorKind::Unavailable);
    assert_eq!(pull(&*one, &describe(&bytes).digest, ByteRange::All).await.unwrap(), bytes);
}

/// A lease is renewed, so that it does not run out under whoever holds it.
#[tokio::test(flavor = "multi_thread")]
async fn leases_are_renewed() {
    if !server::is_there("leases_are_renewed") {
        return;
    }
    let replicas = Replicas::with_lease(Duration::from_millis(200)).await;
    let client = server::connect(&replicas.url).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 8 {
        for row in client.query("SELECT until::text FROM replica", &[]).await.unwrap() {
            seen.insert(row.get::<_, String>(0));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Replicas change the same repository; whatever is refused is refused whole.
#[tokio::test(flavor = "multi_thread")]
async fn preconditions_hold_across_replicas() {
    if !server::is_there("preconditions_hold_across_replicas") {
        return;
    }
    let replicas = Replicas::new().await;
    let (one, two) = replicas.stores().await;
    push_image(&*one, "first", &[]).await;
    for round in 0..10 {
        let stores = [&one, &two, &one, &two];
        let puts = stores.iter().enumerate().map(|(n, store)| async move {
            let manifest = image(&describe(b"{}"), &[], &format!("{round}/{n}"), None);
            let tags = [tag(&format!("t{round}"))];
            let put = store.put_manifest(&manifest, &tags, &Precondition::Absent).await;
            put.map(|()| manifest.digest().clone())
        });
        let outcomes: Vec<Result<_, Error>> = futures_util::future::join_all(puts).await;
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        for lost in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(*lost.kind(), ErrorKind::PreconditionFailed, "{lost:?}");
        }
        let named = two.resolve(&tag(&format!("t{round}")).into()).await.unwrap();
        assert_eq!(named.digest, *won[0]);
    }
}
