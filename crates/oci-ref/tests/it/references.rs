//! References of other manifests than images: in layouts, in archives, and between stores.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::suite::content::{Packed, Piece, image, image_with, index, noise_blob, seal, tag};
use oci_ref::{
    CopyOptions, ErrorKind, Form, Found, GcOptions, LayoutProblem, Manifest, ManifestError, Memory,
    OciArchive, OciArchiveWriter, Precondition, Ref, Source, Store, WalkOptions, copy, walk_refs,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageIndex, MediaType};
use serde_json::{Value, json};

use crate::support::{files, new_layout};

fn parse(document: &Value) -> Manifest {
    Manifest::parse(document.to_string().into(), None, None).unwrap()
}

fn listing(entries: Vec<Descriptor>) -> Manifest {
    seal(serde_json::to_vec(&ImageIndex::new(entries))).unwrap()
}

/// An index of layers, an ORAS artifact, and a manifest of an unknown type: each with the blobs
/// that it references.
fn odd() -> [(Manifest, Vec<Piece>); 3] {
    let pieces = |seed: &str| {
        ["a", "b"].map(|part| {
            let piece = noise_blob(&format!("{seed}-{part}"), 1000);
            Piece::new(MediaType::OCI_LAYER_GZIP, piece.bytes)
        })
    };
    let [cache, oras, bundle] = ["cache", "oras", "bundle"].map(pieces);
    let of = |pieces: &[Piece; 2]| pieces.clone().map(|piece| piece.descriptor);
    [
        (listing(of(&cache).into()), cache.into()),
        (
            parse(&json!({"mediaType": MediaType::ORAS_ARTIFACT_MANIFEST, "blobs": of(&oras)})),
            oras.into(),
        ),
        (
            parse(&json!({"mediaType": "application/vnd.example+json", "x": {"y": of(&bundle)}})),
            bundle.into(),
        ),
    ]
}

// moby/buildkit#1550, goharbor/harbor#12975
#[tokio::test]
async fn layouts_keep_what_is_referenced_as_long_as_it_is() {
    let (_directory, layout) = new_layout().await;
    for (position, (manifest, blobs)) in odd().into_iter().enumerate() {
        let packed = Packed { manifest, blobs };
        packed.put(&layout, &[tag(&format!("t{position}"))]).await.unwrap();
    }
    let whole = files(layout.path());
    assert_eq!(layout.gc(GcOptions::default()).await.unwrap().blobs, 0);
    assert_eq!(files(layout.path()), whole);
    let check = layout.fsck().await.unwrap();
    assert_eq!((check.problems, check.blobs), (vec![], 9));
    for (manifest, blobs) in odd() {
        layout.delete_manifest(manifest.digest()).await.unwrap();
        let collected = layout.gc(GcOptions::default()).await.unwrap();
        assert_eq!(collected.blobs, blobs.len() as u64, "{}", manifest.media_type());
        assert!(layout.fsck().await.unwrap().is_sound());
    }
    assert_eq!(layout.entries().await.unwrap(), []);
}

#[tokio::test]
async fn a_check_of_a_layout_misses_what_is_gone() {
    let (_directory, layout) = new_layout().await;
    let [(cache, blobs), (oras, more), _] = odd();
    for (manifest, blobs) in [(cache, &blobs), (oras, &more)] {
        Packed { manifest, blobs: blobs.clone() }.put(&layout, &[]).await.unwrap();
    }
    // It may be had elsewhere, so that it is not missing.
    let elsewhere = Descriptor {
        urls: vec!["https://layers.example/x".into()],
        ..noise_blob("elsewhere", 9).descriptor
    };
    let packed = image_with("urls", |image| image.layers.push(elsewhere)).unwrap();
    packed.put(&layout, &[tag("urls")]).await.unwrap();
    assert!(layout.fsck().await.unwrap().is_sound());
    let mut missing = Vec::new();
    for blob in [&blobs[1], &more[0]] {
        let digest = &blob.descriptor.digest;
        std::fs::remove_file(layout.path().join("blobs/sha256").join(digest.encoded())).unwrap();
        missing.push(digest.clone());
    }
    let problems = layout.fsck().await.unwrap().problems;
    let mut found: Vec<Digest> = problems
        .into_iter()
        .map(|problem| match problem {
            LayoutProblem::Missing { digest, .. } => digest,
            other => panic!("{other}"),
        })
        .collect();
    found.sort_unstable();
    missing.sort_unstable();
    assert_eq!(found, missing);
}

