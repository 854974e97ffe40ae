//! Conversion between OCI and Docker.

use bytes::Bytes;
use oci_ref::{Change, ErrorKind, List, Loss, Manifest, host_platform};
use oci_spec_types::{Descriptor, ErrorCode, ImageIndex, ImageManifest, MediaType, Platform};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Layer types that both formats have.
const LAYERS: [(MediaType, MediaType); 4] = [
    (MediaType::OCI_LAYER, MediaType::DOCKER_LAYER),
    (MediaType::OCI_LAYER_GZIP, MediaType::DOCKER_LAYER_GZIP),
    (MediaType::OCI_LAYER_NONDISTRIBUTABLE, MediaType::DOCKER_FOREIGN_LAYER),
    (MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP, MediaType::DOCKER_FOREIGN_LAYER_GZIP),
];

fn index(index: &ImageIndex) -> Manifest {
    Manifest::parse(serde_json::to_vec(index).unwrap().into(), None, None).unwrap()
}

fn image(image: &ImageManifest) -> Manifest {
    Manifest::parse(serde_json::to_vec(image).unwrap().into(), None, None).unwrap()
}

fn oci_image(layers: Vec<Descriptor>) -> ImageManifest {
    ImageManifest::new(Descriptor::of(MediaType::OCI_IMAGE_CONFIG, b"{}"), layers)
}

fn layer(media_type: MediaType) -> Descriptor {
    Descriptor::of(media_type, b"layer")
}

fn annotated(mut descriptor: Descriptor) -> Descriptor {
    descriptor.annotations.insert("a".to_owned(), "b".to_owned());
    descriptor
}

/// The strict conversion is refused for `path`; the lossy one reports it, and what comes out converts strictly.
fn check_lossy(
    manifest: &Manifest,
    media_type: &MediaType,
    expected: &[(&str, Change)],
) -> Manifest {
    let error = manifest.convert_to(media_type, Loss::Refuse).unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid));
    let first = format!(": {}: ", expected[0].0);
    assert!(error.to_string().contains(&first), "{error} does not name {first:?}");

    let conversion = manifest.convert_to(media_type, Loss::Allow).unwrap();
    let dropped: Vec<_> = conversion
        .dropped
        .iter()
        .map(|dropped| (dropped.path.as_str(), dropped.change.clone()))
        .collect();
    assert_eq!(dropped, expected);
    assert_eq!(conversion.manifest.media_type(), media_type);
    conversion.manifest
}

// covers: C4
#[test]
fn the_same_type_is_the_same_bytes() {
    let text = r#"{ "schemaVersion": 2, "manifests": [], "annotations": {"a": "b"} }"#;
    let manifest = Manifest::parse(Bytes::from_static(text.as_bytes()), None, None).unwrap();
    let conversion = manifest.convert_to(&MediaType::OCI_IMAGE_INDEX, Loss::Refuse).unwrap();
    assert_eq!(conversion.manifest.bytes(), text.as_bytes());
    assert!(conversion.dropped.is_empty());
}

// covers: C4
#[test]
fn lists_and_images_are_not_each_other() {
    let list = index(&ImageIndex::new(Vec::new()));
    let single = image(&oci_image(Vec::new()));
    for media_type in [MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST] {
        let error = list.convert_to(&media_type, Loss::Allow).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Invalid);
        assert!(
            error.to_string().ends_with(&format!("{media_type}, which is not a list type")),
            "{error}"
        );
        assert!(List::of(&list).unwrap().convert_to(&media_type, Loss::Allow).is_err());
    }
    for media_type in
        [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST, MediaType::DOCKER_SCHEMA1]
    {
        let error = single.convert_to(&media_type, Loss::Allow).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("{media_type}, which is not an image type")),
            "{error}"
        );
    }
}

