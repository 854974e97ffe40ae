//! Building images and artifacts, and reading their layers back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{
    ArtifactBuilder, Built, Compression, DEFAULT_LAYER_LIMIT, ErrorKind, Image, ImageBuilder,
    LayerContent, List, Manifest, Memory, Ref, Result, Source, Store, Target, choose_image,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, History, ImageConfig, MediaType, Platform};

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// Content that compresses well and is larger than any buffer.
fn archive(seed: u8) -> Bytes {
    (0..300_000u32).map(|at| seed.wrapping_add((at / 1000) as u8)).collect()
}

fn linux() -> Platform {
    Platform::new("linux", "amd64")
}

fn layered(compressions: &[Compression]) -> Built {
    let mut builder = ImageBuilder::for_platform(&linux());
    for (seed, compression) in compressions.iter().enumerate() {
        builder = builder.layer(LayerContent::tar(archive(seed as u8), *compression).unwrap());
    }
    builder.build().unwrap()
}

async fn stored(built: Built) -> Image {
    let store = Arc::new(Memory::new());
    let manifest = built.write(&*store, &[]).await.unwrap();
    Ref::new(manifest, store).unwrap().as_image().unwrap().clone()
}

async fn unpack(image: &Image, limit: u64) -> Result<Vec<Vec<u8>>> {
    let mut layers = image.open_layers(limit).await?;
    let mut all = Vec::new();
    while let Some(layer) = layers.next_layer().await? {
        all.push(layer.try_collect::<Vec<Bytes>>().await?.concat());
    }
    Ok(all)
}

#[tokio::test]
async fn an_image_with_everything() {
    let subject = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"subject");
    let step = |text: &str, empty| History {
        created_by: Some(text.to_owned()),
        empty_layer: Some(empty).filter(|empty| *empty),
        ..History::default()
    };
    let build = || {
        let mut builder = ImageBuilder::for_platform(&"linux/arm/v7".parse().unwrap())
            .env("PATH", "/bin")
            .env("HOME", "/")
            .env("PATH", "/usr/bin")
            .label("b", "2")
            .label("a", "1")
            .layer(
                LayerContent::tar(archive(1), Compression::Gzip)
                    .unwrap()
                    .annotate("layer", "first"),
            )
            .history(step("ADD", false))
            .history(step("ENV", true))
            .annotate("z", "26")
            .subject(subject.clone());
        builder.config_mut().author = Some("somebody".to_owned());
        builder.build().unwrap()
    };
    let built = build();
    assert_eq!(
        built.manifest().bytes(),
        build().manifest().bytes(),
        "the same input gives the same bytes"
    );
    for (descriptor, content) in built.blobs() {
        descriptor.digest.verify(content).unwrap();
        assert_eq!(descriptor.size, content.len() as u64);
    }
    assert_eq!(built.index_entry().platform, Some("linux/arm/v7".parse().unwrap()));

    let image = stored(built).await;
    assert_eq!(image.manifest().subject(), Some(&subject));
    assert_eq!(image.document().annotations["z"], "26");
    assert_eq!(image.layers()[0].annotations["layer"], "first");
    assert_eq!(image.layers()[0].media_type, MediaType::OCI_LAYER_GZIP);
    let config = image.config().await.unwrap();
    assert_eq!(config.rootfs.diff_ids, [Digest::sha256(&archive(1))]);
    assert_eq!(config.author.as_deref(), Some("somebody"));
    assert_eq!(config.history.len(), 2);
    let run = config.config.unwrap();
    assert_eq!(run.env, ["HOME=/", "PATH=/usr/bin"]);
    assert_eq!(run.labels.len(), 2);
    let entry = image.index_entry().await.unwrap();
    assert_eq!(entry.platform, Some("linux/arm/v7".parse().unwrap()));
    assert_eq!(entry.digest, *image.manifest().digest());
}

