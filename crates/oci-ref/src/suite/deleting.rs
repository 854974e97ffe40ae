//! Deleting manifests and blobs.

use oci_spec_types::{Digest, ErrorCode};

use super::check::{blob_is, manifest_is, no_blob, no_manifest, not_found, refused_as, tags};
use super::content::{image, index, noise_blob, tag};
use super::{Harness, cases};
use crate::{Precondition, Result, Target};

cases![
    deleting_a_manifest_takes_its_tags_along,
    deleting_an_index_leaves_its_manifests,
    unknown_manifests_cannot_be_deleted,
    blobs_are_deleted,
];

async fn deleting_a_manifest_takes_its_tags_along(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let (gone, stays) = (image("gone")?, image("stays")?);
    gone.put(&store, &["a", "b"].map(tag)).await?;
    stays.put(&store, &[tag("c")]).await?;
    manifest_is(&*other, &gone.manifest, &["a", "b"].map(tag)).await?;
    store.delete_manifest(gone.manifest.digest()).await?;
    for store in [&store, &other] {
        no_manifest(&**store, gone.manifest.digest().clone()).await;
        no_manifest(&**store, tag("a")).await;
        no_manifest(&**store, Target::Pinned(tag("b"), gone.manifest.digest().clone())).await;
        assert_eq!(tags(&**store, 10).await?, ["c"]);
        manifest_is(&**store, &stays.manifest, &[tag("c")]).await?;
    }
    gone.put(&store, &[tag("again")]).await?;
    manifest_is(&*other, &gone.manifest, &[tag("again")]).await?;
    no_manifest(&*store, tag("a")).await;
    Ok(())
}

async fn deleting_an_index_leaves_its_manifests(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let images = [image("one")?, image("two")?];
    for packed in &images {
        packed.put(&store, &[]).await?;
    }
    let inner = index([&images[0].manifest])?;
    store.put_manifest(&inner, &[], &Precondition::None).await?;
    let outer = index([&inner, &images[1].manifest])?;
    store.put_manifest(&outer, &[tag("outer")], &Precondition::None).await?;
    store.delete_manifest(outer.digest()).await?;
    no_manifest(&*store, tag("outer")).await;
    no_manifest(&*store, outer.digest().clone()).await;
    for there in [&inner, &images[0].manifest, &images[1].manifest] {
        manifest_is(&*store, there, &[]).await?;
    }
    store.delete_manifest(inner.digest()).await?;
    no_manifest(&*store, inner.digest().clone()).await;
    for packed in &images {
        manifest_is(&*store, &packed.manifest, &[]).await?;
    }
    Ok(())
}

async fn unknown_manifests_cannot_be_deleted(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("known")?;
    packed.put(&store, &[tag("known")]).await?;
    not_found(
        store.delete_manifest(&Digest::sha256(b"unknown")).await,
        "deleting an unknown manifest",
    );
    store.delete_manifest(packed.manifest.digest()).await?;
    not_found(store.delete_manifest(packed.manifest.digest()).await, "deleting a manifest twice");
    Ok(())
}

async fn blobs_are_deleted(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let (gone, stays) = (noise_blob("gone", 20_000), noise_blob("stays", 20_000));
    gone.put(&store).await?;
    stays.put(&store).await?;
    if let Err(error) = store.delete_blob(&gone.descriptor.digest).await {
        assert!(error.is_unsupported(), "a blob that cannot be deleted: {error:?}");
        return blob_is(&*store, &gone.descriptor, &gone.bytes).await;
    }
    for store in [&store, &other] {
        no_blob(&**store, &gone.descriptor.digest).await?;
        blob_is(&**store, &stays.descriptor, &stays.bytes).await?;
    }
    let again = store.delete_blob(&gone.descriptor.digest).await;
    refused_as(ErrorCode::BlobUnknown, again, "deleting a blob twice");
    gone.put(&store).await?;
    blob_is(&*other, &gone.descriptor, &gone.bytes).await
}
