//! `Manifest`, `Ref`, `Image` and `Index`: verified, parsed, told apart.

use std::sync::Arc;

use bytes::Bytes;
use oci_ref::suite::content::{Piece, image, image_with, index, tag};
use oci_ref::{
    DEFAULT_BLOB_LIMIT, ErrorKind, Manifest, ManifestError, Memory, Ref, Source, Store, Target,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageManifest, MediaType};

use crate::support::Graph;

// covers: M1
#[tokio::test]
async fn a_ref_is_an_image_or_an_index_and_says_which() {
    let graph = Graph::new();
    let memory = graph.stored(&[tag("index")]).await;
    let list = Ref::read(memory.clone(), &tag("index").into()).await.unwrap();
    assert_eq!(list.as_index().unwrap().manifests().len(), 3);
    let error = list.as_image().unwrap_err();
    for part in [
        graph.root.digest().as_str(),
        "is an index",
        MediaType::OCI_IMAGE_INDEX.as_str(),
        "expected an image",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let image =
        list.as_index().unwrap().read(&list.as_index().unwrap().manifests()[0]).await.unwrap();
    assert_eq!(image.as_image().unwrap().layers().len(), 1);
    let error = image.as_index().unwrap_err();
    assert!(error.to_string().contains("is an image"), "{error}");
    assert!(error.to_string().contains("expected an index"), "{error}");

    let media_type = MediaType::from_static("application/vnd.example.thing+json");
    let thing = Manifest::parse("{}".into(), Some(&media_type), None).unwrap();
    let error = Ref::new(thing, memory).unwrap_err();
    assert!(error.is_unsupported());
    assert!(error.to_string().contains("application/vnd.example.thing+json"), "{error}");
}

// covers: M2
#[tokio::test]
async fn a_manifest_is_verified_before_it_is_parsed() {
    let packed = image("verified").unwrap();
    let bytes = packed.manifest.bytes();
    let digest = packed.manifest.digest();
    assert_eq!(packed.manifest.descriptor().size, bytes.len() as u64);
    assert_eq!(Digest::sha256(bytes), *digest);

    // Not even JSON: the digest is what is complained about.
    let error = Manifest::parse("not JSON".into(), None, Some(digest)).unwrap_err();
    assert!(matches!(error, ManifestError::Digest(_)), "{error}");
    assert!(error.to_string().contains(&format!("expected {digest}")), "{error}");
    let descriptor = packed.manifest.descriptor();
    let error = Manifest::verify(descriptor, "not JSON".into()).unwrap_err();
    assert!(matches!(error, ManifestError::Size { found: 8, .. }), "{error}");

    let text = String::from_utf8(bytes.to_vec()).unwrap();
    for (size, path) in [("-1", "layers[0].size"), ("9223372036854775808", "layers[0].size")] {
        let changed = text.replace("\"size\": 1000", &format!("\"size\": {size}"));
        assert_ne!(changed, text);
        let error = Manifest::parse(changed.into(), None, None).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

// covers: M2
#[tokio::test]
async fn a_descriptor_must_fit_the_manifest_it_describes() {
    let memory = Arc::new(Memory::new());
    let packed = image("described").unwrap();
    packed.put(&memory, &[]).await.unwrap();
    let right = packed.manifest.descriptor();
    let read = Ref::read_descriptor(memory.clone(), right).await.unwrap();
    assert_eq!(read.manifest().bytes(), packed.manifest.bytes());
    assert_eq!((read.digest(), read.media_type()), (&right.digest, &right.media_type));
    let wrong_size = Descriptor { size: right.size + 1, ..right.clone() };
    let error = Ref::read_descriptor(memory.clone(), &wrong_size).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));
    let wrong_type = Descriptor { media_type: MediaType::OCI_IMAGE_INDEX, ..right.clone() };
    let error = Ref::read_descriptor(memory, &wrong_type).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid));
}

