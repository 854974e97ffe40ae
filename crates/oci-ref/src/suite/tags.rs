//! Tags: listing, moving, conditions, many writers.

use std::sync::Arc;

use futures_util::future::try_join_all;
use oci_spec_types::Tag;

use super::check::{manifest_is, no_manifest, not_found, refused, tags};
use super::content::{image, tag};
use super::{Harness, cases};
use crate::{Cursor, ErrorKind, Manifest, Precondition, Result, Store};

cases![
    tags_are_listed_in_order_and_in_pages,
    a_repository_without_content_has_no_tags,
    a_tag_moves,
    many_tags_at_once,
    deleting_a_tag_leaves_the_manifest_and_its_other_tags,
    unknown_tags_cannot_be_deleted,
    conditions_hold_or_nothing_moves,
    two_writers_lose_nothing,
];

async fn tags_are_listed_in_order_and_in_pages(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let packed = image("listed")?;
    let names = ["b", "B", "a", "a.1", "a-1", "a_1", "_", "10", "9", "v1.10", "v1.9", "latest"];
    for name in names {
        packed.put(&store, &[tag(name)]).await?;
    }
    let mut sorted = names;
    sorted.sort_unstable();
    for limit in [1, 2, 5, 11, 12, 13, 1000] {
        assert_eq!(tags(&store, limit).await?, sorted, "in pages of {limit}");
    }
    for (after, expected) in [("9", 2), ("A", 2), ("a", 5), ("zz", 12)] {
        let after = Cursor::After(after.into());
        let page = store.tags(Some(&after), 100).await?;
        let found: Vec<_> = page.items.iter().map(Tag::as_str).collect();
        assert_eq!(found, sorted[expected..], "after {after:?}");
        assert_eq!(page.next, None, "after {after:?}");
    }
    let page = store.tags(None, 0).await?;
    assert!(page.items.is_empty() && page.next.is_none(), "a page of no tags: {page:?}");
    Ok(())
}

async fn a_repository_without_content_has_no_tags(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    match store.tags(None, 10).await {
        Ok(page) => assert!(page.items.is_empty() && page.next.is_none(), "{page:?}"),
        unknown => not_found(unknown, "tags of a repository without content"),
    }
    Ok(())
}

async fn a_tag_moves(harness: &dyn Harness) -> Result<()> {
    let [store, other] = harness.handles().await;
    let versions = [image("one")?, image("two")?, image("three")?];
    for version in versions.iter().chain(&versions) {
        version.put(&store, &[tag("latest")]).await?;
        manifest_is(&*store, &version.manifest, &[tag("latest")]).await?;
        manifest_is(&*other, &version.manifest, &[tag("latest")]).await?;
        assert_eq!(tags(&store, 10).await?, ["latest"]);
    }
    for version in &versions {
        manifest_is(&*store, &version.manifest, &[]).await?;
    }
    Ok(())
}

async fn many_tags_at_once(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (packed, other) = (image("many tags")?, image("another")?);
    other.put(&store, &[tag("t3"), tag("stays")]).await?;
    let many: Vec<Tag> = (0..10).map(|n| tag(&format!("t{n}"))).collect();
    packed.put(&store, &many).await?;
    manifest_is(&*store, &packed.manifest, &many).await?;
    manifest_is(&*store, &other.manifest, &[tag("stays")]).await?;
    assert_eq!(tags(&store, 100).await?.len(), 11);
    Ok(())
}

async fn deleting_a_tag_leaves_the_manifest_and_its_other_tags(
    harness: &dyn Harness,
) -> Result<()> {
    let store = harness.store().await;
    let packed = image("siblings")?;
    packed.put(&store, &["a", "b", "c"].map(tag)).await?;
    store.delete_tag(&tag("b")).await?;
    no_manifest(&*store, tag("b")).await;
    manifest_is(&*store, &packed.manifest, &[tag("a"), tag("c")]).await?;
    assert_eq!(tags(&store, 10).await?, ["a", "c"]);
    store.delete_tag(&tag("a")).await?;
    store.delete_tag(&tag("c")).await?;
    assert!(tags(&store, 10).await?.is_empty());
    manifest_is(&*store, &packed.manifest, &[]).await?;
    packed.put(&store, &[tag("b")]).await?;
    manifest_is(&*store, &packed.manifest, &[tag("b")]).await
}

