//! The blobs and manifests of a registry of some size: each is made from its number alone.

use bytes::Bytes;
use oci_ref::Manifest;
use oci_spec_types::{Descriptor, ImageIndex, ImageManifest, MediaType, Platform};
use serde::Serialize;
use serde_json::json;

use crate::noise::noise;
use crate::process::Result;
use crate::scale::shape::{ARCHITECTURES, IMAGES, RARE, RARE_TYPE, USUAL_TYPE};

/// Seeds of layers that a registry has begin here, and those of layers that are pushed later.
const STORED: u64 = 1 << 32;
const PUSHED: u64 = 1 << 48;

/// A blob or a manifest.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl Stored {
    fn new(media_type: MediaType, bytes: Vec<u8>) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }

    fn manifest(media_type: MediaType, document: &impl Serialize) -> Self {
        // A document of texts and numbers is always JSON.
        Self::new(media_type, serde_json::to_vec(document).unwrap_or_default())
    }

    pub(crate) fn digest(&self) -> &str {
        self.descriptor.digest.as_str()
    }

    pub(crate) fn media_type(&self) -> &str {
        self.descriptor.media_type.as_str()
    }

    /// The entry of a manifest among the referrers of its subject.
    pub(crate) fn referrer(&self) -> Result<Descriptor> {
        let manifest = Manifest::parse(Bytes::from(self.bytes.clone()), None, None);
        let manifest = manifest.map_err(|error| format!("a referrer: {error}"))?;
        manifest.as_referrer().ok_or_else(|| format!("{} has no subject", self.digest()))
    }
}

/// The content that all share.
pub(crate) struct Content {
    /// The lowest layer of every image.
    pub(crate) base: Stored,
    /// The config of images that have none of their own.
    pub(crate) config: Stored,
    /// An image that every repository has.
    pub(crate) shared: Stored,
    /// The image with very many referrers.
    pub(crate) subject: Stored,
}

impl Content {
    pub(crate) fn new() -> Self {
        let base = layer(0);
        let config = Stored::new(MediaType::OCI_IMAGE_CONFIG, b"{}".to_vec());
        let shared = image(&config, vec![base.descriptor.clone()], "the base image");
        let subject = image(&config, vec![base.descriptor.clone()], "the subject");
        Self { base, config, shared, subject }
    }

    /// A manifest of the huge repository.
    pub(crate) fn huge(&self, number: u64) -> Stored {
        image(&self.config, vec![self.base.descriptor.clone()], &format!("huge {number}"))
    }

    /// A referrer of the subject.
    pub(crate) fn referrer(&self, number: u64) -> Stored {
        let kind = if number < RARE { RARE_TYPE } else { USUAL_TYPE };
        self.artifact(kind, &format!("referrer {number}"))
    }

    /// A referrer of the subject that no registry has yet.
    pub(crate) fn new_referrer(&self, number: u64) -> Stored {
        self.artifact(USUAL_TYPE, &format!("new referrer {number}"))
    }

    fn artifact(&self, kind: &str, title: &str) -> Stored {
        let empty =
            Descriptor { media_type: MediaType::OCI_EMPTY_JSON, ..self.config.descriptor.clone() };
        let mut manifest = ImageManifest::new(empty, vec![self.base.descriptor.clone()]);
        manifest.artifact_type = Some(kind.to_owned());
        manifest.subject = Some(self.subject.descriptor.clone());
        Stored::manifest(MediaType::OCI_IMAGE_MANIFEST, &titled(manifest, title))
    }

    /// An image of a small repository. Images are numbered through all of them.
    pub(crate) fn image(&self, number: u64) -> Image {
        self.image_of(STORED + number)
    }

    /// An image that no registry has yet.
    pub(crate) fn new_image(&self, number: u64) -> Image {
        self.image_of(PUSHED + number)
    }

    fn image_of(&self, seed: u64) -> Image {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Labels": { "number": seed.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = Stored::new(MediaType::OCI_IMAGE_CONFIG, config.to_string().into_bytes());
        let layer = layer(seed);
        let layers = vec![self.base.descriptor.clone(), layer.descriptor.clone()];
        let manifest = image(&config, layers, &format!("image {seed}"));
        Image { config, layer, manifest }
    }

    /// The index of a small repository, of its images.
    pub(crate) fn index(&self, small: u64, images: &[Image]) -> Stored {
        let entries = images.iter().zip(ARCHITECTURES).map(|(image, architecture)| {
            let platform = Some(Platform::new("linux", architecture));
            Descriptor { platform, ..image.manifest.descriptor.clone() }
        });
        let mut index = ImageIndex::new(entries.collect());
        index.annotations.insert(TITLE.to_owned(), format!("index {small}"));
        Stored::manifest(MediaType::OCI_IMAGE_INDEX, &index)
    }

    /// The first images of a small repository, which its index lists.
    pub(crate) fn listed(&self, small: u64) -> Vec<Image> {
        (0..ARCHITECTURES.len() as u64).map(|image| self.image(small * IMAGES + image)).collect()
    }
}

/// An image with its own config, and one layer of its own above the base.
pub(crate) struct Image {
    pub(crate) config: Stored,
    pub(crate) layer: Stored,
    pub(crate) manifest: Stored,
}

/// An annotation that makes manifests differ.
const TITLE: &str = "org.opencontainers.image.title";

fn titled(mut manifest: ImageManifest, title: &str) -> ImageManifest {
    manifest.annotations.insert(TITLE.to_owned(), title.to_owned());
    manifest
}

fn image(config: &Stored, layers: Vec<Descriptor>, title: &str) -> Stored {
    let manifest = ImageManifest::new(config.descriptor.clone(), layers);
    Stored::manifest(MediaType::OCI_IMAGE_MANIFEST, &titled(manifest, title))
}

fn layer(seed: u64) -> Stored {
    Stored::new(MediaType::OCI_LAYER, noise(seed, 120))
}