// covers: C4
#[test]
fn what_a_docker_list_cannot_hold() {
    let target = MediaType::DOCKER_MANIFEST_LIST;
    let entry = |name: &[u8]| Descriptor {
        platform: Some(Platform::new("linux", "amd64")),
        ..Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, name)
    };
    let mut oci =
        ImageIndex::new(vec![entry(b"0"), annotated(entry(b"1")), entry(b"2"), entry(b"3")]);
    oci.annotations.insert("a".to_owned(), "b".to_owned());
    oci.artifact_type = Some("application/x".to_owned());
    oci.subject = Some(entry(b"subject"));
    oci.manifests[0].platform = None;
    oci.manifests[2].artifact_type = Some("application/y".to_owned());
    oci.manifests[3].data = Some(b"3".to_vec());
    let removed = Change::Removed;
    let docker = check_lossy(
        &index(&oci),
        &target,
        &[
            ("annotations", removed.clone()),
            ("artifactType", removed.clone()),
            ("subject", removed.clone()),
            (
                "manifests[0].platform",
                Change::PlatformAssumed(Platform { variant: None, ..host_platform() }),
            ),
            ("manifests[1].annotations", removed.clone()),
            ("manifests[2].artifactType", removed.clone()),
            ("manifests[3].data", removed),
        ],
    );
    assert!(docker.manifests().iter().all(|entry| entry.platform.is_some()));
    docker.convert_to(&MediaType::OCI_IMAGE_INDEX, Loss::Refuse).unwrap();

    // Each alone is refused by its name.
    type Edit = fn(&mut ImageIndex);
    let alone: [(&str, Edit); 4] = [
        ("artifactType", |index| index.artifact_type = Some("application/x".to_owned())),
        ("subject", |index| index.subject = Some(index.manifests[0].clone())),
        ("manifests[0].platform", |index| index.manifests[0].platform = None),
        ("manifests[0].data", |index| index.manifests[0].data = Some(b"0".to_vec())),
    ];
    for (path, edit) in alone {
        let mut oci = ImageIndex::new(vec![entry(b"0")]);
        edit(&mut oci);
        let error = index(&oci).convert_to(&target, Loss::Refuse).unwrap_err();
        assert!(error.to_string().contains(&format!(": {path}: a Docker list ")), "{error}");
    }
}

// covers: C4
#[test]
fn an_oci_index_has_no_processor_features() {
    let path =
        format!("{}/../../testdata/spec/docker-manifest-list.json", env!("CARGO_MANIFEST_DIR"));
    let docker = Manifest::parse(std::fs::read(path).unwrap().into(), None, None).unwrap();
    let oci = check_lossy(
        &docker,
        &MediaType::OCI_IMAGE_INDEX,
        &[("manifests[0].platform.features", Change::Removed)],
    );
    assert!(oci.manifests()[0].platform.as_ref().unwrap().features.is_empty());
    assert_eq!(
        oci.manifests()[0].digest,
        docker.manifests()[0].digest,
        "instances stay as they are"
    );
    assert_eq!(oci.manifests()[0].media_type, MediaType::DOCKER_MANIFEST);
}

// covers: C4
#[test]
fn config_and_layers_change_their_types_with_the_image() {
    for (oci, docker) in LAYERS {
        let original = image(&oci_image(vec![layer(oci.clone())]));
        let converted =
            original.convert_to(&MediaType::DOCKER_MANIFEST, Loss::Refuse).unwrap().manifest;
        let types: Vec<_> = converted.blobs().map(|blob| blob.media_type.clone()).collect();
        assert_eq!(types, [MediaType::DOCKER_CONFIG, docker]);
        let digests = |manifest: &Manifest| {
            manifest.blobs().map(|blob| blob.digest.clone()).collect::<Vec<_>>()
        };
        assert_eq!(digests(&original), digests(&converted), "blobs stay as they are");
        let back =
            converted.convert_to(&MediaType::OCI_IMAGE_MANIFEST, Loss::Refuse).unwrap().manifest;
        assert_eq!(back.bytes(), original.bytes());
    }
}

