//! Archives whose parts say different things of one image.

use std::fs;
use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_ref::suite::content::{noise, tag};
use oci_ref::{
    ByteRange, Compression, CopyOptions, DockerArchive, Error, ImageBuilder, LayerContent, Memory,
    Ref, Source, Target, copy,
};
use oci_spec_types::{Digest, ErrorCode, MediaType};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::archive::file;

/// An archive with an OCI layout and a `manifest.json` for one image, as Docker saves it since
/// version 25.
struct Saved {
    /// The image's manifest in the layout.
    manifest: Value,
    /// The only item of `manifest.json`.
    item: Value,
    files: Vec<(String, Vec<u8>)>,
}

fn path(digest: &str) -> String {
    digest.replacen("sha256:", "blobs/sha256/", 1)
}

impl Saved {
    /// An image with a layer of each compression.
    fn new(compressions: &[Compression]) -> Self {
        let mut builder = ImageBuilder::for_platform(&"linux/amd64".parse().unwrap());
        for (number, compression) in compressions.iter().enumerate() {
            let content = noise(&format!("layer {number}"), 3000);
            builder = builder.layer(LayerContent::tar(content, *compression).unwrap());
        }
        let built = builder.build().unwrap();
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (found, content) in built.blobs() {
            files.push((path(found.digest.as_str()), content.to_vec()));
        }
        let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
        files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        Self {
            manifest: serde_json::from_slice(built.manifest().bytes()).unwrap(),
            item: json!({ "Config": paths[0], "RepoTags": ["app:1"], "Layers": paths[1..] }),
            files,
        }
    }

    fn content(&mut self, path: &str) -> &mut Vec<u8> {
        &mut self.files.iter_mut().find(|(name, _)| name == path).unwrap().1
    }

    /// Replaces the config by another, everywhere.
    fn set_config(&mut self, change: impl FnOnce(&mut Value)) {
        let old = self.item["Config"].as_str().unwrap().to_owned();
        let mut config: Value = serde_json::from_slice(self.content(&old)).unwrap();
        change(&mut config);
        let bytes = config.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        self.manifest["config"]["digest"] = json!(digest);
        self.manifest["config"]["size"] = json!(bytes.len());
        self.item["Config"] = json!(path(digest.as_str()));
        self.files.push((path(digest.as_str()), bytes));
    }

    fn manifest_bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    fn pack(&self) -> Vec<u8> {
        let manifest = self.manifest_bytes();
        let digest = Digest::sha256(&manifest);
        let entry = json!({ "mediaType": MediaType::OCI_IMAGE_MANIFEST, "digest": digest,
                            "size": manifest.len() });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        let mut all: Vec<u8> =
            self.files.iter().flat_map(|(name, content)| file(name, content)).collect();
        all.extend(file(&path(digest.as_str()), &manifest));
        all.extend(file("index.json", index.to_string().as_bytes()));
        all.extend(file("manifest.json", json!([self.item]).to_string().as_bytes()));
        all
    }

    async fn open(&self) -> Result<DockerArchive, Error> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("archive.tar");
        fs::write(&path, self.pack()).unwrap();
        DockerArchive::open(path).await
    }
}

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// Docker 25.0.0 writes an OCI manifest without layers beside a right `manifest.json`.
// moby/moby#47065
// covers: C14
#[tokio::test]
async fn manifest_json_counts_where_the_manifest_beside_it_has_no_layers() {
    for compressions in [&ALL[..1], &ALL] {
        let mut saved = Saved::new(compressions);
        saved.manifest["layers"] = json!([]);
        let archive = Arc::new(saved.open().await.unwrap());
        let to = Arc::new(Memory::new());
        let copied =
            copy(archive, &tag("1").into(), to.clone(), CopyOptions::default()).await.unwrap();
        assert_eq!(copied.blobs, compressions.len() as u64 + 1);
        let target = Target::Digest(copied.descriptor.digest);
        let image = Ref::read(to, &target).await.unwrap().as_image().unwrap().clone();
        assert_eq!(image.layers().len(), compressions.len());
        let mut layers = image.open_layers(1 << 20).await.unwrap();
        while let Some(layer) = layers.next_layer().await.unwrap() {
            layer.try_collect::<Vec<_>>().await.unwrap();
        }
    }
}

// covers: C14
#[tokio::test]
async fn what_agrees_is_read_wherever_the_layers_lie() {
    let mut saved = Saved::new(&ALL);
    let archive = saved.open().await.unwrap();
    let found = archive.manifest(&tag("1").into()).await.unwrap();
    assert_eq!(found.bytes().as_ref(), saved.manifest_bytes());
    // The same bytes once more under another name.
    let layer = saved.item["Layers"][1].as_str().unwrap().to_owned();
    let content = saved.content(&layer).clone();
    saved.files.push(("1/layer.tar".into(), content));
    saved.item["Layers"][1] = json!("./1/layer.tar");
    let archive = saved.open().await.unwrap();
    let found = archive.manifest(&tag("1").into()).await.unwrap();
    assert_eq!(found.bytes().as_ref(), saved.manifest_bytes());
}

/// A change of an archive that makes it contradict itself.
type Change = fn(&mut Saved);

