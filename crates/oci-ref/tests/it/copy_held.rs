//! The large indexes that a copy holds, whatever a source lists: few at a time, without anybody
//! waiting for ever, and so that all is copied.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_ref::suite::content::{Packed, image, image_with, index, seal, tag};
use oci_ref::{
    Copier, CopyOptions, Format, Layout, Manifest, Precondition, Result, Select, Source, Store,
    Target, copy,
};
use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};
use tempfile::TempDir;

use crate::probe::{Held, Probe, has, platform};
use crate::support::new_layout;

/// A large index of entries.
fn large(seed: &str, entries: Vec<Descriptor>) -> Manifest {
    let mut list = ImageIndex::new(entries);
    list.annotations.insert(seed.into(), "x".repeat(100 << 10));
    seal(serde_json::to_vec(&list)).unwrap()
}

fn entries<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Vec<Descriptor> {
    manifests.into_iter().map(|manifest| manifest.descriptor().clone()).collect()
}

/// A source that counts large indexes, of some images.
async fn source_of(images: &[&Packed]) -> Arc<Probe> {
    let from = Probe { held: Some(Held::default()), ..Probe::default() };
    for image in images {
        image.put(&from.inner, &[]).await.unwrap();
    }
    Arc::new(from)
}

async fn put<'a>(from: &Probe, manifests: impl IntoIterator<Item = &'a Manifest>) {
    for manifest in manifests {
        from.inner.put_manifest(manifest, &[], &Precondition::None).await.unwrap();
    }
}

fn most(from: &Probe) -> usize {
    from.held.as_ref().unwrap().most.load(Ordering::SeqCst)
}

/// Waits for a copy, not for ever.
async fn soon<T>(copying: impl Future<Output = Result<T>>) -> T {
    let copied = tokio::time::timeout(Duration::from_secs(300), copying).await;
    copied.expect("nobody waits for ever").unwrap()
}

/// A layout keeps nothing of a manifest in memory.
async fn layout() -> (TempDir, Arc<Layout>) {
    let (directory, layout) = new_layout().await;
    (directory, Arc::new(layout))
}

// Found in review of what hostile registries can make a copy hold.
#[tokio::test]
async fn one_large_index_is_held_however_many_small_ones_list_some() {
    let packed = image("leaf").unwrap();
    let from = source_of(&[&packed]).await;
    let mut small = Vec::new();
    for number in 0..30 {
        let listed =
            [0, 1, 2].map(|part| large(&format!("{number}.{part}"), entries([&packed.manifest])));
        put(&from, &listed).await;
        small.push(index(&listed).unwrap());
    }
    put(&from, &small).await;
    let root = index(&small).unwrap();
    put(&from, [&root]).await;
    let (_directory, to) = layout().await;
    let target = Target::Digest(root.digest().clone());
    let copied = soon(copy(from.clone(), &target, to, CopyOptions::default())).await;
    assert_eq!(copied.manifests, 1 + 30 + 90 + 1);
    assert_eq!(most(&from), 1);
}

#[tokio::test]
async fn one_large_index_is_held_however_deep_they_are_nested() {
    let packed = image("leaf").unwrap();
    let reads = Arc::new(Mutex::new(Vec::new()));
    let heard = reads.clone();
    let mut from = Probe { held: Some(Held::default()), ..Probe::default() };
    from.hears = Some(Box::new(move |manifest: &Manifest| {
        heard.lock().unwrap().push(manifest.digest().clone());
    }));
    packed.put(&from.inner, &[]).await.unwrap();
    // Four levels, in each of which three list all of the level below.
    let mut below = vec![packed.manifest.clone()];
    for depth in 0..4 {
        let level = [0, 1, 2].map(|part| large(&format!("{depth}.{part}"), entries(&below)));
        put(&from, &level).await;
        below = level.into();
    }
    let root = index(&below).unwrap();
    put(&from, [&root]).await;
    let from = Arc::new(from);
    let (_directory, to) = layout().await;
    let target = Target::Digest(root.digest().clone());
    let copied = soon(copy(from.clone(), &target, to, CopyOptions::default())).await;
    assert_eq!(copied.manifests, 1 + 4 * 3 + 1);
    assert_eq!(most(&from), 1);
    // All once, and those by which the deepest was reached once more.
    assert_eq!(reads.lock().unwrap().len(), 1 + 4 * 3 + 1 + 3);
}

/// An entry of an unknown type tells only when it is read that it lists others.
#[tokio::test]
async fn what_turns_out_to_be_an_index_is_copied_as_one() {
    let packed = image("leaf").unwrap();
    let from = source_of(&[&packed]).await;
    let strange = |manifest: &Manifest| Descriptor {
        media_type: MediaType::from_static("application/vnd.example.strange"),
        ..manifest.descriptor().clone()
    };
    let mut listed = Vec::new();
    for number in 0..20 {
        let inner = large(&format!("inner {number}"), entries([&packed.manifest]));
        let outer = large(&format!("outer {number}"), vec![strange(&inner)]);
        put(&from, [&inner, &outer]).await;
        // Twice, by the type that it has too.
        listed.extend([strange(&outer), outer.descriptor().clone()]);
    }
    listed.push(strange(&packed.manifest));
    let root = seal(serde_json::to_vec(&ImageIndex::new(listed))).unwrap();
    put(&from, [&root]).await;
    let (_directory, to) = layout().await;
    let target = Target::Digest(root.digest().clone());
    let options = CopyOptions { concurrency: 1, ..CopyOptions::default() };
    let copied = soon(copy(from.clone(), &target, to, options)).await;
    assert_eq!(copied.manifests, 1 + 40 + 1);
    // One of the chain, and two that are looked at.
    assert!(most(&from) <= 3, "{}", most(&from));
}

