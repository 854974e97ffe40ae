//! Untagged manifests, if they are collected: trees of indexes, referrers, and what holds them.

use oci_ref::{Access, Manifest, Precondition, Registry, Source, Store};
use oci_registry_store::EngineOptions;
use oci_spec_types::{ErrorCode, Tag};

use crate::support::*;

async fn put(store: &dyn Store, manifest: &Manifest, tags: &[Tag]) {
    store.put_manifest(manifest, tags, &Precondition::None).await.unwrap();
}

/// Which of some manifests are there. Reading them renews nothing.
async fn here<const N: usize>(store: &dyn Store, manifests: [&Manifest; N]) -> [bool; N] {
    let mut found = [false; N];
    for (found, manifest) in found.iter_mut().zip(manifests) {
        *found = match store.manifest(&manifest.digest().clone().into()).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => panic!("{error:?}"),
        };
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn untagged_manifests_stay_unless_their_removal_is_asked_for() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let manifest = push_image(&*store, "x", &[]).await;
    let tagged = push_image(&*store, "y", &[tag("t")]).await;
    drop(store);
    let engine = engine.age(1000 * DAY).await;
    let report = engine.collect().await;
    assert_eq!((report.manifests, report.links), (0, 0));
    let report = engine.collect_untagged().await;
    assert_eq!((report.manifests, report.bytes), (1, manifest.bytes().len() as u64));
    let store = engine.repository("a/b").await;
    assert_eq!(here(&*store, [&manifest, &tagged]).await, [false, true]);
}

/// The bytes of a manifest, and the repository, go with the last that has it.
#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_counted_where_they_are() {
    let engine = TestEngine::new().await;
    let (one, two) = (engine.repository("one").await, engine.repository("two").await);
    let manifest = push_image(&*one, "x", &[]).await;
    push_image(&*two, "x", &[tag("t")]).await;
    drop((one, two));
    let engine = engine.age(DAY).await;
    let report = engine.collect_untagged().await;
    assert_eq!((report.manifests, report.bytes), (1, 0));
    let two = engine.repository("two").await;
    assert_eq!(here(&*two, [&manifest]).await, [true]);
    two.delete_tag(&tag("t")).await.unwrap();
    drop(two);
    let engine = engine.age(DAY).await;
    let report = engine.collect_untagged().await;
    assert_eq!(report.manifests, 1);
    // The config of the first repository has lost its manifest a day ago.
    assert_eq!((report.links, report.bytes), (1, manifest.bytes().len() as u64));
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.blobs, 1);
    for repository in ["one", "two"] {
        let found = engine.registry.repository(&name(repository), Access::Read).await;
        assert_code(found, ErrorCode::NameUnknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_held_by_its_root_and_goes_with_it() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let image_of = |text: &'static str| push_image(&*store, text, &[]);
    let (one, two, alone) = (image_of("1").await, image_of("2").await, image_of("3").await);
    let inner = index(&[&one]);
    let outer = index(&[&inner, &two]);
    let config = describe(b"{}");
    let signature = image(&config, &[], "signature", Some(one.descriptor()));
    let of_signature = image(&config, &[], "of signature", Some(signature.descriptor()));
    for manifest in [&inner, &signature, &of_signature] {
        put(&*store, manifest, &[]).await;
    }
    put(&*store, &outer, &[tag("t")]).await;
    drop(store);
    let tree = [&one, &two, &inner, &outer, &signature, &of_signature];
    let engine = engine.age(2 * DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 1);
    let store = engine.repository("a/b").await;
    assert_eq!(here(&*store, tree).await, [true; 6]);
    assert_eq!(here(&*store, [&alone]).await, [false]);

    store.delete_tag(&tag("t")).await.unwrap();
    assert_eq!(engine.collect_untagged().await.manifests, 0);
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 6, "all go in one run");
    let store = engine.repository("a/b").await;
    assert_eq!(here(&*store, tree).await, [false; 6]);
}

/// Its age counts from when the tag left, or the index went, however old the push is.
#[tokio::test(flavor = "multi_thread")]
async fn the_age_begins_when_the_last_hold_is_lost() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let moved = push_image(&*store, "moved", &[tag("t")]).await;
    let deep = push_image(&*store, "deep", &[]).await;
    let inner = index(&[&deep]);
    let outer = index(&[&inner]);
    put(&*store, &inner, &[]).await;
    put(&*store, &outer, &[tag("i")]).await;
    let signature = image(&describe(b"{}"), &[], "s", Some(moved.descriptor()));
    put(&*store, &signature, &[]).await;
    drop(store);
    let engine = engine.age(2 * DAY).await;
    let store = engine.repository("a/b").await;
    push_image(&*store, "next", &[tag("t")]).await;
    store.delete_manifest(outer.digest()).await.unwrap();
    let all = [&moved, &signature, &inner, &deep];
    assert_eq!(engine.collect_untagged().await.manifests, 0);
    store.delete_manifest(moved.digest()).await.unwrap();
    assert_eq!(engine.collect_untagged().await.manifests, 0);
    assert_eq!(here(&*store, all).await, [false, true, true, true]);
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_about_what_it_lists_goes_with_it() {
    for tagged in [0, 1, 2] {
        let engine = TestEngine::new().await;
        let store = engine.repository("a/b").await;
        let subject = push_image(&*store, "s", &[]).await;
        let about = index_about(&[&subject], Some(&subject));
        put(&*store, &about, &[]).await;
        match tagged {
            1 => put(&*store, &subject, &[tag("t")]).await,
            2 => put(&*store, &about, &[tag("t")]).await,
            _ => {}
        }
        drop(store);
        let engine = engine.age(DAY).await;
        let expected = if tagged == 0 { 2 } else { 0 };
        assert_eq!(engine.collect_untagged().await.manifests, expected, "{tagged}");
        if tagged == 0 {
            continue;
        }
        let store = engine.repository("a/b").await;
        store.delete_tag(&tag("t")).await.unwrap();
        drop(store);
        let engine = engine.age(DAY).await;
        assert_eq!(engine.collect_untagged().await.manifests, 2, "{tagged}");
    }
}

