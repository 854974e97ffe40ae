//! Selections: of single images, of nested indexes, and indexes that are written smaller; and what
//! cannot be copied, which fails before anything is.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_ref::{
    CopyEvent, CopyOptions, ErrorKind, Format, ImageBuilder, List, Loss, Manifest, Memory, NoMatch,
    Select, Source, Target, copy,
};
use oci_spec_types::{Descriptor, MediaType};

use crate::probe::{Probe, filled, has, platform, run, tag};
use crate::support::Faults;

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// An index that lists an image for the first platform, and an index with one for each other.
struct Nested {
    from: Arc<Probe>,
    images: Vec<Descriptor>,
    inner: Manifest,
    root: Manifest,
}

impl Nested {
    async fn new() -> Self {
        let from = Arc::new(Probe::default());
        let mut entries = Vec::new();
        for name in PLATFORMS {
            let built = ImageBuilder::for_platform(&platform(name)).build().unwrap();
            entries.push(built.index_entry());
            built.write(&from.inner, &[]).await.unwrap();
        }
        let list = async |entries: Vec<Descriptor>| {
            let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
            entries.into_iter().for_each(|entry| list.add(entry));
            list.write(&from.inner, &[]).await.unwrap()
        };
        let inner = list(entries[1..].to_vec()).await;
        let root = list(vec![entries[0].clone(), inner.descriptor().clone()]).await;
        Self { images: entries, inner, root, from: from.clone() }
    }
}

fn platforms(wanted: &[&str]) -> CopyOptions {
    let wanted = wanted.iter().map(|name| platform(name)).collect();
    CopyOptions { select: Select::Platforms(wanted), ..CopyOptions::default() }
}

// covers: C6
#[tokio::test]
async fn a_single_image_must_fit_what_was_selected() {
    let Nested { from, images, .. } = Nested::new().await;
    let to = Arc::new(Probe::default());
    let amd64 = &images[0];
    for (wanted, fits) in [
        (&["linux/amd64"][..], true),
        (&["linux/amd64/v3"], true),
        (&["linux/arm64"], false),
        (&["linux/amd64", "linux/arm64"], false),
    ] {
        let mut choices = vec![platforms(wanted)];
        if let [one] = wanted {
            let select = Select::Image(platform(one));
            choices.push(CopyOptions { select, ..CopyOptions::default() });
        }
        for options in choices {
            let copied = run(&from, amd64, &to, options.clone()).await;
            assert_eq!(copied.is_ok(), fits, "{wanted:?}: {copied:?}");
            if let Err(error) = copied {
                assert!(error.is_not_found() && error.find_source::<NoMatch>().is_some());
                assert!(error.to_string().contains("single image"), "{error}");
                assert!(error.to_string().contains("linux/amd64"), "{error}");
            }
            let any = CopyOptions { any_platform: true, ..options };
            assert_eq!(run(&from, amd64, &to, any).await.unwrap().descriptor.digest, amd64.digest);
        }
    }
    // An artifact is for no platform.
    let (from, sample) = filled().await;
    run(&from, &sample.embedded, &to, platforms(&["linux/arm64"])).await.unwrap();
}

// covers: C6
#[tokio::test]
async fn platforms_are_looked_for_in_nested_indexes() {
    let Nested { from, images, inner, root } = Nested::new().await;
    let to = Arc::new(Probe { inner: Memory::sparse(), ..Probe::default() });
    let options = platforms(&["linux/amd64", "linux/s390x"]);
    let copied = run(&from, root.descriptor(), &to, options).await.unwrap();
    assert_eq!(copied.descriptor.digest, *root.digest());
    assert!(has(&to, inner.digest()).await && has(&to, &images[2].digest).await);
    assert!(has(&to, &images[0].digest).await && !has(&to, &images[1].digest).await);
}

/// The images that an index lists at a store, by their architectures, and those in its indexes.
async fn listed(store: &Memory, root: &Descriptor) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![root.clone()];
    while let Some(entry) = next.pop() {
        let manifest = store.manifest(&Target::Digest(entry.digest.clone())).await.unwrap();
        next.extend(manifest.manifests().iter().rev().cloned());
        found.extend(entry.platform.map(|platform| platform.architecture));
    }
    found
}

