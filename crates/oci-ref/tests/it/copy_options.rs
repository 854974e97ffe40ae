//! What a copy can be told: what of an index, with what refers to it, and how much at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use oci_ref::{
    Capabilities, CopyEvent, CopyOptions, ErrorKind, Fanout, ImageBuilder, List, Manifest, Memory,
    Precondition, Select, Source, Store, Target, copy, host_platform,
};
use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};

use crate::probe::{Probe, filled, has, list, platform, run, tag};

// covers: C6
#[tokio::test]
async fn one_image_of_an_index_is_copied_in_its_place() {
    let (from, sample) = filled().await;
    let (_, images) = list(&from, &sample).await;
    let wanted = images[1].platform.clone().unwrap();
    let to = Arc::new(Probe::default());
    let options = CopyOptions {
        select: Select::Image(wanted),
        tags: vec![tag("one")],
        ..CopyOptions::default()
    };
    let copied = run(&from, &sample.index, &to, options).await.unwrap();
    assert_eq!(copied.descriptor.digest, images[1].digest);
    assert_eq!(to.inner.resolve(&tag("one").into()).await.unwrap().digest, images[1].digest);
    assert!(!has(&to, &sample.index.digest).await && !has(&to, &images[0].digest).await);

    let options =
        CopyOptions { select: Select::Image(platform("plan9/mips")), ..CopyOptions::default() };
    let error = run(&from, &sample.index, &to, options).await.unwrap_err();
    assert!(error.to_string().contains("mips") && error.to_string().contains("plan9"), "{error}");
}

// covers: C6
#[tokio::test]
async fn the_systems_own_image_is_copied() {
    let from = Arc::new(Probe::default());
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for platform in [platform("plan9/mips"), host_platform()] {
        let built = ImageBuilder::for_platform(&platform).build().unwrap();
        list.add(built.index_entry());
        built.write(&from.inner, &[]).await.unwrap();
    }
    let list = list.write(&from.inner, &[]).await.unwrap();
    let to = Arc::new(Probe::default());
    let options = CopyOptions { select: Select::Image(host_platform()), ..CopyOptions::default() };
    let copied = run(&from, list.descriptor(), &to, options).await.unwrap();
    assert_eq!(copied.descriptor.digest, list.manifests()[1].digest);
}

// covers: C6
#[tokio::test]
async fn chosen_entries_leave_the_others_listed() {
    let (from, sample) = filled().await;
    let (_, images) = list(&from, &sample).await;
    let choices = [
        Select::Instances(vec![images[0].digest.clone()]),
        Select::Platforms(vec![images[0].platform.clone().unwrap()]),
    ];
    for select in choices {
        let options = CopyOptions { select, ..CopyOptions::default() };
        let whole = Arc::new(Probe::default());
        let error = run(&from, &sample.index, &whole, options.clone()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Sparse, "{error}");
        assert!(whole.inner.is_empty(), "nothing is written to a destination that cannot hold it");

        let sparse = Arc::new(Probe { inner: Memory::sparse(), ..Probe::default() });
        run(&from, &sample.index, &sparse, options).await.unwrap();
        assert!(has(&sparse, &sample.index.digest).await && has(&sparse, &images[0].digest).await);
        assert!(
            !has(&sparse, &images[1].digest).await && !has(&sparse, &sample.nested.digest).await
        );
    }
}

// covers: C6
#[tokio::test]
async fn an_empty_choice_copies_the_list_alone_and_an_unknown_one_is_refused() {
    let (from, sample) = filled().await;
    let to = Arc::new(Probe { inner: Memory::sparse(), ..Probe::default() });
    let choose =
        |digests| CopyOptions { select: Select::Instances(digests), ..CopyOptions::default() };
    let copied = run(&from, &sample.index, &to, choose(Vec::new())).await.unwrap();
    assert_eq!((copied.manifests, copied.blobs), (1, 0));

    let unknown = Digest::sha256(b"unknown");
    let error = run(&from, &sample.index, &to, choose(vec![unknown.clone()])).await.unwrap_err();
    assert!(error.to_string().contains(unknown.as_str()), "{error}");
    let error = run(&from, &sample.image, &to, choose(vec![unknown])).await.unwrap_err();
    assert!(error.to_string().contains("is a single manifest"), "{error}");
    // What is no index is the only entry of itself.
    let own = choose(vec![sample.image.digest.clone()]);
    let copied = run(&from, &sample.image, &to, own).await.unwrap();
    assert_eq!(copied.descriptor.digest, sample.image.digest);
}

/// Stores an index whose subject is `subject`, and that also lists it.
async fn put_list_about(store: &Memory, subject: &Descriptor) -> Manifest {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    list.add(Descriptor::new(subject.media_type.clone(), subject.digest.clone(), subject.size));
    list.set_subject(Some(subject.clone()));
    let list = list.to_manifest().unwrap();
    store.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    list
}

