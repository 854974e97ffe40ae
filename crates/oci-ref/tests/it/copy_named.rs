//! Destinations that are named by a digest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use oci_ref::suite::content::{image, index};
use oci_ref::{
    CopyOptions, ErrorKind, Fanout, Format, LayoutOptions, Memory, Precondition, Select, Source,
    Store, Target, copy,
};
use oci_spec_types::{Digest, MediaType};

use crate::probe::{Probe, filled, has, list, plain_list, run, tag};
use crate::support::files;

fn named(digest: &Digest) -> CopyOptions {
    CopyOptions { digest: Some(digest.clone()), tags: vec![tag("t")], ..CopyOptions::default() }
}

/// A destination whose tag `t` names something else.
async fn used() -> (Arc<Probe>, Digest) {
    let to = Arc::new(Probe { inner: Memory::sparse(), ..Probe::default() });
    let old = image("there before").unwrap();
    old.put(&to.inner, &[tag("t")]).await.unwrap();
    (to, old.manifest.digest().clone())
}

/// Either that comes which the destination is named by, or nothing.
// containers/image destIsDigestedReference; skopeo "manifest list must be converted, but we cannot
// modify it" covers: C8
#[tokio::test]
async fn nothing_is_written_unless_it_has_the_digest_that_names_the_destination() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    let (whole, entry) = (plain.digest().clone(), plain.manifests()[0].clone());
    let (first, second) = (entry.digest.clone(), plain.manifests()[1].digest.clone());
    let one = || Select::Image(entry.platform.clone().unwrap());
    let some = || Select::Instances(vec![first.clone()]);
    let docker = {
        let to = Arc::new(Probe::default());
        let options = CopyOptions { format: Format::Docker, ..CopyOptions::default() };
        run(&from, plain.descriptor(), &to, options).await.unwrap().descriptor.digest
    };
    use Format::{Docker, Oci, Preserve, Supported};
    // What of the list is copied, in which format, what the destination is named, and whether that
    // can be.
    let cases = [
        (Select::All, Preserve, &whole, true),
        (Select::All, Preserve, &first, false),
        (Select::All, Supported, &whole, true),
        (Select::All, Oci, &whole, true),
        (Select::All, Docker, &whole, false),
        (Select::All, Docker, &docker, false),
        (one(), Preserve, &first, true),
        (one(), Preserve, &second, false),
        // The index is not there, so its digest would name nothing.
        (one(), Preserve, &whole, false),
        (one(), Supported, &whole, false),
        (one(), Docker, &whole, false),
        (one(), Docker, &first, false),
        // The list beside the image that was chosen of it.
        (some(), Preserve, &whole, true),
        (some(), Preserve, &first, false),
        (some(), Docker, &whole, false),
    ];
    for (number, (select, format, name, is_right)) in cases.into_iter().enumerate() {
        let (to, old) = used().await;
        let opened = from.opened.load(Ordering::SeqCst);
        let options = CopyOptions { select, format, ..named(name) };
        let target = Target::Digest(whole.clone());
        let copied = copy(from.clone(), &target, to.clone(), options.clone()).await;
        match (is_right, copied) {
            (true, Ok(copied)) => {
                assert_eq!(copied.descriptor.digest, *name, "case {number}");
                assert!(has(&to, name).await, "case {number}");
            }
            (false, Err(error)) => {
                let text = error.chain();
                assert_eq!(*error.kind(), ErrorKind::Invalid, "case {number}: {text}");
                assert!(text.contains(&format!("named {name}")), "case {number}: {text}");
                let tagged = to.inner.resolve(&tag("t").into()).await.unwrap();
                assert_eq!(tagged.digest, old, "case {number}");
                for digest in [name, &whole, &first, &docker] {
                    assert!(!has(&to, digest).await, "case {number}: {digest}");
                }
                assert_eq!(from.opened.load(Ordering::SeqCst), opened, "case {number}");
            }
            (_, copied) => panic!("case {number}: {copied:?}"),
        }
        // Several at once are as one.
        if !is_right {
            let (one, two) = (Arc::new(Probe::default()), Arc::new(Probe::default()));
            let both = Arc::new(Fanout::new(one.clone(), vec![two.clone()]));
            copy(from.clone(), &target, both, options).await.unwrap_err();
            assert!(one.inner.is_empty() && two.inner.is_empty(), "case {number}");
        }
    }
}