#[test]
fn a_docker_image() {
    let layer = || LayerContent::tar(archive(1), Compression::Gzip).unwrap();
    let builder = ImageBuilder::for_platform(&linux()).media_type(MediaType::DOCKER_MANIFEST);
    let built = builder.clone().layer(layer()).build().unwrap();
    assert_eq!(built.manifest().media_type(), &MediaType::DOCKER_MANIFEST);
    let types: Vec<_> =
        built.blobs().map(|(descriptor, _)| descriptor.media_type.clone()).collect();
    assert_eq!(types, [MediaType::DOCKER_CONFIG, MediaType::DOCKER_LAYER_GZIP]);

    let error = builder.clone().annotate("a", "b").build().unwrap_err();
    assert!(error.to_string().ends_with("annotations: a Docker image cannot hold this"), "{error}");
    assert!(builder.media_type(MediaType::OCI_IMAGE_INDEX).build().is_err());
}

#[test]
fn what_would_not_be_an_image_is_refused() {
    let builder = || ImageBuilder::for_platform(&linux());
    let error =
        builder().layer(LayerContent::blob(MediaType::OCTET_STREAM, "x")).build().unwrap_err();
    assert!(
        error.to_string().starts_with("layer 0 is of type application/octet-stream"),
        "{error}"
    );

    let error = builder().history(History::default()).build().unwrap_err();
    assert_eq!(error.to_string(), "1 steps of the history made a layer, but there are 0 layers");

    let mut twice = builder();
    twice.config_mut().extra.insert("os".to_owned(), "windows".into());
    let error = twice.build().unwrap_err();
    assert!(error.to_string().contains("os"), "{error}");

    let twice = Descriptor {
        extra: [("size".to_owned(), 1.into())].into(),
        ..Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"")
    };
    assert!(builder().subject(twice).build().is_err());
}

#[tokio::test]
async fn an_artifact_without_anything_has_the_empty_object() {
    let kind = MediaType::from_static("application/vnd.example.note");
    let store = Arc::new(Memory::new());
    let subject = stored(layered(&[])).await.manifest().descriptor().clone();
    let manifest = ArtifactBuilder::new(kind.clone())
        .annotate("note", "text")
        .subject(subject.clone())
        .write(&*store, &["note".parse().unwrap()])
        .await
        .unwrap();
    assert!(manifest.blobs().all(|blob| *blob == Descriptor::empty_json()));
    assert_eq!(manifest.blobs().count(), 2);
    assert_eq!(store.blob_bytes(&Digest::sha256(b"{}")).unwrap(), "{}");
    let referrers = store.referrers(&subject.digest, Some(kind.as_str()), None, 10).await.unwrap();
    assert_eq!(referrers.page.items[0].digest, *manifest.digest());
    assert_eq!(referrers.page.items[0].artifact_type.as_deref(), Some(kind.as_str()));

    let image = Ref::read(store, &Target::Tag("note".parse().unwrap())).await.unwrap();
    let image = image.as_image().unwrap();
    assert_eq!(image.index_entry().await.unwrap().platform, None);
    assert!(image.platform().await.unwrap_err().is_unsupported());
    assert!(image.open_layers(DEFAULT_LAYER_LIMIT).await.unwrap_err().is_unsupported());
}