#[test]
fn what_a_docker_image_cannot_hold() {
    let target = MediaType::DOCKER_MANIFEST;
    let mut oci =
        oci_image(vec![annotated(layer(MediaType::OCI_LAYER)), layer(MediaType::OCI_LAYER_ZSTD)]);
    oci.config = annotated(oci.config);
    oci.config.data = Some(b"{}".to_vec());
    oci.annotations.insert("a".to_owned(), "b".to_owned());
    oci.artifact_type = Some("application/x".to_owned());
    oci.subject = Some(layer(MediaType::OCI_IMAGE_MANIFEST));
    let removed = Change::Removed;
    let docker = check_lossy(
        &image(&oci),
        &target,
        &[
            ("annotations", removed.clone()),
            ("artifactType", removed.clone()),
            ("subject", removed.clone()),
            ("config.annotations", removed.clone()),
            ("config.data", removed.clone()),
            ("layers[0].annotations", removed),
            ("layers[1]", Change::Unofficial(MediaType::DOCKER_LAYER_ZSTD)),
        ],
    );
    let back = docker.convert_to(&MediaType::OCI_IMAGE_MANIFEST, Loss::Refuse).unwrap().manifest;
    assert_eq!(back.image().unwrap().layers[1].media_type, MediaType::OCI_LAYER_ZSTD);
}

#[test]
fn what_has_no_like_is_refused_in_any_case() {
    let unlike = [
        oci_image(vec![layer(MediaType::OCI_LAYER_NONDISTRIBUTABLE_ZSTD)]),
        oci_image(vec![layer(MediaType::from_static(
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        ))]),
        ImageManifest::new(Descriptor::empty_json(), Vec::new()),
        ImageManifest::new(
            layer(MediaType::from_static("application/vnd.cncf.helm.config.v1+json")),
            Vec::new(),
        ),
    ];
    for document in unlike {
        let error =
            image(&document).convert_to(&MediaType::DOCKER_MANIFEST, Loss::Allow).unwrap_err();
        assert!(
            error.to_string().contains("a Docker image has nothing like application/vnd."),
            "{error}"
        );
    }
    let plugin = ImageManifest {
        media_type: Some(MediaType::DOCKER_MANIFEST),
        ..ImageManifest::new(
            layer(MediaType::from_static("application/vnd.docker.plugin.v1+json")),
            Vec::new(),
        )
    };
    let error = image(&plugin).convert_to(&MediaType::OCI_IMAGE_MANIFEST, Loss::Allow).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "config: an OCI image has nothing like application/vnd.docker.plugin.v1+json"
        )
    );
}

#[test]
fn empty_texts_say_nothing() {
    let text = r#"{"schemaVersion":2,"artifactType":"","manifests":[],"annotations":{}}"#;
    let manifest = Manifest::parse(Bytes::from_static(text.as_bytes()), None, None).unwrap();
    assert!(manifest.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Refuse).is_ok());
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec("[a-z0-9.]{1,6}", 0..3)
}

fn extra() -> impl Strategy<Value = oci_spec_types::Extra> {
    btree_map("x-[a-z]{1,4}", any::<i32>().prop_map(Into::into), 0..2)
}

fn annotations() -> impl Strategy<Value = oci_spec_types::Annotations> {
    btree_map("[a-z.]{1,6}", ".{0,6}", 0..3)
}

prop_compose! {
    fn platform()(
        [architecture, os] in ["[a-z0-9]{1,6}", "[a-z]{1,6}"],
        os_version in option::of("[0-9.]{1,6}"),
        variant in option::of("v[0-9]"),
        os_features in texts(),
        extra in extra(),
    ) -> Platform {
        Platform { os_version, variant, os_features, extra, ..Platform::new(os, architecture) }
    }
}