#[tokio::test]
async fn what_refers_to_a_manifest_goes_along_transitively() {
    let (from, sample) = filled().await;
    // A referrer that lists its own subject must not make the copy wait for itself.
    let about = put_list_about(&from.inner, &sample.image).await;
    let about_that = put_list_about(&from.inner, about.descriptor()).await;
    let to = Arc::new(Probe::default());
    run(&from, &sample.image, &to, CopyOptions::default()).await.unwrap();
    assert!(!has(&to, &sample.signature.digest).await, "referrers stay unless asked for");

    let options =
        CopyOptions { referrers: true, tags: vec![tag("image")], ..CopyOptions::default() };
    let once = run(&from, &sample.image, &to, options.clone()).await.unwrap();
    for expected in [&sample.signature.digest, about.digest(), about_that.digest()] {
        assert!(has(&to, expected).await, "{expected}");
    }
    let listed = to.inner.referrers(&sample.image.digest, None, None, 100).await.unwrap();
    let expected = from.inner.referrers(&sample.image.digest, None, None, 100).await.unwrap();
    assert_eq!(listed.page.items, expected.page.items);
    let again = run(&from, &sample.image, &to, options).await.unwrap();
    assert!(once.manifests > 0 && (again.manifests, again.blobs) == (0, 0), "{again:?}");
}

#[tokio::test]
async fn what_lies_under_tags_made_of_the_digest_goes_along() {
    let (from, sample) = filled().await;
    let scheme = format!("sha256-{}", sample.image.digest.encoded());
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    list.add(sample.signature.clone());
    let list = list.to_manifest().unwrap();
    from.inner.put_manifest(&list, &[tag(&scheme)], &Precondition::None).await.unwrap();
    let notes = from.manifest(&Target::Digest(sample.notes.digest.clone())).await.unwrap();
    from.inner
        .put_manifest(&notes, &[tag(&format!("{scheme}.sig"))], &Precondition::None)
        .await
        .unwrap();

    let to = Arc::new(Probe::default());
    let options = CopyOptions { tag_schemes: true, ..CopyOptions::default() };
    run(&from, &sample.image, &to, options).await.unwrap();
    assert_eq!(to.inner.resolve(&tag(&scheme).into()).await.unwrap().digest, *list.digest());
    assert!(has(&to, &sample.signature.digest).await);
    let signature = to.inner.resolve(&tag(&format!("{scheme}.sig")).into()).await.unwrap();
    assert_eq!(signature.digest, sample.notes.digest);
}

/// A list of referrers, as clients write it under the tag of their subject.
fn referrers_list(entries: &[&Descriptor]) -> Manifest {
    let entry =
        |entry: &&Descriptor| Descriptor { artifact_type: Some("a/b".into()), ..(*entry).clone() };
    let index = ImageIndex::new(entries.iter().map(entry).collect());
    Manifest::parse(serde_json::to_vec(&index).unwrap().into(), None, None).unwrap()
}

