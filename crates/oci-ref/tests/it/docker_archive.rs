//! `docker-archive:`: what `docker save` writes and `docker load` reads.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci_ref::suite::content::{Packed, Piece, image, index, noise, noise_blob, tag};
use oci_ref::suite::sample;
use oci_ref::{
    Compression, CopyOptions, DEFAULT_LAYER_LIMIT, DockerArchive, DockerArchiveOptions,
    DockerArchiveWriter, Error, ErrorKind, Image, ImageBuilder, LayerContent, Manifest, Memory,
    Precondition, Ref, Select, Source, Store, Target, copy,
};
use oci_spec_types::{Digest, ErrorCode, ImageManifest, MediaType, Reference};
use serde_json::{Value, json};
use tar::EntryType;
use tempfile::TempDir;

use crate::archive::{entry, file, golden, link, read_all};
use crate::support::files;

/// An image's config and uncompressed layers.
struct Parts {
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
}

impl Parts {
    fn new(seed: &str, layers: &[&str]) -> Self {
        let layers: Vec<_> = layers.iter().map(|name| noise(name, 3000).to_vec()).collect();
        let diff_ids: Vec<_> =
            layers.iter().map(|layer| Digest::sha256(layer).to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": seed, "docker_version": "20.10.0",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self { config: config.to_string().into_bytes(), layers }
    }

    fn id(&self) -> String {
        Digest::sha256(&self.config).encoded().to_owned()
    }
}

async fn open(content: &[u8]) -> Result<DockerArchive, Error> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("archive.tar");
    fs::write(&path, content).unwrap();
    DockerArchive::open(path).await
}

/// The image of a tag, whose layers unpack to their diff IDs.
async fn checked(source: Arc<dyn Source>, target: &Target) -> Image {
    read_all(source.clone(), target).await;
    let image = Ref::read(source, target).await.unwrap().as_image().unwrap().clone();
    let mut layers = image.open_layers(DEFAULT_LAYER_LIMIT).await.unwrap();
    while let Some(layer) = layers.next_layer().await.unwrap() {
        futures_util::TryStreamExt::try_collect::<Vec<_>>(layer).await.unwrap();
    }
    image
}

// covers: C14
#[tokio::test]
async fn what_skopeo_writes_is_read() {
    let archive = Arc::new(DockerArchive::open(golden("docker-archive.tar")).await.unwrap());
    let images = archive.images();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].names, ["docker.io/library/foo:v1", "docker.io/library/foo:v2"]);
    assert_eq!(images[0].descriptor.media_type, MediaType::DOCKER_MANIFEST);
    for name in ["foo:v1", "docker.io/library/foo:v2", "library/foo:v1"] {
        assert_eq!(archive.resolve_name(name).unwrap(), images[0].descriptor, "{name}");
    }
    for name in ["foo", "foo:v3", "bar:v1", ""] {
        assert!(archive.resolve_name(name).unwrap_err().is_not_found(), "{name}");
    }
    let tags: Vec<_> = archive.tags(None, 10).await.unwrap().items;
    assert_eq!(tags, [tag("v1"), tag("v2")]);
    let image = checked(archive.clone(), &tag("v2").into()).await;
    let config = "sha256:c20ab7988a23d5cdce1515a7171dbb877552464b7edfaff9ce701883746a5df8";
    assert_eq!(image.config_descriptor().digest.as_str(), config);
    assert_eq!(image.config_descriptor().media_type, MediaType::DOCKER_CONFIG);
    let diff_ids = image.config().await.unwrap().rootfs.diff_ids;
    let layers: Vec<_> = image.layers().iter().map(|layer| layer.digest.clone()).collect();
    assert_eq!(layers, diff_ids);
    assert!(image.layers().iter().all(|layer| layer.media_type == MediaType::DOCKER_LAYER));
}