// covers: C6
#[tokio::test]
async fn a_stripped_index_is_smaller_and_complete() {
    let Nested { from, images, inner, root } = Nested::new().await;
    for (wanted, expected) in [
        (&["linux/amd64", "linux/s390x"][..], &["amd64", "s390x"][..]),
        (&["linux/arm64"], &["arm64"]),
        (&PLATFORMS, &["amd64", "arm64", "s390x"]),
    ] {
        let to = Arc::new(Probe::default());
        let tags = vec![tag("small")];
        let options = CopyOptions { strip: true, tags, ..platforms(wanted) };
        let copied = run(&from, root.descriptor(), &to, options).await.unwrap();
        assert_eq!(listed(&to.inner, &copied.descriptor).await, expected);
        let named = to.resolve(&tag("small").into()).await.unwrap();
        assert_eq!(named.digest, copied.descriptor.digest);
        let whole = expected.len() == PLATFORMS.len();
        assert_eq!(copied.descriptor.digest == *root.digest(), whole, "{wanted:?}");
        assert_eq!(has(&to, inner.digest()).await, whole);
    }
    // A whole index is an entry as any other.
    let to = Arc::new(Probe::default());
    let select = Select::Instances(vec![inner.digest().clone()]);
    let options = CopyOptions { select, strip: true, ..CopyOptions::default() };
    let copied = run(&from, root.descriptor(), &to, options).await.unwrap();
    assert_eq!(listed(&to.inner, &copied.descriptor).await, ["arm64", "s390x"]);
    assert!(has(&to, inner.digest()).await && !has(&to, &images[0].digest).await);
    // As Docker's list.
    let (to, tags) = (Arc::new(Probe::default()), vec![tag("small")]);
    let loss = Loss::Allow;
    let options = CopyOptions {
        format: Format::Docker,
        loss,
        strip: true,
        tags,
        ..platforms(&["linux/amd64"])
    };
    let copied = run(&from, root.descriptor(), &to, options).await.unwrap();
    assert_eq!(copied.descriptor.media_type, MediaType::DOCKER_MANIFEST_LIST);
    assert_eq!(listed(&to.inner, &copied.descriptor).await, ["amd64"]);
}

// covers: C6, C11
#[tokio::test]
async fn what_belongs_to_a_stripped_index_is_left_behind_and_told() {
    let Nested { from, images, root, .. } = Nested::new().await;
    for signed in [root.digest(), &images[0].digest] {
        let signature = vec![Bytes::from_static(b"signature")];
        from.signatures.lock().unwrap().insert(signed.clone(), signature);
    }
    let about = |subject: &Descriptor| {
        let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
        list.set_subject(Some(Descriptor { platform: None, ..subject.clone() }));
        list
    };
    about(root.descriptor()).write(&from.inner, &[]).await.unwrap();
    let of_image = about(&images[0]).write(&from.inner, &[]).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let options = CopyOptions {
        strip: true,
        referrers: true,
        progress: Some(Arc::new(move |event| {
            if let CopyEvent::Dropped(of, dropped) = event {
                telling.lock().unwrap().push(format!("{}: {dropped}", of.digest));
            }
        })),
        ..platforms(&["linux/amd64"])
    };
    let to = Arc::new(Probe { keeps_signatures: true, ..Probe::default() });
    let copied = run(&from, root.descriptor(), &to, options).await.unwrap();
    assert_ne!(copied.descriptor.digest, *root.digest());
    let expected =
        ["signatures", "referrers"].map(|it| format!("{}: {it}: dropped", root.digest()));
    assert_eq!(*told.lock().unwrap(), expected);
    assert!(has(&to, of_image.digest()).await && copied.manifests == 3, "{copied:?}");
    let signatures = to.signatures.lock().unwrap();
    assert!(signatures.contains_key(&images[0].digest) && !signatures.contains_key(root.digest()));
}

