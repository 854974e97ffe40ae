//! In which format a copy writes manifests, and what becomes of signatures.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::suite::content::{image, index};
use oci_ref::{
    CopyEvent, CopyOptions, Format, Found, List, Loss, Manifest, Memory, Precondition, Ref, Select,
    Source, Store, Target, WalkOptions, copy, walk_refs,
};
use oci_spec_types::{ErrorCode, MediaType};

use crate::probe::{Probe, filled, list, plain_list, run, tag};
use crate::support::new_layout;

// covers: C7, C8
#[tokio::test]
async fn a_forced_format_converts_the_list_and_its_images() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    let to = Arc::new(Probe::default());
    let options =
        CopyOptions { format: Format::Docker, tags: vec![tag("docker")], ..CopyOptions::default() };
    let copied = run(&from, plain.descriptor(), &to, options).await.unwrap();
    assert_eq!(copied.descriptor.media_type, MediaType::DOCKER_MANIFEST_LIST);
    let root = Ref::read(to.clone(), &tag("docker").into()).await.unwrap();
    let visits: Vec<_> = walk_refs(root, WalkOptions::default()).try_collect().await.unwrap();
    assert_eq!(visits.len(), plain.manifests().len() + 1);
    for visit in visits {
        let Found::Ref(found) = visit.found else { panic!("{} is missing", visit.path) };
        assert!(
            found.media_type().as_str().starts_with("application/vnd.docker."),
            "{}",
            found.media_type()
        );
        for blob in found.manifest().blobs() {
            assert_eq!(to.inner.blob_size(&blob.digest).await.unwrap(), Some(blob.size));
        }
    }

    // And back: nothing that Docker can hold is lost on the way.
    let back = Arc::new(Probe::default());
    let options = CopyOptions { format: Format::Oci, ..CopyOptions::default() };
    let returned = run(&to, &copied.descriptor, &back, options).await.unwrap();
    let returned = back.manifest(&Target::Digest(returned.descriptor.digest)).await.unwrap();
    let digests = |list: &Manifest| {
        list.manifests().iter().map(|entry| entry.platform.clone()).collect::<Vec<_>>()
    };
    assert_eq!(digests(&returned), digests(&plain));
}

// covers: C4
#[tokio::test]
async fn what_the_format_cannot_hold_is_named_or_reported() {
    let (from, sample) = filled().await;
    let to = Arc::new(Probe::default());
    let strict = CopyOptions { format: Format::Docker, ..CopyOptions::default() };
    let error = run(&from, &sample.notes, &to, strict.clone()).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{error:?}");

    let (_, images) = list(&from, &sample).await;
    let mut annotated = List::of(&plain_list(&from, &sample).await).unwrap();
    annotated.annotate("note", Some("lost in Docker".into()));
    let annotated = annotated.to_manifest().unwrap();
    from.inner.put_manifest(&annotated, &[], &Precondition::None).await.unwrap();
    let error = run(&from, annotated.descriptor(), &to, strict.clone()).await.unwrap_err();
    assert!(error.to_string().contains("annotations"), "{error:?}");

    let reported = Arc::new(Mutex::new(Vec::new()));
    let heard = reported.clone();
    let lossy = CopyOptions {
        loss: Loss::Allow,
        progress: Some(Arc::new(move |event: &CopyEvent<'_>| {
            if let CopyEvent::Dropped(_, dropped) = event {
                heard.lock().unwrap().push(dropped.path.clone());
            }
        })),
        ..strict
    };
    run(&from, annotated.descriptor(), &to, lossy).await.unwrap();
    assert_eq!(*reported.lock().unwrap(), ["annotations"], "{images:?}");
}