// moby/moby#47065, the whole kind: parts that say different things of one image
// covers: C14
#[tokio::test]
async fn what_contradicts_itself_is_an_error_that_says_what_differs() {
    let cases: [(&str, Change, &[&str]); 9] = [
        (
            "a layer less in the manifest",
            |saved| drop(saved.manifest["layers"].as_array_mut().unwrap().pop()),
            &["3 layers", "manifest sha256:", "has 2"],
        ),
        (
            "a layer less in manifest.json",
            |saved| drop(saved.item["Layers"].as_array_mut().unwrap().pop()),
            &["2 layers", "3 diff IDs"],
        ),
        (
            "no layer in manifest.json",
            |saved| saved.item["Layers"] = Value::Null,
            &["0 layers", "3 diff IDs"],
        ),
        (
            "a diff ID less",
            |saved| {
                saved.set_config(|config| {
                    config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
                });
            },
            &["3 layers", "2 diff IDs"],
        ),
        (
            "a diff ID less, and a manifest without layers",
            |saved| {
                saved.set_config(|config| {
                    config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
                });
                saved.manifest["layers"] = json!([]);
            },
            &["3 layers", "2 diff IDs"],
        ),
        (
            "another diff ID of what is not compressed",
            |saved| {
                saved.set_config(|config| {
                    config["rootfs"]["diff_ids"][0] = json!(Digest::sha256(b"another"));
                });
            },
            &["layer 0 is sha256:", "by its diff ID"],
        ),
        (
            "layers in another order",
            |saved| saved.item["Layers"].as_array_mut().unwrap().swap(1, 2),
            &["layer 1 is sha256:", "blobs/sha256/"],
        ),
        (
            "a layer of another size",
            |saved| {
                let layer = saved.item["Layers"][1].as_str().unwrap().to_owned();
                saved.content(&layer).pop();
            },
            &["bytes, but", "in manifest sha256:"],
        ),
        (
            "a config of another size",
            |saved| saved.manifest["config"]["size"] = json!(1),
            &["bytes, but 1 in manifest sha256:"],
        ),
    ];
    for (name, change, expected) in cases {
        let mut saved = Saved::new(&ALL);
        change(&mut saved);
        let error = saved.open().await.expect_err(name);
        let text = error.chain();
        assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{name}: {text}");
        for part in expected.iter().chain(&["manifest.json: ", "config \"blobs/sha256/"]) {
            assert!(text.contains(part), "{name}: {part:?} is missing in: {text}");
        }
    }
}

/// A compressed layer is known by its digest; that it is the one which the config means is seen
/// while it is read.
// covers: C14, C16
#[tokio::test]
async fn a_compressed_layer_that_is_not_its_diff_id_does_not_arrive() {
    for (position, with_layout) in [(1, true), (2, true), (1, false), (2, false)] {
        let mut saved = Saved::new(&ALL);
        saved.set_config(|config| {
            config["rootfs"]["diff_ids"][position] = json!(Digest::sha256(b"another"));
        });
        if !with_layout {
            saved.files.retain(|(name, _)| name != "oci-layout");
        }
        let archive: Arc<dyn Source> = Arc::new(saved.open().await.unwrap());
        let to = Arc::new(Memory::new());
        let options = CopyOptions { tags: vec![tag("1")], ..CopyOptions::default() };
        let error = copy(archive.clone(), &tag("1").into(), to.clone(), options).await.unwrap_err();
        let text = error.chain();
        assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid), "{text}");
        let manifest = archive.manifest(&tag("1").into()).await.unwrap();
        let layer = &manifest.image().unwrap().layers[position];
        for part in [layer.digest.as_str(), Digest::sha256(b"another").as_str(), "unpack"] {
            assert!(text.contains(part), "{part:?} is missing in: {text}");
        }
        assert!(to.resolve(&tag("1").into()).await.unwrap_err().is_not_found());
        assert_eq!(to.blob_size(&layer.digest).await.unwrap(), None);
        // A part of it is what is asked for, no more.
        let part = archive.blob(&layer.digest, ByteRange::From(1)).await.unwrap();
        part.body.try_collect::<Vec<_>>().await.unwrap();
    }
}

/// One layer, two images, and each says something else of what it unpacks to.
// covers: C14
#[tokio::test]
async fn two_images_that_contradict_each_other_are_an_error() {
    let (one, mut other) = (Saved::new(&ALL[1..2]), Saved::new(&ALL[1..2]));
    other.set_config(|config| config["rootfs"]["diff_ids"][0] = json!(Digest::sha256(b"another")));
    other.item["RepoTags"] = json!(["app:2"]);
    let files = other.files.iter().filter(|(name, _)| name != "oci-layout");
    let mut bytes: Vec<u8> = files.flat_map(|(name, content)| file(name, content)).collect();
    bytes.extend(file("manifest.json", json!([one.item, other.item]).to_string().as_bytes()));
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("a.tar"), bytes).unwrap();
    let error = DockerArchive::open(directory.path().join("a.tar")).await.unwrap_err();
    let text = error.chain();
    assert!(text.contains("diff ID") && text.contains("in another"), "{text}");
}

/// Every byte that is missing at the end is noticed, and none leads to an image with less in it.
// covers: C14
#[tokio::test]
async fn a_truncated_archive_is_never_a_smaller_image() {
    let saved = Saved::new(&ALL);
    let whole = saved.pack();
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.tar");
    for length in (0..whole.len()).step_by(256) {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = DockerArchive::open(&path).await;
        let error = opened.expect_err(&format!("cut to {length} of {}", whole.len()));
        assert!(error.chain().contains("a.tar"), "{}", error.chain());
    }
}