#[test]
fn an_artifact_of_bytes() {
    let kind = MediaType::from_static("application/vnd.example.model");
    let built = ArtifactBuilder::new(kind.clone())
        .config(MediaType::from_static("application/vnd.example.model.config+json"), r#"{"a":1}"#)
        .layer(
            LayerContent::blob(MediaType::OCTET_STREAM, "weights")
                .annotate("org.opencontainers.image.title", "w.bin"),
        )
        .layer(LayerContent::tar(archive(0), Compression::Zstd).unwrap())
        .build()
        .unwrap();
    let image = built.manifest().image().unwrap();
    assert_eq!(image.artifact_type.as_deref(), Some(kind.as_str()));
    assert_eq!(image.config.media_type.as_str(), "application/vnd.example.model.config+json");
    assert_eq!(image.layers[0].digest, Digest::sha256(b"weights"));
    assert_eq!(image.layers[1].media_type, MediaType::OCI_LAYER_ZSTD);
    assert_eq!(built.index_entry().platform, None);
    assert_eq!(built.index_entry().artifact_type.as_deref(), Some(kind.as_str()));
}

#[tokio::test]
async fn an_index_of_images() {
    let store = Arc::new(Memory::new());
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for platform in ["linux/amd64", "linux/arm64", "windows(10.0.20348.1)/amd64"] {
        let layer = LayerContent::tar(archive(0), Compression::Gzip).unwrap();
        let built =
            ImageBuilder::for_platform(&platform.parse().unwrap()).layer(layer).build().unwrap();
        list.add(built.index_entry());
        built.write(&*store, &[]).await.unwrap();
    }
    let tag = "all".parse().unwrap();
    list.write(&*store, std::slice::from_ref(&tag)).await.unwrap();

    let index = Ref::read(store, &Target::Tag(tag)).await.unwrap();
    let wanted = "windows(10.0.20348.5)/amd64".parse().unwrap();
    let chosen =
        choose_image(index.as_index().unwrap(), &wanted, &Default::default()).await.unwrap();
    assert_eq!(chosen.path.to_string(), "manifests/2");
    assert_eq!(chosen.image.platform().await.unwrap().os_version.as_deref(), Some("10.0.20348.1"));
}

#[tokio::test]
async fn what_is_there_is_not_written_again() {
    let store = Memory::new();
    let built = layered(&[Compression::Gzip, Compression::Gzip]);
    let first = built.clone().write(&store, &[]).await.unwrap();
    assert_eq!(built.write(&store, &["again".parse().unwrap()]).await.unwrap(), first);
    let layer = LayerContent::tar(archive(7), Compression::None).unwrap();
    let same = ImageBuilder::for_platform(&linux()).layer(layer.clone()).layer(layer);
    assert_eq!(same.write(&store, &[]).await.unwrap().image().unwrap().layers.len(), 2);
}

#[tokio::test]
async fn layers_come_unpacked_and_in_order() {
    let all: Vec<_> = ALL.into_iter().chain(ALL).collect();
    let image = stored(layered(&all)).await;
    let unpacked = unpack(&image, 300_000).await.unwrap();
    assert_eq!(unpacked.len(), 6);
    for (seed, content) in unpacked.iter().enumerate() {
        assert!(*content == archive(seed as u8), "layer {seed}");
    }
    let mut layers = image.open_layers(DEFAULT_LAYER_LIMIT).await.unwrap();
    let layer = layers.next_layer().await.unwrap().unwrap();
    assert_eq!(layer.descriptor(), &image.layers()[0]);
    assert_eq!(layer.diff_id(), &Digest::sha256(&archive(0)));
}

#[tokio::test]
async fn a_layer_that_unpacks_to_too_much() {
    for compression in ALL {
        let image = stored(layered(&[compression])).await;
        let error = unpack(&image, 299_999).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TooLarge { limit: 299_999 }, "{compression:?}");
    }
}

/// An image whose config names these diff IDs, whatever its layers are.
async fn with_diff_ids(layers: Vec<LayerContent>, diff_ids: Vec<Digest>) -> Image {
    let built = ImageBuilder::for_platform(&linux()).build().unwrap();
    let (_, config) = built.blobs().next().unwrap();
    let mut config = ImageConfig::from_slice(config).unwrap();
    config.rootfs.diff_ids = diff_ids;
    let config = Bytes::from(serde_json::to_vec(&config).unwrap());
    let store = Arc::new(Memory::new());
    let mut builder =
        ArtifactBuilder::new(MediaType::OCTET_STREAM).config(MediaType::OCI_IMAGE_CONFIG, config);
    for layer in layers {
        builder = builder.layer(layer);
    }
    let manifest = builder.write(&*store, &[]).await.unwrap();
    Ref::new(manifest, store).unwrap().as_image().unwrap().clone()
}