// covers: C7, C9
#[tokio::test]
async fn a_type_that_is_refused_is_followed_by_the_next() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    let refused = vec![MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX];
    let to = Arc::new(Probe { refused: refused.clone(), ..Probe::default() });
    let options = CopyOptions { format: Format::Supported, ..CopyOptions::default() };
    let copied = run(&from, plain.descriptor(), &to, options.clone()).await.unwrap();
    assert_eq!(copied.descriptor.media_type, MediaType::DOCKER_MANIFEST_LIST);

    let preserved = CopyOptions { format: Format::Preserve, ..CopyOptions::default() };
    let error = run(&from, plain.descriptor(), &to, preserved).await.unwrap_err();
    assert!(error.chain().contains("is not for me"), "{error:?}");

    let all = [refused, vec![MediaType::DOCKER_MANIFEST, MediaType::DOCKER_MANIFEST_LIST]].concat();
    let to = Arc::new(Probe { refused: all, ..Probe::default() });
    let error = run(&from, &plain.manifests()[0], &to, options).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("as application/vnd.oci") && text.contains("as application/vnd.docker"),
        "{text}"
    );
}

/// A refusal of the type is told from other errors by its code.
// covers: C9
/// A layout takes Docker's types, and is made of OCI's.
// covers: C7
#[tokio::test]
async fn docker_images_become_ocis_in_a_layout_where_that_is_asked_for() {
    let (_directory, layout) = new_layout().await;
    let from = Arc::new(Memory::new());
    let own = image("docker").unwrap();
    own.put(&from, &[]).await.unwrap();
    let docker = own.manifest.convert_to(&MediaType::DOCKER_MANIFEST, Loss::Refuse).unwrap();
    let docker = docker.manifest;
    let oci = docker.convert_to(&MediaType::OCI_IMAGE_MANIFEST, Loss::Refuse).unwrap().manifest;
    from.put_manifest(&docker, &[], &Precondition::None).await.unwrap();
    let list = index([&docker]).unwrap();
    from.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    for (format, expected) in
        [(Format::Preserve, docker.digest()), (Format::Supported, oci.digest())]
    {
        let options = CopyOptions { format, ..CopyOptions::default() };
        let target = docker.digest().clone().into();
        let to = Arc::new(layout.clone());
        let copied = copy(from.clone(), &target, to.clone(), options.clone()).await.unwrap();
        assert_eq!(copied.descriptor.digest, *expected);
        let copied = copy(from.clone(), &list.digest().clone().into(), to, options).await.unwrap();
        let there = layout.manifest(&copied.descriptor.digest.into()).await.unwrap();
        assert_eq!(there.manifests()[0].digest, *expected);
    }
}

#[tokio::test]
async fn only_a_refusal_of_the_type_is_followed_by_another_type() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    for (code, is_refusal) in [
        (ErrorCode::ManifestInvalid, true),
        (ErrorCode::Unsupported, true),
        (ErrorCode::parse("TAG_INVALID"), true),
        (ErrorCode::Denied, false),
        (ErrorCode::ManifestBlobUnknown, false),
        (ErrorCode::SizeInvalid, false),
        (ErrorCode::TooManyRequests, false),
    ] {
        let refused = vec![MediaType::OCI_IMAGE_MANIFEST];
        let refuses_with = Some(code.clone());
        let to = Arc::new(Probe { refused, refuses_with, ..Probe::default() });
        let options = CopyOptions { format: Format::Supported, ..CopyOptions::default() };
        let copied = run(&from, &plain.manifests()[0], &to, options).await;
        match (is_refusal, copied) {
            (true, Ok(copied)) => {
                assert_eq!(copied.descriptor.media_type, MediaType::DOCKER_MANIFEST, "{code}");
            }
            (false, Err(error)) => assert_eq!(error.code(), Some(&code)),
            (_, copied) => panic!("{code}: {copied:?}"),
        }
    }
}

// covers: C10
#[tokio::test]
async fn a_destination_without_lists_says_so_before_anything_is_copied() {
    let (from, sample) = filled().await;
    let to =
        Arc::new(Probe { types: Some(vec![MediaType::OCI_IMAGE_MANIFEST]), ..Probe::default() });
    let error = run(&from, &sample.index, &to, CopyOptions::default()).await.unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("cannot hold lists"), "{error}");
    assert!(to.inner.is_empty());
    assert_eq!(from.opened.load(Ordering::SeqCst), 0);
}