/// A document, the type it came with, and what it is.
// covers: M3
#[test]
fn the_media_type_is_declared_or_written_or_guessed() {
    const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let config = format!(
        r#""config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":2}}"#,
        "a".repeat(64)
    );
    let image = |extra: &str| format!(r#"{{"schemaVersion":2{extra},{config},"layers":[]}}"#);
    let list = |extra: &str| format!(r#"{{"schemaVersion":2{extra},"manifests":[]}}"#);
    let typed = |media_type: &str| format!(r#","mediaType":"{media_type}""#);
    let cases: [(String, Option<&str>, Result<&str, &str>); 20] = [
        (image(""), Some(IMAGE), Ok(IMAGE)),
        (image(&typed(IMAGE)), Some(IMAGE), Ok(IMAGE)),
        (image(""), Some(DOCKER), Ok(DOCKER)),
        (image(&typed(DOCKER)), None, Ok(DOCKER)),
        (image(&typed(IMAGE)), Some("text/plain"), Ok(IMAGE)),
        (image(&typed(IMAGE)), Some("application/json"), Ok(IMAGE)),
        (image(""), None, Ok(IMAGE)),
        (image(""), Some("application/json"), Ok(IMAGE)),
        (list(""), None, Ok(INDEX)),
        (list(&typed(INDEX)), Some("application/octet-stream"), Ok(INDEX)),
        // Two kinds, or another kind than declared.
        (image(r#","manifests":[]"#), None, Err("`manifests`")),
        (image(r#","manifests":[]"#), Some(IMAGE), Err("manifests")),
        (list(r#","layers":[]"#), Some(INDEX), Err("layers")),
        (image(&typed(DOCKER)), Some(IMAGE), Err(DOCKER)),
        (image(""), Some(INDEX), Err(INDEX)),
        (list(""), Some(IMAGE), Err(IMAGE)),
        // Nothing that tells, and what is not supported.
        ("{}".into(), None, Err("without a media type")),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None, Err("schema 1")),
        (
            list(""),
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
            Err("schema 1"),
        ),
        ("[]".into(), None, Err("not a JSON object")),
    ];
    for (text, declared, expected) in cases {
        let declared = declared.map(|declared| MediaType::new(declared.to_owned()).unwrap());
        let parsed = Manifest::parse(text.clone().into(), declared.as_ref(), None);
        match (parsed, expected) {
            (Ok(manifest), Ok(expected)) => {
                assert_eq!(manifest.media_type().as_str(), expected, "{text}")
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{text}: {error}")
            }
            (found, expected) => panic!("{text} as {declared:?}: {found:?}, expected {expected:?}"),
        }
    }
}

// covers: M5
#[tokio::test]
async fn an_images_descriptors_are_the_config_then_the_layers() {
    let memory = Arc::new(Memory::new());
    let layers: Vec<_> =
        (0..5).map(|n| Piece::new(MediaType::OCI_LAYER, format!("layer {n}"))).collect();
    let mut packed = image_with("ordered", |manifest| {
        manifest.layers = layers.iter().rev().map(|layer| layer.descriptor.clone()).collect();
    })
    .unwrap();
    let config = packed.blobs[0].descriptor.clone();
    packed.blobs.extend(layers.iter().cloned());
    packed.put(&memory, &[tag("t")]).await.unwrap();
    let read = Ref::read(memory, &tag("t").into()).await.unwrap();
    let found: Vec<_> = read.as_image().unwrap().descriptors().cloned().collect();
    let expected: Vec<_> = [config]
        .into_iter()
        .chain(layers.into_iter().rev().map(|layer| layer.descriptor))
        .collect();
    assert_eq!(found, expected);
}

// covers: M6
#[tokio::test]
async fn embedded_data_is_verified_and_reads_are_limited() {
    let memory = Arc::new(Memory::new());
    let (text, other) = (Bytes::from_static(b"embedded"), Bytes::from_static(b"Embedded"));
    let piece = Piece::new(MediaType::OCTET_STREAM, text.clone());
    let packed = image("holder").unwrap();
    packed.put(&memory, &[tag("t")]).await.unwrap();
    let read = Ref::read(memory.clone(), &tag("t").into()).await.unwrap();
    let image = read.as_image().unwrap();
    let with = |data: &[u8]| Descriptor { data: Some(data.to_vec()), ..piece.descriptor.clone() };

    // It is in no store: it is read from the descriptor alone.
    assert_eq!(image.read_blob_verified(&with(&text), 100).await.unwrap(), text);
    let error = image.read_blob_verified(&with(b"longer than that"), 100).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid), "{error}");
    let error = image.read_blob_verified(&with(&other), 100).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid), "{error}");
    let error = image.read_blob_verified(&piece.descriptor, 100).await.unwrap_err();
    assert!(error.is_not_found());
    piece.put(&memory).await.unwrap();
    let error = image.read_blob_verified(&piece.descriptor, 7).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 7 });

    assert_eq!(DEFAULT_BLOB_LIMIT, 50 << 20);
    let huge =
        image_with("huge", |manifest| manifest.config.size = DEFAULT_BLOB_LIMIT + 1).unwrap();
    let huge = Ref::new(huge.manifest, memory).unwrap();
    let error = huge.as_image().unwrap().config().await.unwrap_err();
    assert_eq!(
        *error.kind(),
        ErrorKind::TooLarge { limit: DEFAULT_BLOB_LIMIT },
        "{}",
        error.chain()
    );
}

// covers: M6
#[tokio::test]
async fn manifests_embedded_in_an_index_are_used() {
    let memory = Arc::new(Memory::sparse());
    let packed = image("embedded").unwrap();
    let mut descriptor = packed.manifest.descriptor().clone();
    descriptor.data = Some(packed.manifest.bytes().to_vec());
    let list = index([&packed.manifest]).unwrap();
    memory.put_manifest(&list, &[], &oci_ref::Precondition::None).await.unwrap();
    let list = Ref::read(memory.clone(), &Target::Digest(list.digest().clone())).await.unwrap();
    let list = list.as_index().unwrap();
    assert!(list.read(&list.manifests()[0]).await.unwrap_err().is_not_found());
    assert_eq!(list.read(&descriptor).await.unwrap().manifest().bytes(), packed.manifest.bytes());
    descriptor.data = Some(b"{}".to_vec());
    let error = list.read(&descriptor).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::SizeInvalid));
    assert_eq!(memory.blob_size(packed.manifest.digest()).await.unwrap(), None);
}

#[test]
fn an_empty_artifact_type_is_none() {
    let config = Descriptor::empty_json();
    let mut image = ImageManifest::new(config.clone(), Vec::new());
    image.subject = Some(Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"subject"));
    let mut document = serde_json::to_value(&image).unwrap();
    document["artifactType"] = "".into();
    let manifest = Manifest::parse(document.to_string().into(), None, None).unwrap();
    assert_eq!(manifest.descriptor().artifact_type, None);
    let listed = manifest.as_referrer().unwrap();
    assert_eq!(listed.artifact_type.as_deref(), Some(config.media_type.as_str()));
}