#[tokio::test]
async fn a_blob_that_an_index_lists_is_not_deleted_from_a_layout() {
    let (_directory, layout) = new_layout().await;
    let [(manifest, blobs), ..] = odd();
    let digest = blobs[0].descriptor.digest.clone();
    Packed { manifest, blobs }.put(&layout, &[]).await.unwrap();
    let error = layout.delete_blob(&digest).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::Denied), "{error}");
    assert!(layout.blob_size(&digest).await.unwrap().is_some());
}

#[tokio::test]
async fn archives_hold_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    for (position, (manifest, blobs)) in odd().into_iter().enumerate() {
        let from = Arc::new(Memory::new());
        Packed { manifest: manifest.clone(), blobs: blobs.clone() }
            .put(&from, &[tag("t")])
            .await
            .unwrap();
        let path = directory.path().join(format!("{position}.tar"));
        let writer = Arc::new(OciArchiveWriter::create(&path).await.unwrap());
        let options = CopyOptions { tags: vec![tag("t")], ..CopyOptions::default() };
        copy(from, &tag("t").into(), writer.clone(), options.clone()).await.unwrap();
        writer.finish().await.unwrap();
        let (archive, back) = (OciArchive::open(&path).await.unwrap(), Arc::new(Memory::new()));
        let copied =
            copy(Arc::new(archive), &tag("t").into(), back.clone(), options).await.unwrap();
        assert_eq!((copied.manifests, copied.blobs), (1, 2), "{}", manifest.media_type());
        for blob in blobs {
            assert_eq!(back.blob_bytes(&blob.descriptor.digest), Some(blob.bytes));
        }
    }
}

#[tokio::test]
async fn a_manifest_of_an_unknown_type_is_copied_with_all_that_it_references() {
    let from = Arc::new(Memory::new());
    let (child, blob, alone) = (image("child").unwrap(), noise_blob("b", 9), noise_blob("a", 9));
    child.put(&from, &[]).await.unwrap();
    let manifest = parse(&json!({
        "mediaType": "application/vnd.example+json",
        "child": child.manifest.descriptor(), "blob": blob.descriptor,
        // Nobody knows what these are for.
        "alone": [alone.descriptor.digest, Digest::sha256(b"nowhere")],
    }));
    let packed = Packed { manifest: manifest.clone(), blobs: vec![blob.clone(), alone.clone()] };
    packed.put(&from, &[tag("t")]).await.unwrap();
    let to = Arc::new(Memory::new());
    let copied = copy(from, &tag("t").into(), to.clone(), CopyOptions::default()).await.unwrap();
    assert_eq!((copied.manifests, copied.blobs), (2, 4));
    for piece in child.blobs.iter().chain([&blob, &alone]) {
        assert_eq!(to.blob_bytes(&piece.descriptor.digest), Some(piece.bytes.clone()));
    }
    let references: Vec<_> = manifest.references().collect();
    assert!(references.iter().all(|it| it.form == Form::Either));
    assert_eq!(references.iter().filter(|it| it.is_manifest()).count(), 1);
    assert_eq!(references.iter().filter(|it| it.is_required()).count(), 2);
}