/// As Docker before 25 saves images: a directory for each layer, equal layers linked, several images.
// covers: C14
#[tokio::test]
async fn old_archives_of_several_images() {
    let (one, two) = (Parts::new("one", &["base", "top"]), Parts::new("two", &["base"]));
    let mut bytes = Vec::new();
    for (id, layer) in [("aaa", &one.layers[0]), ("bbb", &one.layers[1])] {
        bytes.extend(entry(EntryType::Directory, &format!("{id}/"), b""));
        bytes.extend(file(&format!("{id}/VERSION"), b"1.0"));
        bytes.extend(file(&format!("{id}/json"), b"{}"));
        bytes.extend(file(&format!("{id}/layer.tar"), layer));
    }
    bytes.extend(link(EntryType::Symlink, "ccc/layer.tar", "../aaa/layer.tar"));
    for parts in [&one, &two] {
        bytes.extend(file(&format!("{}.json", parts.id()), &parts.config));
    }
    let list = json!([
        { "Config": format!("{}.json", one.id()), "RepoTags": ["app:1", "app:latest"],
          "Layers": ["aaa/layer.tar", "bbb/layer.tar"] },
        { "Config": format!("{}.json", two.id()), "RepoTags": ["localhost:5000/team/base:latest"],
          "Layers": ["ccc/layer.tar"] },
        { "Config": format!("{}.json", two.id()), "RepoTags": null, "Layers": ["ccc/layer.tar"] },
    ]);
    bytes.extend(file("manifest.json", list.to_string().as_bytes()));
    bytes.extend(file("repositories", b"{}"));
    let archive = Arc::new(open(&bytes).await.unwrap());
    let images = archive.images();
    assert_eq!(images.len(), 2);
    let image = checked(archive.clone(), &tag("1").into()).await;
    assert_eq!(image.layers().len(), 2);
    assert_eq!(image.config_descriptor().digest, Digest::sha256(&one.config));

    // Two images have the tag `latest`; their names tell them apart.
    let error = archive.manifest(&tag("latest").into()).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("localhost:5000/team/base:latest"), "{error}");
    let named = archive.resolve_name("localhost:5000/team/base:latest").unwrap();
    assert_eq!(named, images[1].descriptor);
    assert_eq!(archive.resolve_name("app").unwrap(), images[0].descriptor);
    let target = Target::Digest(named.digest);
    let base = checked(archive.clone(), &target).await;
    assert_eq!(base.layers()[0].digest, Digest::sha256(&one.layers[0]));
    let pinned = Target::Pinned(tag("1"), target.digest().unwrap().clone());
    assert_eq!(archive.manifest(&pinned).await.unwrap().digest(), target.digest().unwrap());
    assert!(archive.manifest(&tag("2").into()).await.unwrap_err().is_not_found());
}

/// A layer that is not what its diff ID says is found when it is read.
// covers: C14, C16
#[tokio::test]
async fn diff_ids_are_verified() {
    let parts = Parts::new("changed", &["layer"]);
    let mut layer = parts.layers[0].clone();
    layer[1000] ^= 1;
    let list = r#"[{"Config":"c","RepoTags":["a:1"],"Layers":["./l"]}]"#;
    let bytes =
        [file("c", &parts.config), file("l", &layer), file("manifest.json", list.as_bytes())];
    let archive: Arc<dyn Source> = Arc::new(open(&bytes.concat()).await.unwrap());
    let image = Ref::read(archive, &tag("1").into()).await.unwrap().as_image().unwrap().clone();
    let error = image.read_blob_verified(&image.layers()[0], 1 << 20).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::DigestInvalid));
}