// covers: C8
#[tokio::test]
async fn a_destination_that_is_named_by_digest_gets_no_smaller_index() {
    let Nested { from, root, .. } = Nested::new().await;
    let to = Arc::new(Probe { inner: Memory::sparse(), ..Probe::default() });
    let digest = Some(root.digest().clone());
    let options = CopyOptions { strip: true, digest, ..platforms(&["linux/amd64"]) };
    let error = run(&from, root.descriptor(), &to, options).await.unwrap_err();
    assert!(error.to_string().contains("would have another digest"), "{error}");
    assert!(to.inner.is_empty());
}

/// A copy to a destination of which only trying tells whether it takes an index without all that it
/// lists, as a registry; and what was asked of that.
async fn tried(
    from: &Arc<Probe>,
    root: &Manifest,
    inner: Memory,
) -> (Result<u64, ErrorKind>, Vec<String>) {
    let faults = Faults::none();
    let to = faults.wrap(Arc::new(Probe { inner, untold: true, ..Probe::default() }));
    let target = Target::Digest(root.digest().clone());
    let copied = copy(from.clone(), &target, to, platforms(&["linux/amd64"])).await;
    let kind = |error: oci_ref::Error| error.kind().clone();
    (copied.map(|copied| copied.manifests).map_err(kind), faults.log())
}

// covers: C6
#[tokio::test]
async fn where_only_trying_tells_it_is_tried_before_anything_moves() {
    let Nested { from, inner, root, .. } = Nested::new().await;
    let (copied, log) = tried(&from, &root, Memory::sparse()).await;
    assert_eq!(copied, Ok(2), "{log:?}");
    let (copied, log) = tried(&from, &root, Memory::new()).await;
    assert_eq!(copied, Err(ErrorKind::Sparse));
    assert!(!log.iter().any(|call| call.starts_with("put_blob")), "{log:?}");
    // What is there already is not missing.
    let whole = Memory::new();
    let to = Arc::new(whole.clone());
    copy(from.clone(), &inner.digest().clone().into(), to, CopyOptions::default()).await.unwrap();
    let (copied, log) = tried(&from, &root, whole).await;
    assert_eq!(copied, Ok(2), "{log:?}");
}

/// An impossible copy is refused while nothing has moved, and nothing has been read of a blob.
// covers: C4, C7, C10
#[tokio::test]
async fn what_cannot_be_copied_fails_before_a_byte_moves() {
    let Nested { from, images, root, .. } = Nested::new().await;
    let annotated = {
        let mut list = List::of(&root).unwrap();
        list.annotate("org.example", Some("kept".into()));
        list.write(&from.inner, &[]).await.unwrap()
    };
    let docker = CopyOptions { format: Format::Docker, ..CopyOptions::default() };
    let signed = {
        let signature = vec![Bytes::from_static(b"signature")];
        from.signatures.lock().unwrap().insert(images[1].digest.clone(), signature);
        docker.clone()
    };
    let only_lists = Some(vec![MediaType::OCI_IMAGE_INDEX]);
    let cases = [
        ("a format", annotated.descriptor(), docker, Probe::default(), "annotations"),
        (
            "a signed image",
            &images[1],
            signed,
            Probe { keeps_signatures: true, ..Probe::default() },
            "is signed",
        ),
        (
            "a type of an entry",
            root.descriptor(),
            CopyOptions { drop_signatures: true, ..CopyOptions::default() },
            Probe { types: only_lists, ..Probe::default() },
            "the destination takes application/vnd.oci.image.index.v1+json, and",
        ),
    ];
    for (name, what, options, to, expected) in cases {
        let to = Arc::new(to);
        let error = run(&from, what, &to, options).await.expect_err(name);
        assert!(error.chain().contains(expected), "{name}: {}", error.chain());
        assert!(to.inner.is_empty(), "{name}");
        assert_eq!(from.opened.load(std::sync::atomic::Ordering::SeqCst), 0, "{name}");
    }
}