/// A push asks for an image, is told that it is there, and then counts on it.
#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_manifest_keeps_it() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let (child, other) = (push_image(&*store, "c", &[]).await, push_image(&*store, "o", &[]).await);
    let parent = index(&[&child]);
    put(&*store, &parent, &[tag("t")]).await;
    drop(store);
    // The collector has seen that it is held.
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 1);
    let store = engine.repository("a/b").await;
    assert_eq!(here(&*store, [&child, &other]).await, [true, false]);
    store.delete_tag(&tag("t")).await.unwrap();
    drop(store);
    let engine = engine.age(DAY).await;
    let store = engine.repository("a/b").await;
    store.resolve(&child.digest().clone().into()).await.unwrap();
    assert_eq!(engine.collect_untagged().await.manifests, 1);
    assert_eq!(here(&*store, [&child, &parent]).await, [true, false]);
    put(&*store, &parent, &[tag("t")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_a_tag_holds_what_was_pushed_without() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let manifest = push_image(&*store, "x", &[]).await;
    let twice = push_image(&*store, "y", &[tag("a")]).await;
    push_image(&*store, "y", &[]).await;
    drop(store);
    let engine = engine.age(DAY).await;
    let store = engine.repository("a/b").await;
    put(&*store, &manifest, &[tag("t")]).await;
    assert_eq!(engine.collect_untagged().await.manifests, 0);
    assert_eq!(here(&*store, [&manifest, &twice]).await, [true, true]);
}

/// More than one step deletes at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wide_and_deep_tree_goes_in_steps() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let child = push_image(&*store, "child", &[]).await;
    let mut above = Vec::new();
    for n in 0..350 {
        let referrer = image(&describe(b"{}"), &[], &n.to_string(), Some(child.descriptor()));
        put(&*store, &referrer, &[]).await;
        let parent = index(&[&child, &referrer]);
        put(&*store, &parent, &[]).await;
        above.push(parent);
    }
    put(&*store, &above[170], &[tag("t")]).await;
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 349);
    let store = engine.repository("a/b").await;
    store.delete_tag(&tag("t")).await.unwrap();
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 352);
}

/// The referrers of a deleted subject become garbage, however many there are; those that somebody
/// relies on before that stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_with_many_referrers() {
    let mut options = EngineOptions::default();
    options.sync = false;
    let engine = TestEngine::with(options).await;
    let store = engine.repository("a/b").await;
    let subject = push_image(&*store, "subject", &[tag("t")]).await;
    let config = describe(b"{}");
    let referrers: Vec<Manifest> = (0..1203)
        .map(|n| image(&config, &[], &n.to_string(), Some(subject.descriptor())))
        .collect();
    for referrer in &referrers {
        put(&*store, referrer, &[]).await;
    }
    drop(store);
    // They are held, and no candidates any more.
    let engine = engine.age(2 * DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 0);
    let store = engine.repository("a/b").await;
    store.delete_manifest(subject.digest()).await.unwrap();
    engine.assert_sound().await;
    assert_eq!(count_referrers(&*store, &subject).await, 1203);
    drop(store);
    let engine = engine.age(2 * DAY).await;
    let store = engine.repository("a/b").await;
    // Some are told to be here, which is a promise: the first and the last, by digest.
    let mut kept: Vec<&Manifest> = referrers.iter().collect();
    kept.sort_unstable_by_key(|it| it.digest().to_string());
    let kept = [kept[0], kept[1202]];
    for kept in kept {
        store.resolve(&kept.digest().clone().into()).await.unwrap();
    }
    assert_eq!(engine.collect_untagged().await.manifests, 1201);
    assert_eq!(here(&*store, kept).await, [true; 2]);
    assert_eq!(count_referrers(&*store, &subject).await, 2);
    engine.assert_sound().await;
    drop(store);
    let engine = engine.age(2 * DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 2);
}

async fn count_referrers(store: &dyn Store, subject: &Manifest) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let page =
            store.referrers(subject.digest(), None, after.as_ref(), 1000).await.unwrap().page;
        count += page.items.len();
        after = page.next;
        if after.is_none() {
            return count;
        }
    }
}