// covers: C7, C11
#[tokio::test]
async fn signatures_go_along_or_are_dropped_on_request() {
    let (from, sample) = filled().await;
    let plain = plain_list(&from, &sample).await;
    let image = plain.manifests()[0].clone();
    let signature = vec![Bytes::from_static(b"signed")];
    for digest in [plain.digest(), &image.digest] {
        from.signatures.lock().unwrap().insert(digest.clone(), signature.clone());
    }
    let keeps = Arc::new(Probe { keeps_signatures: true, ..Probe::default() });
    run(&from, plain.descriptor(), &keeps, CopyOptions::default()).await.unwrap();
    for digest in [plain.digest(), &image.digest] {
        assert_eq!(keeps.signatures(digest).await.unwrap(), signature);
    }
    // What is signed is not changed behind its back.
    let options = CopyOptions { format: Format::Docker, ..CopyOptions::default() };
    let error = run(&from, plain.descriptor(), &keeps, options.clone()).await.unwrap_err();
    assert!(error.chain().contains("is signed"), "{error:?}");

    let plain_store = Arc::new(Probe::default());
    let error =
        run(&from, plain.descriptor(), &plain_store, CopyOptions::default()).await.unwrap_err();
    assert!(error.chain().contains("cannot keep the 1 signatures"), "{error:?}");
    let options = CopyOptions { drop_signatures: true, ..options };
    run(&from, plain.descriptor(), &plain_store, options).await.unwrap();
}

// covers: C11
#[tokio::test]
async fn a_destination_that_cannot_keep_signatures_says_so_before_anything_is_copied() {
    let (from, sample) = filled().await;
    let scheme = tag(&format!("sha256-{}.sig", sample.image.digest.encoded()));
    let notes = from.manifest(&Target::Digest(sample.notes.digest.clone())).await.unwrap();
    from.inner.put_manifest(&notes, &[scheme], &Precondition::None).await.unwrap();
    let list = from.manifest(&Target::Digest(sample.index.digest.clone())).await.unwrap();
    let entry = list.manifests().last().unwrap();
    let referrers = || CopyOptions { referrers: true, ..CopyOptions::default() };
    let schemes = || CopyOptions { tag_schemes: true, ..CopyOptions::default() };
    let chosen = list.manifests().iter().find_map(|entry| entry.platform.clone()).unwrap();
    let one = CopyOptions { select: Select::Image(chosen), ..CopyOptions::default() };
    // What is copied, what of it is signed, how it is copied, and whether the signature would go along.
    let cases = [
        (&sample.index, &sample.index.digest, CopyOptions::default(), true),
        (&sample.index, &entry.digest, CopyOptions::default(), true),
        (&sample.index, &sample.index.digest, one, false),
        (&sample.image, &sample.signature.digest, referrers(), true),
        (&sample.image, &sample.signature.digest, CopyOptions::default(), false),
        (&sample.image, &sample.notes.digest, schemes(), true),
        (&sample.image, &sample.notes.digest, referrers(), false),
    ];
    for (number, (what, signed, options, refused)) in cases.into_iter().enumerate() {
        *from.signatures.lock().unwrap() =
            [(signed.clone(), vec![Bytes::from_static(b"signed")])].into();
        let to = Arc::new(Probe::default());
        let opened = from.opened.load(Ordering::SeqCst);
        match (refused, run(&from, what, &to, options.clone()).await) {
            (true, Err(error)) => {
                let text = error.chain();
                assert!(error.is_unsupported(), "case {number}: {text}");
                let expected = format!("cannot keep the 1 signatures of {signed}");
                assert!(text.contains(&expected), "case {number}: {text}");
                assert!(to.inner.is_empty(), "case {number}");
                assert_eq!(from.opened.load(Ordering::SeqCst), opened, "case {number}");
            }
            (false, Ok(_)) => {}
            (_, copied) => panic!("case {number}: {copied:?}"),
        }
        let to = Arc::new(Probe::default());
        let options = CopyOptions { drop_signatures: true, ..options };
        run(&from, what, &to, options).await.unwrap();
    }
}