/// As newer versions of Docker save images: an OCI layout, and `manifest.json` beside it.
// covers: C14
#[tokio::test]
async fn new_archives_keep_their_manifests() {
    let layer = LayerContent::tar(noise("new", 3000), Compression::Gzip).unwrap();
    let builder = ImageBuilder::for_platform(&"linux/amd64".parse().unwrap());
    let built = builder.layer(layer).annotate("org.example.kept", "yes").build().unwrap();
    let manifest = built.manifest();
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.encoded());
    let mut contents: Vec<(String, Vec<u8>)> =
        built.blobs().map(|(found, content)| (blob(&found.digest), content.to_vec())).collect();
    contents.push((blob(manifest.digest()), manifest.bytes().to_vec()));
    // The image is one of a list whose other entries are not there, as after a pull for one platform.
    let list = index([&image("elsewhere").unwrap().manifest, manifest]).unwrap();
    contents.push((blob(list.digest()), list.bytes().to_vec()));
    let entries = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": MediaType::OCI_IMAGE_INDEX, "digest": list.digest(), "size": list.bytes().len(),
        "annotations": { "io.containerd.image.name": "docker.io/library/new:1",
                         "org.opencontainers.image.ref.name": "1" } }] });
    contents.push(("index.json".into(), entries.to_string().into_bytes()));
    contents.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let (config, layer) = {
        let mut blobs = manifest.blobs();
        (blob(&blobs.next().unwrap().digest), blob(&blobs.next().unwrap().digest))
    };
    let saved = json!([{ "Config": config, "RepoTags": ["new:1"], "Layers": [layer] }]);
    contents.push(("manifest.json".into(), saved.to_string().into_bytes()));

    let pack = |skip: &str| {
        let kept = contents.iter().filter(|(name, _)| name != skip);
        kept.flat_map(|(name, content)| file(name, content)).collect::<Vec<u8>>()
    };
    let archive = Arc::new(open(&pack("")).await.unwrap());
    let found = archive.manifest(&tag("1").into()).await.unwrap();
    assert_eq!(found.bytes(), manifest.bytes(), "the manifest is the original one");
    checked(archive, &tag("1").into()).await;
    // Without the layout, or with a broken one, the compressed layer is presented as such.
    for gone in ["oci-layout", &blob(list.digest())] {
        let archive = Arc::new(open(&pack(gone)).await.unwrap());
        let image = checked(archive, &tag("1").into()).await;
        assert_eq!(*image.manifest().media_type(), MediaType::DOCKER_MANIFEST, "{gone}");
        assert_eq!(image.layers()[0].media_type, MediaType::DOCKER_LAYER_GZIP);
        assert_eq!(blob(&image.layers()[0].digest), layer);
    }
}

fn repository(name: &str) -> DockerArchiveOptions {
    let reference: Reference = name.parse().unwrap();
    DockerArchiveOptions { repository: Some(reference), sync: true }
}

// covers: C14
#[tokio::test]
async fn an_image_is_written_and_read_again() {
    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    let directory = TempDir::new().unwrap();
    for listed in [&sample.image, &sample.docker, &sample.empty] {
        let target = Target::Digest(listed.digest.clone());
        let image = checked(from.clone(), &target).await;
        let mut archives = Vec::new();
        for tags in [["b", "a"], ["a", "b"]] {
            let path = directory.path().join("image.tar");
            let writer = DockerArchiveWriter::create(&path, repository("example.org/team/app"))
                .await
                .unwrap();
            let writer = Arc::new(writer);
            let tags = tags.map(tag).to_vec();
            let options = CopyOptions { tags, ..CopyOptions::default() };
            copy(from.clone(), &target, writer.clone(), options).await.unwrap();
            assert!(!path.exists(), "nothing is named before it is whole");
            writer.finish().await.unwrap();
            drop(writer);
            assert_eq!(files(directory.path()), ["image.tar"]);
            archives.push(fs::read(&path).unwrap());
            let archive = Arc::new(DockerArchive::open(&path).await.unwrap());
            fs::remove_file(&path).unwrap();
            assert_eq!(
                archive.images()[0].names,
                ["example.org/team/app:a", "example.org/team/app:b"]
            );
            let read = checked(archive.clone(), &tag("a").into()).await;
            assert_eq!(read.config_descriptor().digest, image.config_descriptor().digest);
            let diff_ids = image.config().await.unwrap().rootfs.diff_ids;
            let layers: Vec<_> = read.layers().iter().map(|layer| layer.digest.clone()).collect();
            assert_eq!(layers, diff_ids, "layers are written uncompressed");
        }
        assert!(archives[0] == archives[1], "the same image gives the same bytes");
    }
}