prop_compose! {
    /// A descriptor of what both formats can hold.
    fn common(types: std::vec::Vec<MediaType>)(
        media_type in prop::sample::select(types),
        content in vec(any::<u8>(), 0..8),
        urls in texts(),
        extra in extra(),
    ) -> Descriptor {
        Descriptor { urls, extra, ..Descriptor::of(media_type, &content) }
    }
}

fn entry() -> impl Strategy<Value = Descriptor> {
    let types =
        vec![MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST, MediaType::OCI_IMAGE_INDEX];
    (common(types), platform())
        .prop_map(|(entry, platform)| Descriptor { platform: Some(platform), ..entry })
}

fn oci_layer() -> impl Strategy<Value = Descriptor> {
    common(LAYERS.into_iter().map(|(oci, _)| oci).collect())
}

/// Adds what only OCI can hold.
fn oci_only(descriptor: impl Strategy<Value = Descriptor>) -> impl Strategy<Value = Descriptor> {
    (descriptor, annotations(), option::of(vec(any::<u8>(), 0..4)))
        .prop_map(|(descriptor, annotations, data)| Descriptor { annotations, data, ..descriptor })
}

proptest! {
    // covers: C4
    #[test]
    fn lists_come_back_as_they_were(entries in vec(entry(), 0..5), extra in extra()) {
        let types = [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST];
        for (from, to) in [(&types[0], &types[1]), (&types[1], &types[0])] {
            let document = ImageIndex {
                media_type: Some(from.clone()),
                extra: extra.clone(),
                ..ImageIndex::new(entries.clone())
            };
            let original = index(&document);
            let there = original.convert_to(to, Loss::Refuse).unwrap();
            prop_assert!(there.dropped.is_empty());
            prop_assert_eq!(there.manifest.manifests(), original.manifests());
            let back = there.manifest.convert_to(from, Loss::Refuse).unwrap().manifest;
            prop_assert_eq!(back.bytes(), original.bytes());
        }
    }

    #[test]
    fn images_come_back_as_they_were(
        config in common(vec![MediaType::OCI_IMAGE_CONFIG]),
        layers in vec(oci_layer(), 0..5),
        extra in extra(),
    ) {
        let original = image(&ImageManifest { extra, ..ImageManifest::new(config, layers) });
        let docker = original.convert_to(&MediaType::DOCKER_MANIFEST, Loss::Refuse).unwrap().manifest;
        let back = docker.convert_to(&MediaType::OCI_IMAGE_MANIFEST, Loss::Refuse).unwrap().manifest;
        prop_assert_eq!(back.bytes(), original.bytes());
        let again = back.convert_to(&MediaType::DOCKER_MANIFEST, Loss::Refuse).unwrap().manifest;
        prop_assert_eq!(again.bytes(), docker.bytes());
    }

    /// A lossy conversion reports exactly what a strict one would not have allowed, and nothing else is lost.
    #[test]
    fn what_is_lost_is_reported(entries in vec(oci_only(entry()), 0..5), annotations in annotations()) {
        let original = index(&ImageIndex { annotations, ..ImageIndex::new(entries) });
        let strict = original.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Refuse);
        let lossy = original.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Allow).unwrap();
        prop_assert_eq!(strict.is_ok(), lossy.dropped.is_empty());

        let mut expected = original.index().unwrap().clone();
        for dropped in &lossy.dropped {
            match dropped.path.strip_prefix("manifests[") {
                None => expected.annotations.clear(),
                Some(rest) => {
                    let (position, field) = rest.split_once("].").unwrap();
                    let entry = &mut expected.manifests[position.parse::<usize>().unwrap()];
                    match field {
                        "annotations" => entry.annotations.clear(),
                        "data" => entry.data = None,
                        other => prop_assert!(false, "{}", other),
                    }
                }
            }
        }
        let back = lossy.manifest.convert_to(&MediaType::OCI_IMAGE_INDEX, Loss::Refuse).unwrap().manifest;
        prop_assert_eq!(back.index().unwrap(), &expected);
    }
}