#[tokio::test]
async fn a_layer_with_another_diff_id_never_comes_whole() {
    for compression in ALL {
        let layer = LayerContent::tar(archive(0), compression).unwrap();
        let image = with_diff_ids(vec![layer], vec![Digest::sha256(b"something else")]).await;
        let mut layer = image
            .open_layers(DEFAULT_LAYER_LIMIT)
            .await
            .unwrap()
            .next_layer()
            .await
            .unwrap()
            .unwrap();
        let mut got = 0;
        let error = loop {
            match layer.try_next().await {
                Ok(Some(chunk)) => got += chunk.len(),
                Ok(None) => panic!("{compression:?}: no error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
        assert!(error.to_string().contains("does not unpack to its diff ID"), "{error}");
        assert!(got < 300_000, "{compression:?}: all {got} bytes came before the error");
        assert!(layer.try_next().await.unwrap().is_none(), "a stream ends after its error");
    }
}

#[tokio::test]
async fn layers_that_are_not_what_they_say() {
    let cases = [
        (MediaType::OCI_LAYER_GZIP, Bytes::from_static(b"not gzip at all")),
        (MediaType::OCI_LAYER_GZIP, Bytes::new()),
        (MediaType::OCI_LAYER_ZSTD, Bytes::from_static(b"not zstd")),
        (MediaType::DOCKER_LAYER_ZSTD, Bytes::new()),
    ];
    for (media_type, content) in cases {
        let layer = LayerContent::blob(media_type.clone(), content.clone());
        let image = with_diff_ids(vec![layer], vec![Digest::sha256(b"")]).await;
        let error = unpack(&image, 1000).await.unwrap_err();
        assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{media_type}: {error}");
        assert!(error.to_string().ends_with(&format!("is not {media_type}")), "{error}");
        assert!(LayerContent::packed(media_type, content, 1000).is_err());
    }

    let blob = LayerContent::blob(MediaType::OCTET_STREAM, "x");
    let image = with_diff_ids(vec![blob], vec![Digest::sha256(b"x")]).await;
    assert!(unpack(&image, 1000).await.unwrap_err().is_unsupported());

    let image =
        with_diff_ids(vec![LayerContent::tar("x", Compression::None).unwrap()], Vec::new()).await;
    let error = unpack(&image, 1000).await.unwrap_err();
    assert!(error.to_string().ends_with("has 1 layers, and 0 diff IDs in its config"), "{error}");
}

#[test]
fn the_diff_id_of_a_packed_layer_is_computed() {
    for compression in ALL {
        let layer = LayerContent::tar(archive(3), compression).unwrap();
        let built = ImageBuilder::for_platform(&linux()).layer(layer.clone()).build().unwrap();
        let (_, content) = built.blobs().nth(1).unwrap();
        let packed =
            LayerContent::packed(compression.media_type(), content.clone(), 300_000).unwrap();
        assert_eq!(packed, layer);
        let error =
            LayerContent::packed(compression.media_type(), content.clone(), 299_999).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TooLarge { limit: 299_999 });
    }
    assert!(LayerContent::packed(MediaType::OCTET_STREAM, "x", 10).is_err());
}

/// 64 MiB of zeros in a few kilobytes: stopped at the limit, long before all is unpacked.
#[tokio::test]
async fn a_bomb_is_stopped_at_the_limit() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let layer = LayerContent::tar(vec![0; 64 << 20], compression).unwrap();
        assert!(layer.descriptor().size < 100 << 10);
        let diff_id = layer.diff_id().unwrap().clone();
        let image = with_diff_ids(vec![layer], vec![diff_id]).await;
        let mut layer =
            image.open_layers(1 << 20).await.unwrap().next_layer().await.unwrap().unwrap();
        let mut got = 0;
        let error = loop {
            match layer.try_next().await {
                Ok(chunk) => got += chunk.unwrap().len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), &ErrorKind::TooLarge { limit: 1 << 20 });
        assert!(got <= 1 << 20, "{got} bytes came");
    }
}

/// Nothing but empty members: much input, no output, and yet it ends.
#[tokio::test]
async fn much_input_without_output() {
    for (compression, media_type) in [
        (Compression::Gzip, MediaType::OCI_LAYER_GZIP),
        (Compression::Zstd, MediaType::OCI_LAYER_ZSTD),
    ] {
        let empty = LayerContent::tar("", compression).unwrap();
        let built = ImageBuilder::for_platform(&linux()).layer(empty).build().unwrap();
        let (_, packed) = built.blobs().nth(1).unwrap();
        let layer = LayerContent::blob(media_type, packed.repeat(1000));
        let image = with_diff_ids(vec![layer], vec![Digest::sha256(b"")]).await;
        assert_eq!(unpack(&image, 0).await.unwrap(), [b""]);
    }
}

/// A store may be any: the builder needs nothing but the trait.
#[tokio::test]
async fn writing_through_the_trait() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let manifest: Manifest =
        layered(&[Compression::None]).write(&*store, &["x".parse().unwrap()]).await.unwrap();
    assert_eq!(
        store.resolve(&Target::Tag("x".parse().unwrap())).await.unwrap().digest,
        *manifest.digest()
    );
}