// oras-project/oras-go#1396, openshift/oc-mirror#981: what has the tag of the tag schema.
// covers: O17
#[tokio::test]
async fn what_the_destination_has_under_such_a_tag_is_not_lost() {
    let (from, sample) = filled().await;
    let scheme = tag(&format!("sha256-{}", sample.image.digest.encoded()));
    let source = referrers_list(&[&sample.signature]);
    from.inner
        .put_manifest(&source, std::slice::from_ref(&scheme), &Precondition::None)
        .await
        .unwrap();
    let notes = from.manifest(&Target::Digest(sample.notes.digest.clone())).await.unwrap();
    let options = || CopyOptions { tag_schemes: true, ..CopyOptions::default() };

    // A list of its own: both are there afterwards, and again.
    let to = Arc::new(Probe::default());
    run(&from, &sample.notes, &to, CopyOptions::default()).await.unwrap();
    let own = referrers_list(&[&sample.notes]);
    to.inner.put_manifest(&own, std::slice::from_ref(&scheme), &Precondition::None).await.unwrap();
    for _ in 0..2 {
        run(&from, &sample.image, &to, options()).await.unwrap();
        let found = to.inner.manifest(&scheme.clone().into()).await.unwrap();
        let listed: Vec<_> = found.manifests().iter().map(|entry| &entry.digest).collect();
        assert_eq!(listed, [&sample.signature.digest, &sample.notes.digest]);
    }

    // Something else: it stays.
    to.inner
        .put_manifest(&notes, std::slice::from_ref(&scheme), &Precondition::None)
        .await
        .unwrap();
    let error = run(&from, &sample.image, &to, options()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Unlisted, "{error}");
    let found = to.inner.resolve(&scheme.clone().into()).await.unwrap();
    assert_eq!(found.digest, sample.notes.digest);

    // The image itself has the tag at the source: that refers to nothing.
    let image = from.manifest(&Target::Digest(sample.image.digest.clone())).await.unwrap();
    from.inner
        .put_manifest(&image, std::slice::from_ref(&scheme), &Precondition::None)
        .await
        .unwrap();
    run(&from, &sample.image, &to, options()).await.unwrap();
    let to = Arc::new(Probe::default());
    run(&from, &sample.image, &to, options()).await.unwrap();
    assert!(to.inner.resolve(&scheme.into()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn events_add_up_to_what_was_done() {
    let (from, sample) = filled().await;
    let to = Arc::new(Probe::default());
    let counts = Arc::new(Mutex::new((0u64, 0u64, 0u64, 0u64)));
    let heard = counts.clone();
    let options = CopyOptions {
        progress: Some(Arc::new(move |event: &CopyEvent<'_>| {
            let mut counts = heard.lock().unwrap();
            match event {
                CopyEvent::Bytes(_, count) => counts.0 += count,
                CopyEvent::Transferred(_) => counts.1 += 1,
                CopyEvent::Written(_) => counts.2 += 1,
                CopyEvent::Skipped(_) => counts.3 += 1,
                _ => {}
            }
        })),
        ..CopyOptions::default()
    };
    let copied = run(&from, &sample.index, &to, options).await.unwrap();
    assert!(copied.blobs > 0);
    assert_eq!(
        *counts.lock().unwrap(),
        (copied.bytes, copied.blobs, copied.manifests, copied.skipped)
    );
}

#[tokio::test]
async fn a_dry_run_says_what_would_move_and_moves_nothing() {
    let (from, sample) = filled().await;
    let to = Arc::new(Probe::default());
    let dry = CopyOptions { dry_run: true, tags: vec![tag("t")], ..CopyOptions::default() };
    let would = run(&from, &sample.index, &to, dry.clone()).await.unwrap();
    assert!(to.inner.is_empty());
    assert_eq!(from.opened.load(Ordering::SeqCst), 0);
    let did = run(&from, &sample.index, &to, CopyOptions { dry_run: false, ..dry.clone() })
        .await
        .unwrap();
    assert_eq!(would, did);
    let again = run(&from, &sample.index, &to, dry).await.unwrap();
    assert_eq!((again.manifests, again.blobs, again.bytes), (0, 0, 0));
}

#[tokio::test]
async fn no_more_moves_at_a_time_than_was_allowed() {
    let (from, sample) = filled().await;
    for (concurrency, bytes_in_flight, most) in [(1, u64::MAX, 1), (3, u64::MAX, 3), (8, 1, 1)] {
        let to = Arc::new(Probe::default());
        from.most_open.store(0, Ordering::SeqCst);
        let options = CopyOptions { concurrency, bytes_in_flight, ..CopyOptions::default() };
        run(&from, &sample.index, &to, options).await.unwrap();
        let open = from.most_open.load(Ordering::SeqCst);
        assert!((1..=most).contains(&open), "{open} blobs were open, at most {most} may be");
    }
}

#[tokio::test]
async fn one_reading_feeds_several_destinations() {
    let (from, sample) = filled().await;
    let alone = Arc::new(Probe::default());
    run(&from, &sample.index, &alone, CopyOptions::default()).await.unwrap();
    let reads = from.opened.swap(0, Ordering::SeqCst);

    let (one, two) = (Arc::new(Probe::default()), Arc::new(Probe::default()));
    // One has a part already.
    run(&from, &sample.nested, &two, CopyOptions::default()).await.unwrap();
    from.opened.store(0, Ordering::SeqCst);
    let both = Arc::new(Fanout::new(one.clone(), vec![two.clone()]));
    let target = Target::Digest(sample.index.digest.clone());
    let options = CopyOptions { tags: vec![tag("t")], ..CopyOptions::default() };
    copy(from.clone(), &target, both, options).await.unwrap();
    assert_eq!(from.opened.load(Ordering::SeqCst), reads);
    for store in [&one, &two] {
        assert_eq!(
            store.inner.resolve(&tag("t").into()).await.unwrap().digest,
            sample.index.digest
        );
        let again = run(&from, &sample.index, store, CopyOptions::default()).await.unwrap();
        assert_eq!((again.manifests, again.blobs), (0, 0));
    }
}

#[tokio::test]
async fn a_destination_that_fails_does_not_stop_the_other() {
    let (from, sample) = filled().await;
    let image = from.manifest(&Target::Digest(sample.image.digest.clone())).await.unwrap();
    let broken = image.blobs().max_by_key(|blob| blob.size).unwrap().clone();
    let good = Arc::new(Probe::default());
    let bad = Arc::new(Probe { unwritable: vec![broken.digest.clone()], ..Probe::default() });
    let both: Arc<dyn Store> = Arc::new(Fanout::new(bad.clone(), vec![good.clone()]));
    let content = oci_ref::SourceBlob::new(from.clone(), broken.digest.clone());
    let error = both.put_blob(&broken, &content).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert_eq!(good.inner.blob_size(&broken.digest).await.unwrap(), Some(broken.size));
    assert_eq!(bad.inner.blob_size(&broken.digest).await.unwrap(), None);
    let both: Capabilities = both.capabilities();
    assert!(both.preconditions && !both.mount);
}