async fn unknown_tags_cannot_be_deleted(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    image("known")?.put(&store, &[tag("known")]).await?;
    not_found(store.delete_tag(&tag("unknown")).await, "deleting an unknown tag");
    assert_eq!(tags(&store, 10).await?, ["known"]);
    Ok(())
}

async fn conditions_hold_or_nothing_moves(harness: &dyn Harness) -> Result<()> {
    let store = harness.store().await;
    let (old, new) = (image("old")?, image("new")?);
    let latest = || [tag("latest")];
    if !store.capabilities().preconditions {
        new.put(&store, &[]).await?;
        let moved = store.put_manifest(&new.manifest, &latest(), &Precondition::Absent).await;
        let error = refused(moved, "a condition that the store does not know");
        assert!(error.is_unsupported(), "{error:?}");
        no_manifest(&*store, tag("latest")).await;
        return Ok(());
    }
    old.put(&store, &[]).await?;
    new.put(&store, &[]).await?;
    let (old, new) = (old.manifest, new.manifest);
    let is = |manifest: &Manifest| Precondition::Matches(vec![manifest.digest().clone()]);

    demand(&*store, &old, &Precondition::Exists, false).await?;
    demand(&*store, &old, &is(&old), false).await?;
    no_manifest(&*store, tag("latest")).await;
    demand(&*store, &old, &Precondition::Absent, true).await?;
    demand(&*store, &new, &Precondition::Absent, false).await?;
    demand(&*store, &new, &is(&new), false).await?;
    demand(&*store, &new, &Precondition::Matches(Vec::new()), false).await?;
    manifest_is(&*store, &old, &latest()).await?;
    demand(&*store, &new, &is(&old), true).await?;
    demand(&*store, &old, &Precondition::Exists, true).await?;
    let either = vec![new.digest().clone(), old.digest().clone()];
    demand(&*store, &new, &Precondition::Matches(either), true).await
}

/// Moves `latest` under a condition, which holds or does not.
async fn demand(
    store: &dyn Store,
    manifest: &Manifest,
    when: &Precondition,
    holds: bool,
) -> Result<()> {
    let moved = store.put_manifest(manifest, &[tag("latest")], when).await;
    if holds {
        moved?;
        return manifest_is(store, manifest, &[tag("latest")]).await;
    }
    let error = refused(moved, &format!("{when:?}"));
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed, "{when:?}: {error:?}");
    Ok(())
}

async fn two_writers_lose_nothing(harness: &dyn Harness) -> Result<()> {
    let handles = harness.handles().await;
    let images = Arc::new([image("first writer")?, image("second writer")?]);
    for packed in images.iter() {
        packed.put(&handles[0], &[]).await?;
    }
    let writers = (0..2).map(|writer| {
        let (store, images) = (handles[writer].clone(), images.clone());
        let work = async move {
            for n in 0..50 {
                let manifest = &images[writer].manifest;
                let name = tag(&format!("w{writer}-{n:02}"));
                store.put_manifest(manifest, &[name], &Precondition::None).await?;
            }
            Result::<()>::Ok(())
        };
        async { tokio::spawn(work).await.expect("a writer does not panic") }
    });
    try_join_all(writers).await?;
    for store in &handles {
        let found = tags(store, 1000).await?;
        let expected: Vec<_> =
            (0..2).flat_map(|writer| (0..50).map(move |n| format!("w{writer}-{n:02}"))).collect();
        assert_eq!(found, expected, "tags of two writers");
    }
    Ok(())
}
