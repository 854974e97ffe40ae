//! The images in an archive, as manifests and blobs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use oci_spec_types::{
    Algorithm, Descriptor, Digest, ErrorCode, ImageConfig, ImageManifest, MediaType,
};

use super::file::{LayerFile, Stored};
use super::manifest_json::{Item, MANIFEST_JSON, parse};
use super::originals::Originals;
use crate::archive::{TarIndex, clean, quoted};
use crate::files::Part;
use crate::layout::view::DOCUMENT_LIMIT;
use crate::{Compression, Error, ErrorKind, Manifest, Result};

/// The most images in an archive.
const MAX_IMAGES: usize = 1000;
/// The largest `manifest.json`, in bytes. Its values take many times their size in memory.
const LIST_LIMIT: u64 = 4 << 20;

/// The images in an archive.
#[derive(Default)]
pub(super) struct Images {
    /// In the order of `manifest.json`.
    pub(super) images: Vec<Found>,
    pub(super) blobs: HashMap<Digest, Stored>,
}

/// An image with its names.
pub(super) struct Found {
    pub(super) names: Vec<String>,
    pub(super) manifest: Manifest,
}

impl Found {
    /// What an error calls it.
    pub(super) fn shown(&self) -> String {
        let digest = self.manifest.digest();
        self.names.first().map_or_else(String::new, |name| format!("{} ({digest})", quoted(name)))
    }
}

impl Images {
    /// Finds them, without reading what needs not be read.
    pub(super) fn of(tar: Arc<TarIndex>) -> Result<Self> {
        let Some(list) = tar.file(MANIFEST_JSON)? else {
            let what = match tar.file("oci-layout")? {
                Some(_) => "it has an oci-layout, so it is for oci-archive:",
                None => "it may be by a Docker before 1.10; load it there and save it again",
            };
            let message = format!("there is no manifest.json in it: {what}");
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let items = parse(&list.read_all(MANIFEST_JSON, LIST_LIMIT)?).map_err(broken)?;
        if items.len() > MAX_IMAGES {
            let limit = MAX_IMAGES as u64;
            let message = format!("there are {} images in it, more than {limit}", items.len());
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        let originals = Originals::of(&tar);
        let mut all = Self::default();
        for item in items {
            let said = format!("image with config {}", quoted(&item.config));
            all.add(&tar, &originals, item).map_err(|error| {
                let message = format!("{said}: {error}");
                error.context(message)
            })?;
        }
        Ok(all)
    }

    fn add(&mut self, tar: &TarIndex, originals: &Originals, item: Item) -> Result<()> {
        let config = part(tar, &item.config)?;
        let bytes = config.read_all(&quoted(&item.config), DOCUMENT_LIMIT)?;
        let digest = Algorithm::Sha256.digest(&bytes);
        // Only an image's config has diff IDs; an artifact's is anything.
        let diff_ids = match originals.is_artifact(&digest) {
            true => None,
            false => Some(diff_ids(&bytes, item.layers.len())?),
        };
        let layers = item.layers.iter().map(|path| LayerFile::of(path, part(tar, path)?));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let config = Stored::plain(config);
        let manifest = match originals.choose(&digest, &config, &layers, diff_ids.as_deref())? {
            Some((manifest, blobs)) => {
                for (digest, blob) in blobs {
                    self.keep(digest, blob)?;
                }
                manifest
            }
            None => {
                let config_type = MediaType::DOCKER_CONFIG;
                let config = Descriptor::new(config_type, digest.clone(), config.part.size());
                let mut descriptors = Vec::new();
                for (layer, diff_id) in layers.iter().zip(diff_ids.into_iter().flatten()) {
                    let (descriptor, blob) = presented(layer, diff_id)?;
                    self.keep(descriptor.digest.clone(), blob)?;
                    descriptors.push(descriptor);
                }
                docker_image(config, descriptors)?
            }
        };
        self.keep(digest, config)?;
        // An image may be listed once for each of its names.
        let known = self.images.iter_mut().find(|found| found.manifest == manifest);
        match known {
            Some(found) => found.names.extend(item.names),
            None => self.images.push(Found { names: item.names, manifest }),
        }
        Ok(())
    }

    /// Remembers where a blob lies. What is said of it must be the same wherever it is said.
    fn keep(&mut self, digest: Digest, blob: Stored) -> Result<()> {
        let mut known = match self.blobs.entry(digest) {
            Entry::Vacant(place) => {
                place.insert(blob);
                return Ok(());
            }
            Entry::Occupied(known) => known,
        };
        if known.get().part.size() != blob.part.size() {
            return Err(broken(format!(
                "there are two files for {}, one of {} and one of {} bytes",
                known.key(),
                known.get().part.size(),
                blob.part.size()
            )));
        }
        match (&known.get().unpacks, &blob.unpacks) {
            (Some((_, one)), Some((_, other))) if one != other => Err(broken(format!(
                "layer {} has diff ID {one} in one image and {other} in another",
                known.key()
            ))),
            (None, Some(_)) => {
                known.insert(blob);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The diff IDs in an image's config, one for each layer.
fn diff_ids(config: &[u8], layers: usize) -> Result<Vec<Digest>> {
    let diff_ids = ImageConfig::from_slice(config)?.rootfs.diff_ids;
    match diff_ids.len() == layers {
        true => Ok(diff_ids),
        false => Err(broken(format!(
            "it lists {layers} layers, but the config has {} diff IDs",
            diff_ids.len()
        ))),
    }
}

/// The error for a `manifest.json` that cannot be right.
pub(super) fn broken(problem: String) -> Error {
    Error::new(ErrorCode::ManifestInvalid, format!("manifest.json: {problem}"))
}

/// A file that `manifest.json` names, in any way of writing its path within the archive.
fn part(tar: &TarIndex, path: &str) -> Result<Part> {
    let found = match clean(path.as_bytes(), None) {
        Ok(name) => tar.file(&name)?,
        Err(_) => None,
    };
    found.ok_or_else(|| broken(format!("{} does not exist in the archive", quoted(path))))
}

/// The descriptor of a layer of which the archive has none. What is not compressed has the diff ID
/// as its digest, which is verified when it is read; the digest of what is compressed has to be
/// computed.
fn presented(layer: &LayerFile<'_>, diff_id: Digest) -> Result<(Descriptor, Stored)> {
    let compression = layer.compression.map_err(|other| {
        let path = quoted(layer.path);
        Error::unsupported(format!("{path} is compressed with {other}, which no layer type is for"))
    })?;
    let (media_type, digest) = match compression {
        Compression::None => (MediaType::DOCKER_LAYER, diff_id.clone()),
        Compression::Gzip => (MediaType::DOCKER_LAYER_GZIP, layer.hash(Algorithm::Sha256)?),
        Compression::Zstd => (MediaType::DOCKER_LAYER_ZSTD, layer.hash(Algorithm::Sha256)?),
    };
    let blob = Stored::layer(layer, &digest, diff_id);
    Ok((Descriptor::new(media_type, digest, layer.part.size()), blob))
}

/// The manifest of an image that has none in the archive.
fn docker_image(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
    let mut image = ImageManifest::new(config, layers);
    image.media_type = Some(MediaType::DOCKER_MANIFEST);
    let bytes = serde_json::to_vec(&image).map_err(|error| {
        Error::new(ErrorKind::Internal, "a manifest cannot be serialised").with_source(error)
    })?;
    Ok(Manifest::parse(bytes.into(), None, None)?)
}