/// The type says what is looked for first, and what is there decides.
#[tokio::test]
async fn what_an_entry_is_shows_where_it_lies() {
    let memory = Arc::new(Memory::new());
    let (image, other) = (image("an image").unwrap(), image("a blob").unwrap());
    image.put(&memory, &[]).await.unwrap();
    let stated = |manifest: &Manifest, media_type: &str| Descriptor {
        media_type: MediaType::as_written(media_type.to_owned()).unwrap(),
        ..manifest.descriptor().clone()
    };
    let unknown = parse(&json!({"mediaType": "application/vnd.example+json"}));
    memory.put_manifest(&unknown, &[], &Precondition::None).await.unwrap();
    let as_blob = other.manifest.descriptor();
    memory.put_blob(as_blob, other.manifest.bytes()).await.unwrap();
    let entries = vec![
        image.manifest.descriptor().clone(),
        unknown.descriptor().clone(),
        as_blob.clone(),
        stated(&other.manifest, "x; y=z"),
    ];
    let list = listing(entries);
    memory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let root = Ref::new(list, memory.clone()).unwrap();
    let visits: Vec<_> = walk_refs(root, WalkOptions::default()).try_collect().await.unwrap();
    let found: Vec<_> = visits
        .iter()
        .map(|visit| match &visit.found {
            Found::Ref(Ref::Image(_)) => "image",
            Found::Ref(Ref::Index(_)) => "index",
            Found::Blob => "blob",
            Found::Missing => "missing",
            Found::Other(_) => "other",
        })
        .collect();
    // Each digest once.
    assert_eq!(found, ["image", "other", "blob", "index"]);

    // A blob of another size than it is listed with.
    let lie = Descriptor { size: 7, ..stated(&other.manifest, "x/y") };
    let root = Ref::new(listing(vec![lie]), memory).unwrap();
    let walked: Result<Vec<_>, _> = walk_refs(root, WalkOptions::default()).try_collect().await;
    assert_eq!(walked.unwrap_err().code(), Some(&ErrorCode::SizeInvalid));
}

#[tokio::test]
async fn an_entry_with_urls_may_be_absent() {
    let from = Arc::new(Memory::new());
    let here = image("here").unwrap();
    here.put(&from, &[]).await.unwrap();
    let elsewhere = Descriptor {
        urls: vec!["https://manifests.example/x".into()],
        ..image("elsewhere").unwrap().manifest.descriptor().clone()
    };
    let list = listing(vec![here.manifest.descriptor().clone(), elsewhere]);
    from.put_manifest(&list, &[tag("t")], &Precondition::None).await.unwrap();
    let to = Arc::new(Memory::new());
    copy(from, &tag("t").into(), to.clone(), CopyOptions::default()).await.unwrap();
    assert_eq!(to.manifest(&list.digest().clone().into()).await.unwrap(), list);
    let missing = index([&image("missing").unwrap().manifest]).unwrap();
    let stored = to.put_manifest(&missing, &[], &Precondition::None).await;
    assert_eq!(*stored.unwrap_err().kind(), ErrorKind::Code(ErrorCode::ManifestBlobUnknown));
}

#[test]
fn what_cannot_be_understood_is_no_manifest() {
    let digest = Digest::sha256(b"");
    for (document, names) in [
        (
            json!({"mediaType": "a/b", "x": {"mediaType": "c", "digest": digest, "size": -1}}),
            "x.size",
        ),
        (
            json!({"mediaType": "a/b", "x": [{"mediaType": "c", "digest": 1, "size": 1}]}),
            "x[0].digest",
        ),
        (
            json!({"mediaType": "a/b", "subject": {"mediaType": "", "digest": digest, "size": 1}}),
            "subject.mediaType",
        ),
    ] {
        let bytes = Bytes::from(document.to_string());
        let error = Manifest::parse(bytes, None, None).unwrap_err();
        assert!(error.to_string().contains(names), "{error}");
    }
    // The type of a manifest is told in headers.
    let odd = br#"{"mediaType":"\u00e4/b"}"#.as_slice();
    let error = Manifest::parse(odd.into(), None, None).unwrap_err();
    assert!(matches!(error, ManifestError::Unnamable(_)), "{error}");
}