// covers: C14
#[tokio::test]
async fn what_is_in_an_archive() {
    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image.tar");
    let options = DockerArchiveOptions::default();
    let writer = Arc::new(DockerArchiveWriter::create(&path, options).await.unwrap());
    let target = Target::Digest(sample.empty.digest.clone());
    copy(from.clone(), &target, writer.clone(), CopyOptions::default()).await.unwrap();
    writer.finish().await.unwrap();
    let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
    let mut contents = Vec::new();
    for found in archive.entries().unwrap() {
        let mut found = found.unwrap();
        let name = found.path().unwrap().to_str().unwrap().to_owned();
        assert_eq!(found.header().mtime().unwrap(), 0);
        let mut content = Vec::new();
        found.read_to_end(&mut content).unwrap();
        contents.push((name, content));
    }
    // The same empty layer three times over is one file.
    let names: Vec<_> = contents.iter().map(|(name, _)| name.as_str()).collect();
    let image = checked(from, &target).await;
    let diff_id = &image.config().await.unwrap().rootfs.diff_ids[0];
    let config = format!("{}.json", image.config_descriptor().digest.encoded());
    let layer = format!("{}.tar", diff_id.encoded());
    assert_eq!(names, [config.as_str(), &layer, "manifest.json"]);
    let list: Value = serde_json::from_slice(&contents[2].1).unwrap();
    let expected = json!([{ "Config": config, "RepoTags": [], "Layers": [layer, layer, layer] }]);
    assert_eq!(list, expected);
    diff_id.verify(&contents[1].1).unwrap();
}

/// Stores an image whose config says of its one layer that this is its diff ID.
async fn store_image(
    writer: &DockerArchiveWriter,
    diff_id: &str,
    layer: &Piece,
) -> Result<(), Error> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config = Piece::new(MediaType::OCI_IMAGE_CONFIG, config);
    let manifest = ImageManifest::new(config.descriptor.clone(), vec![layer.descriptor.clone()]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let manifest = Manifest::parse(manifest.into(), None, None).unwrap();
    Packed { manifest, blobs: vec![config, layer.clone()] }.put(writer, &[]).await
}