/// Each chain of indexes that reaches a large one waits for its turn, and for no index of another.
#[tokio::test]
async fn roots_that_share_large_indexes_do_not_wait_for_each_other() {
    let packed = image("leaf").unwrap();
    for (concurrency, tagged) in [(1, false), (8, false), (1, true), (8, true)] {
        let from = source_of(&[&packed]).await;
        let one = large("one", entries([&packed.manifest]));
        let two = large("two", entries([&one, &packed.manifest]));
        let small = index([&one, &two]).unwrap();
        let three = large("three", entries([&small, &two]));
        let levels = [one.clone(), two.clone(), small.clone(), three.clone()];
        put(&from, &levels).await;
        let roots = [
            index([&three, &one]).unwrap(),
            index([&one, &three]).unwrap(),
            index([&small, &three]).unwrap(),
            index([&packed.manifest, &two, &small]).unwrap(),
            large("four", entries([&small, &three])),
            small,
            three,
            packed.manifest.clone(),
        ];
        put(&from, &roots).await;
        let (_directory, to) = layout().await;
        let options = CopyOptions { concurrency, ..CopyOptions::default() };
        let copier = Copier::new(from.clone(), to.clone(), options);
        let copies = roots.iter().enumerate().map(|(number, root)| {
            let (copier, target) = (copier.clone(), Target::Digest(root.digest().clone()));
            let tags = if tagged { vec![tag(&format!("v{number}"))] } else { vec![] };
            async move { copier.copy(&target, &tags).await }
        });
        soon(futures_util::future::try_join_all(copies)).await;
        for manifest in roots.iter().chain(&levels) {
            let target = Target::Digest(manifest.digest().clone());
            assert_eq!(to.manifest(&target).await.unwrap().bytes(), manifest.bytes());
        }
        // One is at work, and two roots that are large wait for their turn.
        assert!(most(&from) <= 1 + 2, "{}", most(&from));
    }
}

/// All that a destination has of an index, by the digests of what is listed.
async fn images_below(to: &Probe, root: &Digest) -> Vec<Manifest> {
    let (mut images, mut next) = (Vec::new(), vec![root.clone()]);
    while let Some(digest) = next.pop() {
        let manifest = to.inner.manifest(&Target::Digest(digest)).await.unwrap();
        match manifest.index() {
            Some(list) => next.extend(list.manifests.iter().map(|entry| entry.digest.clone())),
            None => images.push(manifest),
        }
    }
    images
}

#[tokio::test]
async fn what_becomes_another_does_so_through_large_indexes() {
    let docker = |seed: &str| {
        let packed = image_with(seed, |manifest| {
            manifest.media_type = Some(MediaType::DOCKER_MANIFEST);
            manifest.config.media_type = MediaType::DOCKER_CONFIG;
            manifest.layers[0].media_type = MediaType::DOCKER_LAYER;
        });
        packed.unwrap()
    };
    let (one, two) = (docker("one"), docker("two"));
    let from = source_of(&[&one, &two]).await;
    let inner = large("inner", entries([&one.manifest, &two.manifest]));
    let strange = Descriptor {
        media_type: MediaType::from_static("application/vnd.example.strange"),
        ..inner.descriptor().clone()
    };
    let outer = large("outer", entries([&inner, &one.manifest]));
    let mut listed = vec![strange];
    listed.extend(entries([&outer, &two.manifest]));
    let root = seal(serde_json::to_vec(&ImageIndex::new(listed))).unwrap();
    put(&from, [&inner, &outer, &root]).await;
    let to = Arc::new(Probe::default());
    let target = Target::Digest(root.digest().clone());
    let options = CopyOptions { format: Format::Oci, ..CopyOptions::default() };
    let copied = soon(copy(from.clone(), &target, to.clone(), options)).await;
    assert_ne!(copied.descriptor.digest, *root.digest());
    let images = images_below(&to, &copied.descriptor.digest).await;
    assert_eq!(images.len(), 2 + 3 + 1);
    assert!(images.iter().all(|image| *image.media_type() == MediaType::OCI_IMAGE_MANIFEST));
}

#[tokio::test]
async fn large_indexes_are_stripped() {
    let (one, two) = (image("one").unwrap(), image("two").unwrap());
    let from = source_of(&[&one, &two]).await;
    let mut listed = entries([&one.manifest, &two.manifest]);
    listed[0].platform = Some(platform("linux/amd64"));
    listed[1].platform = Some(platform("linux/arm64"));
    let inner = large("inner", listed);
    let root = large("root", entries([&inner]));
    put(&from, [&inner, &root]).await;
    let to = Arc::new(Probe::default());
    let target = Target::Digest(root.digest().clone());
    let select = Select::Platforms(vec![platform("linux/arm64")]);
    let options = CopyOptions { select, strip: true, ..CopyOptions::default() };
    let copied = soon(copy(from, &target, to.clone(), options)).await;
    let images = images_below(&to, &copied.descriptor.digest).await;
    assert_eq!(images, [two.manifest]);
    assert!(!has(&to, one.manifest.digest()).await);
    assert!(!has(&to, inner.digest()).await);
}