/// A list of the right format with an image of another would become another list.
// covers: C8
#[tokio::test]
async fn a_format_that_only_an_entry_has_not_is_refused_before_anything_is_copied() {
    let (from, sample) = filled().await;
    let docker = from.manifest(&Target::Digest(sample.docker.digest.clone())).await.unwrap();
    let oci = from.manifest(&Target::Digest(sample.image.digest.clone())).await.unwrap();
    let inner = index([&oci, &docker]).unwrap();
    let outer = index([&inner]).unwrap();
    for manifest in [&inner, &outer] {
        from.inner.put_manifest(manifest, &[], &Precondition::None).await.unwrap();
    }
    let (to, _) = used().await;
    let options = CopyOptions { format: Format::Oci, ..named(outer.digest()) };
    let error = run(&from, outer.descriptor(), &to, options).await.unwrap_err();
    assert!(error.chain().contains(sample.docker.digest.as_str()), "{}", error.chain());
    assert!(!has(&to, oci.digest()).await);
}

/// A destination that takes another type only gets nothing under a digest, instead of something
/// else.
// covers: C8, C9
#[tokio::test]
async fn a_type_that_is_refused_is_not_followed_by_another_under_a_digest() {
    let (from, sample) = filled().await;
    let options = || CopyOptions { format: Format::Supported, ..named(&sample.image.digest) };
    let only = Some(vec![MediaType::DOCKER_MANIFEST]);
    let to = Arc::new(Probe { types: only, ..Probe::default() });
    let error = run(&from, &sample.image, &to, options()).await.unwrap_err();
    assert!(error.is_unsupported(), "{}", error.chain());
    assert!(to.inner.is_empty());
    let refused = vec![MediaType::OCI_IMAGE_MANIFEST];
    let to = Arc::new(Probe { refused, ..Probe::default() });
    let error = run(&from, &sample.image, &to, options()).await.unwrap_err();
    assert!(error.chain().contains("is not for me"), "{}", error.chain());
    assert!(to.inner.resolve(&tag("t").into()).await.unwrap_err().is_not_found());
}

/// As `oci:path@sha256:…` on the command line.
// covers: C8
#[tokio::test]
async fn a_layout_that_is_named_by_digest_stays_as_it_was() {
    let (from, sample) = filled().await;
    let (_, images) = list(&from, &sample).await;
    let directory = tempfile::TempDir::new().unwrap();
    for sparse in [false, true] {
        let options = LayoutOptions { sparse, ..LayoutOptions::default() };
        let path = directory.path().join(format!("{sparse}"));
        let layout = Arc::new(oci_ref::Layout::create_with(&path, options).await.unwrap());
        image("there before").unwrap().put(&layout, &[tag("t")]).await.unwrap();
        let before = files(&path);
        let select = Select::Image(images[0].platform.clone().unwrap());
        let options = CopyOptions { select, ..named(&sample.index.digest) };
        let target = Target::Digest(sample.index.digest.clone());
        copy(from.clone(), &target, layout.clone(), options).await.unwrap_err();
        assert_eq!(files(&path), before);
        let select = Select::Instances(vec![images[0].digest.clone()]);
        let options = CopyOptions { select, ..named(&sample.index.digest) };
        let copied = copy(from.clone(), &target, layout.clone(), options).await;
        assert_eq!(copied.is_ok(), sparse, "the list is beside the image where it may be");
    }
}