// covers: C14
#[tokio::test]
async fn what_the_format_cannot_hold_is_refused() {
    let from = Arc::new(Memory::new());
    let sample = sample::write_all(&*from).await.unwrap();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image.tar");
    let writer = DockerArchiveWriter::create(&path, DockerArchiveOptions::default()).await.unwrap();
    let writer = Arc::new(writer);
    let error = writer.finish().await.unwrap_err();
    assert!(error.to_string().contains("no image has been stored"), "{error}");

    let into = async |digest: &Digest, options: CopyOptions| {
        copy(from.clone(), &Target::Digest(digest.clone()), writer.clone(), options).await
    };
    let none = || CopyOptions::default();
    let put = async |digest: &Digest| {
        let manifest = from.manifest(&digest.clone().into()).await.unwrap();
        writer.put_manifest(&manifest, &[], &Precondition::None).await.unwrap_err()
    };
    for list in [&sample.platforms, &sample.docker_list] {
        let error = put(&list.digest).await;
        assert!(error.is_unsupported());
        for part in [list.digest.as_str(), "list", "choose one image", "oci-archive:"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    let error = put(&sample.signature.digest).await;
    assert!(error.is_unsupported() && error.to_string().contains("artifact"), "{error}");
    let error = into(&sample.sha512.digest, none()).await.unwrap_err();
    assert!(error.chain().contains("sha256"), "{error}");
    let tagged = CopyOptions { tags: vec![tag("t")], ..none() };
    let error = into(&sample.image.digest, tagged).await.unwrap_err();
    assert!(error.chain().contains("without a repository"), "{error}");
    writer.finish().await.unwrap_err();

    // One image of the list, as the message says; and then no other.
    let select = Select::Image("linux/arm64/v8".parse().unwrap());
    into(&sample.platforms.digest, CopyOptions { select, ..none() }).await.unwrap();
    let error = into(&sample.image.digest, none()).await.unwrap_err();
    assert!(error.chain().contains("one image"), "{error}");
    writer.finish().await.unwrap();
    DockerArchive::open(&path).await.unwrap();
}

// covers: C16
#[tokio::test]
async fn a_layer_that_is_not_its_diff_id_leaves_no_archive() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image.tar");
    let options = DockerArchiveOptions::default();
    let layer = noise_blob("layer", 3000);
    let layer = Piece::new(MediaType::OCI_LAYER, layer.bytes);
    for (other, code) in [
        (Digest::sha256(b"another").to_string(), ErrorCode::DigestInvalid),
        (
            format!("sha256:{}\",\"sha256:{}", "0".repeat(64), "1".repeat(64)),
            ErrorCode::ManifestInvalid,
        ),
    ] {
        let writer = DockerArchiveWriter::create(&path, options.clone()).await.unwrap();
        let stored = store_image(&writer, &other, &layer).await;
        let error = match stored {
            Ok(()) => writer.finish().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Some(&code), "{error}");
        drop(writer);
        assert_eq!(files(directory.path()), Vec::<String>::new());
    }
    let writer = DockerArchiveWriter::create(&path, options).await.unwrap();
    store_image(&writer, layer.descriptor.digest.as_str(), &layer).await.unwrap();
    writer.finish().await.unwrap();
    assert!(Path::new(&path).exists());
}

// covers: C14
#[tokio::test]
async fn broken_archives_are_refused() {
    let parts = Parts::new("broken", &["one", "two"]);
    let with = |list: &str| {
        [
            file("c", &parts.config),
            file("l", &parts.layers[0]),
            file("text", b"text"),
            file("x.tar", b"\xfd7zXZ\0 and more"),
            entry(EntryType::Directory, "d/", b""),
            file("manifest.json", list.as_bytes()),
        ]
        .concat()
    };
    let many = format!("[{}]", vec![r#"{"Config":"c"}"#; 1001].join(","));
    let long = format!(r#"[{{"Config":"{}"}}]"#, "n".repeat(100_000));
    let cases: &[(&str, Vec<u8>, &[&str])] = &[
        ("an OCI archive", file("oci-layout", b"{}"), &["no manifest.json", "oci-archive:"]),
        ("a very old one", file("repositories", b"{}"), &["no manifest.json", "1.10"]),
        ("gzip", vec![0x1f, 0x8b, 8], &["decompressed as gzip"]),
        ("no JSON", with("["), &["manifest.json"]),
        ("no list", with("{}"), &["not a list of images"]),
        ("no config", with(r#"[{"Layers":[]}]"#), &["[0].Config"]),
        ("a missing config", with(r#"[{"Config":"gone"}]"#), &["\"gone\" does not exist"]),
        ("a config outside", with(r#"[{"Config":"../c"}]"#), &["\"../c\" does not exist"]),
        (
            "a name that would write on a terminal",
            with(r#"[{"Config":"a\u001b[2J\u007f"}]"#),
            &[r#""a\u{1b}[2J\u{7f}" does not exist"#],
        ),
        ("a long name", with(&long), &["nnnn\" does not exist"]),
        ("a directory", with(r#"[{"Config":"d"}]"#), &["\"d\" is not a regular file"]),
        ("a config that is none", with(r#"[{"Config":"text"}]"#), &["config \"text\""]),
        ("too few layers", with(r#"[{"Config":"c","Layers":["l"]}]"#), &["1 layers", "2 diff IDs"]),
        (
            "a missing layer",
            with(r#"[{"Config":"c","Layers":["l","m"]}]"#),
            &["\"m\" does not exist"],
        ),
        ("an unknown compression", with(r#"[{"Config":"c","Layers":["l","x.tar"]}]"#), &["xz"]),
        ("too many images", with(&many), &["1001 images", "1000"]),
    ];
    for (name, content, expected) in cases {
        let error = open(content).await.expect_err(name);
        let text = error.chain();
        for part in *expected {
            assert!(text.contains(part), "{name}: {part:?} is missing in: {text}");
        }
        assert!(text.len() < 1000 && !text.contains(char::is_control), "{name}: {text:?}");
    }
}
