//! Garbage in layouts, and damage to them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use oci_ref::suite::content::{image, image_with, index, noise_blob, tag};
use oci_ref::{
    Blob, Collected, ErrorKind, GcOptions, Layout, LayoutOptions, LayoutProblem, Manifest,
    Precondition, Source, Store,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, MediaType};
use tempfile::TempDir;

use crate::support::{Graph, files, new_layout};

fn path(layout: &Layout, digest: &Digest) -> PathBuf {
    layout.path().join("blobs").join(digest.algorithm()).join(digest.encoded())
}

async fn filled() -> (TempDir, Layout, Graph) {
    let (directory, layout) = new_layout().await;
    let graph = Graph::new();
    for packed in &graph.images {
        packed.put(&layout, &[]).await.unwrap();
    }
    layout.put_manifest(&graph.inner, &[], &Precondition::None).await.unwrap();
    layout.put_manifest(&graph.root, &[tag("root")], &Precondition::None).await.unwrap();
    (directory, layout, graph)
}

// covers: C13
#[tokio::test]
async fn what_nothing_references_is_removed() {
    let (_directory, layout, graph) = filled().await;
    let whole = files(layout.path());
    let nothing = layout.gc(GcOptions::default()).await.unwrap();
    assert_eq!(nothing, Collected::default());
    assert_eq!(files(layout.path()), whole);

    let garbage = noise_blob("garbage", 5000);
    garbage.put(&layout).await.unwrap();
    let bytes = b"by another algorithm".to_vec();
    let other = Descriptor::new(
        MediaType::OCTET_STREAM,
        Algorithm::Sha512.digest(&bytes),
        bytes.len() as u64,
    );
    layout.put_blob(&other, &bytes::Bytes::from(bytes)).await.unwrap();
    let gone = image("gone").unwrap();
    gone.put(&layout, &[tag("gone")]).await.unwrap();
    layout.delete_manifest(gone.manifest.digest()).await.unwrap();

    let expected_bytes =
        5000 + other.size + gone.blobs.iter().map(|blob| blob.descriptor.size).sum::<u64>();
    let before = files(layout.path());
    let dry = GcOptions { dry_run: true, ..GcOptions::default() };
    let would = layout.gc(dry).await.unwrap();
    assert_eq!((would.blobs, would.bytes, would.temporary), (4, expected_bytes, 0));
    assert_eq!(files(layout.path()), before, "a dry run removes nothing");
    let young = GcOptions { min_age: Duration::from_secs(3600), ..GcOptions::default() };
    assert_eq!(layout.gc(young).await.unwrap(), Collected::default());
    assert_eq!(layout.gc(GcOptions::default()).await.unwrap(), would);
    assert_eq!(files(layout.path()), whole);
    assert!(layout.fsck().await.unwrap().is_sound());
    for manifest in graph.manifests() {
        layout.manifest(&manifest.digest().clone().into()).await.unwrap();
    }

    layout.delete_manifest(graph.root.digest()).await.unwrap();
    for child in [&graph.inner, &graph.images[0].manifest] {
        layout.delete_manifest(child.digest()).await.unwrap();
    }
    layout.gc(GcOptions::default()).await.unwrap();
    // The second and the third image are listed again, because the indexes that listed them are gone.
    assert_eq!(layout.entries().await.unwrap().len(), 2);
    assert!(layout.fsck().await.unwrap().is_sound());
    for position in [1, 2] {
        for blob in &graph.images[position].blobs {
            Blob::open(&layout, &blob.descriptor).await.unwrap().into_bytes(1 << 20).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_others_write_is_left_alone() {
    let (_directory, layout) = new_layout().await;
    let blob = noise_blob("slow", 600_000);
    let other = Layout::open(layout.path()).await.unwrap();
    let mut slow = other.stage(Algorithm::Sha256).await.unwrap();
    slow.append(blob.bytes.clone()).await.unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(100_000);
    let age = |path: PathBuf| {
        File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    };
    let temporary = files(layout.path()).into_iter().find(|name| name.contains(".writing-"));
    let temporary = layout.path().join(temporary.expect("an upload has a temporary file"));
    age(temporary.clone());

    // A writer that has ended leaves a file without a lock. Somebody may go on with a part.
    let left = layout.path().join("blobs/.writing-left");
    fs::write(&left, [0; 100]).unwrap();
    let old = layout.path().join("blobs/.partial-sha256-1");
    fs::write(&old, [0; 10]).unwrap();
    age(old.clone());
    let fresh = layout.path().join("blobs/.partial-sha256-2");
    fs::write(&fresh, "x").unwrap();
    // Not ours.
    for name in ["blobs/oci-put-blob1", "blobs/sha256/not-hex", "notes.txt"] {
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        fs::write(layout.path().join(name), "x").unwrap();
    }
    let collected = layout.gc(GcOptions::default()).await.unwrap();
    assert_eq!((collected.blobs, collected.temporary, collected.bytes), (0, 2, 110));
    assert!(!left.exists() && !old.exists() && fresh.exists() && temporary.exists());
    for name in ["blobs/oci-put-blob1", "blobs/sha256/not-hex", "notes.txt"] {
        assert!(layout.path().join(name).exists(), "{name}");
    }
    slow.commit(&blob.descriptor.digest).await.unwrap();
    assert_eq!(layout.blob_size(&blob.descriptor.digest).await.unwrap(), Some(600_000));
}

#[tokio::test]
async fn what_is_not_understood_keeps_what_it_names() {
    let (_directory, layout) = new_layout().await;
    let blob = noise_blob("named", 100);
    blob.put(&layout).await.unwrap();
    let unknown = format!(
        r#"{{"mediaType":"application/vnd.example.manifest.v1+json","blobs":[{{"digest":"{}"}}]}}"#,
        blob.descriptor.digest
    );
    let unknown = Manifest::parse(unknown.into(), None, None).unwrap();
    layout.put_manifest(&unknown, &[tag("unknown")], &Precondition::None).await.unwrap();
    // A subject stays, listed or not.
    let subject = image("subject").unwrap();
    subject.put(&layout, &[]).await.unwrap();
    let about = image_with("about", |manifest| {
        manifest.subject = Some(subject.manifest.descriptor().clone());
    })
    .unwrap();
    about.put(&layout, &[tag("about")]).await.unwrap();
    let text = fs::read_to_string(layout.path().join("index.json")).unwrap();
    let mut listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries = listed["manifests"].as_array_mut().unwrap();
    entries.retain(|entry| entry["digest"] != subject.manifest.digest().as_str());
    assert_eq!(entries.len(), 2);
    fs::write(layout.path().join("index.json"), listed.to_string()).unwrap();
    assert_eq!(layout.gc(GcOptions::default()).await.unwrap(), Collected::default());
}

#[tokio::test]
async fn nothing_is_removed_where_not_all_is_known() {
    let (_directory, layout, graph) = filled().await;
    noise_blob("garbage", 10).put(&layout).await.unwrap();
    let before = files(layout.path());
    fs::write(path(&layout, graph.inner.digest()), "{}").unwrap();
    let error = layout.gc(GcOptions::default()).await.unwrap_err();
    assert!(error.chain().contains(graph.inner.digest().encoded()), "{error}");
    assert_eq!(files(layout.path()), before);

    let directory = TempDir::new().unwrap();
    let options = LayoutOptions {
        shared_blobs: Some(directory.path().join("shared")),
        ..LayoutOptions::default()
    };
    let shared = Layout::create_with(directory.path().join("one"), options).await.unwrap();
    noise_blob("of another layout", 10).put(&shared).await.unwrap();
    assert!(shared.gc(GcOptions::default()).await.unwrap_err().is_unsupported());
    assert_eq!(files(&directory.path().join("shared")).len(), 1);
}

// covers: C16
#[tokio::test]
async fn damage_is_told_and_nothing_changed() {
    let (_directory, layout, graph) = filled().await;
    let sound = layout.fsck().await.unwrap();
    assert!(sound.is_sound() && sound.more_problems == 0);
    // Two manifests of indexes, three images, and five blobs of which one is shared by all.
    let blobs: std::collections::BTreeSet<_> = graph
        .images
        .iter()
        .flat_map(|packed| &packed.blobs)
        .map(|blob| &blob.descriptor.digest)
        .collect();
    assert_eq!(sound.blobs, 5 + blobs.len() as u64);

    let [one, two, three] = [0, 1, 2].map(|n| &graph.images[n]);
    // A byte changed, a byte gone, a blob gone, a manifest gone.
    let changed = &one.blobs[1].descriptor;
    let mut bytes = one.blobs[1].bytes.to_vec();
    bytes[500] ^= 1;
    fs::write(path(&layout, &changed.digest), &bytes).unwrap();
    let cut = &two.blobs[1].descriptor;
    fs::write(path(&layout, &cut.digest), &two.blobs[1].bytes[1..]).unwrap();
    let missing = &two.blobs[0].descriptor.digest;
    fs::remove_file(path(&layout, missing)).unwrap();
    fs::remove_file(path(&layout, three.manifest.digest())).unwrap();
    let before = files(layout.path());

    let check = layout.fsck().await.unwrap();
    assert_eq!(files(layout.path()), before);
    assert!(!check.is_sound());
    let by = Some(two.manifest.digest().clone());
    let expected = [
        LayoutProblem::Missing { digest: missing.clone(), by: by.clone() },
        LayoutProblem::Missing {
            digest: three.manifest.digest().clone(),
            by: Some(graph.inner.digest().clone()),
        },
        LayoutProblem::Size { digest: cut.digest.clone(), by, expected: 1000, found: 999 },
        LayoutProblem::Digest { digest: changed.digest.clone(), found: Digest::sha256(&bytes) },
        LayoutProblem::Digest {
            digest: cut.digest.clone(),
            found: Digest::sha256(&two.blobs[1].bytes[1..]),
        },
    ];
    assert_eq!(check.problems.len(), expected.len(), "{:#?}", check.problems);
    for problem in &expected {
        assert!(check.problems.contains(problem), "{problem} is not in {:#?}", check.problems);
    }
    let text = expected[0].to_string();
    assert!(text.contains(missing.as_str()) && text.contains(two.manifest.digest().as_str()));

    // An entry that leads nowhere, and one whose content is no manifest.
    fs::remove_file(path(&layout, graph.root.digest())).unwrap();
    let check = layout.fsck().await.unwrap();
    let dangling = LayoutProblem::Missing { digest: graph.root.digest().clone(), by: None };
    assert_eq!(check.problems, [dangling]);
    let (_directory, layout) = new_layout().await;
    let wrong = noise_blob("no manifest", 50);
    wrong.put(&layout).await.unwrap();
    fs::write(
        layout.path().join("index.json"),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":50}}]}}"#,
            MediaType::OCI_IMAGE_MANIFEST,
            wrong.descriptor.digest
        ),
    )
    .unwrap();
    let check = layout.fsck().await.unwrap();
    assert!(
        matches!(&check.problems[..], [LayoutProblem::Broken { digest, .. }] if *digest == wrong.descriptor.digest),
        "{check:?}"
    );
}

#[tokio::test]
async fn what_may_be_absent_is_no_damage() {
    let directory = TempDir::new().unwrap();
    let options = LayoutOptions { sparse: true, ..LayoutOptions::default() };
    let layout = Layout::create_with(directory.path().join("sparse"), options).await.unwrap();
    assert_eq!(layout.capabilities().sparse, Some(true));
    let packed = image_with("windows", |manifest| {
        let mut elsewhere = noise_blob("elsewhere", 100).descriptor;
        elsewhere.media_type = MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP;
        manifest.layers.insert(0, elsewhere);
        manifest.subject = Some(image("absent").unwrap().manifest.descriptor().clone());
    })
    .unwrap();
    packed.put(&layout, &[]).await.unwrap();
    let list = index([&packed.manifest, &image("not here").unwrap().manifest]).unwrap();
    layout.put_manifest(&list, &[tag("list")], &Precondition::None).await.unwrap();
    let check = layout.fsck().await.unwrap();
    assert!(check.is_sound(), "{check:?}");
    // The same files, where lists should be whole.
    let strict = Layout::open(layout.path()).await.unwrap();
    assert_eq!(strict.fsck().await.unwrap().problems.len(), 1);
}

#[tokio::test]
async fn problems_are_counted_beyond_those_told() {
    let (_directory, layout) = new_layout().await;
    let entry = |n: u32| {
        let digest = Digest::sha256(&n.to_be_bytes());
        Descriptor::new(MediaType::OCI_IMAGE_MANIFEST, digest, 10)
    };
    let list = oci_spec_types::ImageIndex::new((0..1500).map(entry).collect());
    fs::write(layout.path().join("index.json"), serde_json::to_vec(&list).unwrap()).unwrap();
    let check = layout.fsck().await.unwrap();
    assert_eq!((check.problems.len(), check.more_problems), (1000, 500));
    fs::write(layout.path().join("index.json"), "{").unwrap();
    let error = layout.fsck().await.unwrap_err();
    assert_ne!(*error.kind(), ErrorKind::Internal);
}

// covers: C15
#[tokio::test]
async fn a_list_is_kept_beside_the_chosen_image() {
    use std::sync::Arc;

    use oci_ref::suite::sample;
    use oci_ref::{CopyOptions, Memory, Ref, Select, Target, choose_image, copy};

    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    let directory = TempDir::new().unwrap();
    let options = LayoutOptions { sparse: true, ..LayoutOptions::default() };
    let layout =
        Arc::new(Layout::create_with(directory.path().join("local"), options).await.unwrap());
    let platform: oci_spec_types::Platform = "linux/arm64/v8".parse().unwrap();
    let select = Select::Platforms(vec![platform.clone()]);
    let target = Target::Digest(sample.platforms.digest.clone());
    let options = CopyOptions { select, ..CopyOptions::default() };
    copy(from.clone(), &target, layout.clone(), options).await.unwrap();

    // By the list's digest, the list is found; in it, the image for the system, whole.
    let list = Ref::read(layout.clone(), &target).await.unwrap();
    let chosen =
        choose_image(list.as_index().unwrap(), &platform, &oci_ref::WalkOptions::default())
            .await
            .unwrap();
    let found = chosen.image;
    for blob in found.descriptors() {
        found.read_blob_verified(blob, u64::MAX).await.unwrap();
    }
    assert!(layout.fsck().await.unwrap().is_sound());
    assert_eq!(layout.gc(GcOptions::default()).await.unwrap(), Collected::default());
    // Others of the list are not here.
    let other = from.manifest(&target).await.unwrap().manifests()[0].digest.clone();
    assert!(layout.manifest(&other.into()).await.unwrap_err().is_not_found());
}

/// One platform after the other, as machines of several kinds that share a store ask for them.
// covers: C15
#[tokio::test]
async fn images_for_two_platforms_come_into_one_store_after_each_other() {
    use std::sync::Arc;

    use oci_ref::suite::sample;
    use oci_ref::{CopyOptions, Memory, Ref, Select, Target, WalkOptions, choose_image, copy};

    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    let directory = TempDir::new().unwrap();
    let options = LayoutOptions { sparse: true, ..LayoutOptions::default() };
    let layout =
        Arc::new(Layout::create_with(directory.path().join("local"), options).await.unwrap());
    let target = Target::Digest(sample.platforms.digest.clone());
    let entries = from.manifest(&target).await.unwrap().manifests().to_vec();
    let platforms = [&entries[0], &entries[1]].map(|entry| entry.platform.clone().unwrap());
    for (position, platform) in platforms.iter().enumerate() {
        let select = Select::Platforms(vec![platform.clone()]);
        let (digest, tags) = (Some(sample.platforms.digest.clone()), vec![tag("list")]);
        let options = CopyOptions { select, digest, tags, ..CopyOptions::default() };
        copy(from.clone(), &target, layout.clone(), options).await.unwrap();
        // By the list's digest or tag, those images are found that have come until now, whole.
        for target in [target.clone(), tag("list").into()] {
            let list = Ref::read(layout.clone(), &target).await.unwrap();
            assert_eq!(*list.digest(), sample.platforms.digest);
            for (number, platform) in platforms.iter().enumerate() {
                let bounds = WalkOptions::default();
                let found = choose_image(list.as_index().unwrap(), platform, &bounds).await;
                if number > position {
                    assert!(found.unwrap_err().is_not_found());
                    continue;
                }
                let image = found.unwrap().image;
                assert_eq!(*image.manifest().digest(), entries[number].digest);
                for blob in image.descriptors() {
                    image.read_blob_verified(blob, u64::MAX).await.unwrap();
                }
            }
        }
        assert!(layout.fsck().await.unwrap().is_sound());
        assert_eq!(layout.gc(GcOptions::default()).await.unwrap(), Collected::default());
    }
}
