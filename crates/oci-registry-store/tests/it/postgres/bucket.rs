//! Two engines on one database and one bucket, with nothing else in common.

use std::sync::Arc;
use std::time::Duration;

use oci_ref::{Access, ByteRange, ErrorKind, Registry, Store};
use oci_registry_store::{DurableRegistry, EngineOptions};
use oci_spec_types::ErrorCode;
use tempfile::TempDir;

use super::server;
use crate::s3::S3;
use crate::support::*;

/// More than one request takes: it goes in parts.
const LARGE: usize = 20_000_000;

struct Replicas {
    s3: S3,
    options: EngineOptions,
    url: String,
    directories: [TempDir; 2],
    engines: [DurableRegistry; 2],
}

impl Replicas {
    async fn new() -> Self {
        let (s3, url) = (S3::start().await, server::fresh_url().await);
        let mut options = s3.options();
        options.database = url.parse().unwrap();
        // Not renewed while a test runs.
        options.lease = Duration::from_secs(60 * 60);
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let open = |directory: &TempDir| {
            let path = directory.path().to_owned();
            DurableRegistry::open(path, options.clone())
        };
        let engines = [open(&directories[0]).await.unwrap(), open(&directories[1]).await.unwrap()];
        Self { s3, options, url, directories, engines }
    }

    async fn stores(&self) -> [Arc<dyn Store>; 2] {
        let open = async |engine: &DurableRegistry| {
            engine.repository(&name("a/b"), Access::Write).await.unwrap()
        };
        [open(&self.engines[0]).await, open(&self.engines[1]).await]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_stores_the_other_reads() {
    if !server::is_there("what_one_stores_the_other_reads") {
        return;
    }
    let replicas = Replicas::new().await;
    let [one, two] = replicas.stores().await;
    for (seed, size) in [(1, 100), (2, 700_000), (3, LARGE)] {
        let blob = push(&*one, &noise(size, seed)).await;
        assert_eq!(pull(&*two, &blob.digest, ByteRange::All).await.unwrap(), noise(size, seed));
        push(&*two, &noise(size, seed)).await;
    }
    // Equal content is there once, and nothing lies in the directories.
    assert_eq!(replicas.s3.objects().len(), 2);
    assert!(replicas.directories.iter().all(|place| objects_in(place.path()).is_empty()));
    let manifest = push_image(&*two, "x", &[tag("t")]).await;
    assert_eq!(one.manifest(&tag("t").into()).await.unwrap().bytes(), manifest.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_goes_from_one_to_the_other() {
    if !server::is_there("an_upload_in_parts_goes_from_one_to_the_other") {
        return;
    }
    let replicas = Replicas::new().await;
    let [one, two] = replicas.stores().await;
    for at in [1000, 9_000_000, 14_000_000] {
        let bytes = noise(LARGE, at as u64);
        let digest = describe(&bytes).digest;
        let mut staged = one.stage(sha256()).await.unwrap();
        staged.append(bytes.slice(..at)).await.unwrap();
        let id = staged.suspend().await.unwrap();
        let (first, second) = tokio::join!(one.resume(&id), two.resume(&id));
        let (mut winner, loser) = match (first, second) {
            (Ok(winner), loser) | (loser, Ok(winner)) => (winner, loser),
            _ => panic!("nobody won"),
        };
        assert_kind(loser, ErrorKind::RangeInvalid { size: at as u64 });
        winner.append(bytes.slice(at..at + 300_000)).await.unwrap();
        let id = winner.suspend().await.unwrap();
        let mut staged = two.resume(&id).await.unwrap();
        assert_eq!(staged.offset(), at as u64 + 300_000);
        staged.append(bytes.slice(at + 300_000..)).await.unwrap();
        staged.commit(&digest).await.unwrap();
        assert_eq!(pull(&*one, &digest, ByteRange::All).await.unwrap(), bytes);
        assert_code(one.resume(&id).await, ErrorCode::BlobUploadUnknown);
    }
    assert_eq!(server::number(&replicas.url, "SELECT count(*) FROM pending_object").await, 0);
    assert_eq!(replicas.s3.objects().len(), 3);
    assert_eq!(replicas.s3.uploads(), (0, 0), "uploads are left in the bucket");
}

/// One that ends in the middle of an upload leaves nothing, once its lease has run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_gone_leaves_nothing() {
    if !server::is_there("a_replica_that_is_gone_leaves_nothing") {
        return;
    }
    let replicas = Replicas::new().await;
    let [one, two] = replicas.stores().await;
    let kept = push(&*one, &noise(LARGE, 1)).await;
    let mut staged = one.stage(sha256()).await.unwrap();
    staged.append(noise(LARGE, 2)).await.unwrap();
    // It never comes back, and its lease has run out.
    std::mem::forget((staged, one));
    server::execute(
        &replicas.url,
        "UPDATE replica SET until = now() - interval '1 day', lease = interval '-1 day'",
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let third = DurableRegistry::open(directory.path(), replicas.options.clone()).await.unwrap();
    third.sweep().await.unwrap();
    assert_eq!(server::number(&replicas.url, "SELECT count(*) FROM pending_object").await, 0);
    assert_eq!(replicas.s3.objects().len(), 1);
    assert_eq!(pull(&*two, &kept.digest, ByteRange::All).await.unwrap(), noise(LARGE, 1));
}
