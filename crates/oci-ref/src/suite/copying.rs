//! Copying real content into a store and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_spec_types::Digest;

use super::check::{manifest_is, tags};
use super::{Harness, cases, sample};
use crate::{
    CopyOptions, Found, Manifest, Memory, Ref, Result, Source, Target, WalkOptions, copy, walk_refs,
};

cases![sample_content_is_copied_in_and_out_unchanged, sample_content_is_written_directly];

async fn sample_content_is_copied_in_and_out_unchanged(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let (from, back) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
    let sample = sample::write_all(&*from).await?;
    for entry in &sample.entries {
        let options =
            CopyOptions { tags: entry.tag.clone().into_iter().collect(), ..CopyOptions::default() };
        let target = Target::Digest(entry.descriptor.digest.clone());
        let copied = copy(from.clone(), &target, store.clone(), options.clone()).await?;
        assert_eq!(copied.descriptor.digest, entry.descriptor.digest);
        let again = copy(from.clone(), &target, store.clone(), options.clone()).await?;
        let moved = (again.manifests, again.blobs, again.bytes, again.mounted);
        assert_eq!(moved, (0, 0, 0, 0), "{entry:?} copied again moves nothing");
        let all = copied.manifests + copied.blobs + copied.mounted + copied.skipped;
        assert_eq!(again.skipped, all, "{entry:?} copied again skips all");

        copy(other.clone(), &target, back.clone(), options).await?;
        let expected = everything(from.clone(), &target).await?;
        assert!(
            everything(other.clone(), &target).await? == expected,
            "{entry:?} differs in the store"
        );
        assert!(
            everything(back.clone(), &target).await? == expected,
            "{entry:?} differs after both copies"
        );
    }
    assert_eq!(tags(&store, 100).await?, tags(&from, 100).await?);
    for subject in [&sample.image, &sample.index] {
        let found = super::check::referrers(&*store, &subject.digest, None, 10).await?;
        let expected = super::check::referrers(&*from, &subject.digest, None, 10).await?;
        assert!(!expected.is_empty(), "the sample's image and index have referrers");
        assert_eq!(found, expected, "referrers of {}", subject.digest);
    }
    Ok(())
}

async fn sample_content_is_written_directly(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let sample = sample::write_all(&*store).await?;
    for entry in &sample.entries {
        let manifest = store.manifest(&entry.descriptor.digest.clone().into()).await?;
        let tags: Vec<_> = entry.tag.iter().cloned().collect();
        manifest_is(&*store, &manifest, &tags).await?;
        everything(store.clone(), &entry.descriptor.digest.clone().into()).await?;
    }
    Ok(())
}

/// The manifests that a target reaches, and the blobs that they reference, verified.
async fn everything(
    source: Arc<dyn Source>,
    target: &Target,
) -> Result<(BTreeMap<Digest, Manifest>, BTreeMap<Digest, Bytes>)> {
    let root = Ref::read(source, target).await?;
    let mut manifests = BTreeMap::new();
    let mut blobs = BTreeMap::new();
    let mut visits = std::pin::pin!(walk_refs(root, WalkOptions::default()));
    while let Some(visit) = visits.try_next().await? {
        let Found::Ref(found) = visit.found else {
            panic!("{} is neither an image nor an index: {:?}", visit.path, visit.found);
        };
        if let Ref::Image(image) = &found {
            for descriptor in image.descriptors() {
                let bytes = image.read_blob_verified(descriptor, u64::MAX).await?;
                blobs.insert(descriptor.digest.clone(), bytes);
            }
        }
        manifests.insert(found.digest().clone(), found.manifest().clone());
    }
    Ok((manifests, blobs))
}
