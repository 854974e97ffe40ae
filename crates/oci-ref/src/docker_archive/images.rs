//! The images in an archive, as manifests and blobs.

use std::collections::HashMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use oci_spec_types::{
    Algorithm, Descriptor, Digest, ErrorCode, ImageConfig, ImageManifest, MediaType,
};

use super::manifest_json::{Item, MANIFEST_JSON, parse};
use crate::archive::{TarIndex, TarLayout, compression_of, quoted};
use crate::files::Part;
use crate::layout::reach::walk;
use crate::layout::view::{Blobs, DOCUMENT_LIMIT, read_manifest};
use crate::{Error, ErrorKind, Manifest, Result};

/// The most images in an archive.
const MAX_IMAGES: usize = 1000;
/// The largest `manifest.json`, in bytes. Its values take many times their size in memory.
const LIST_LIMIT: u64 = 4 << 20;

/// The images in an archive.
#[derive(Default)]
pub(super) struct Images {
    /// In the order of `manifest.json`.
    pub(super) images: Vec<Found>,
    pub(super) blobs: HashMap<Digest, Part>,
}

/// An image with its names.
pub(super) struct Found {
    pub(super) names: Vec<String>,
    pub(super) manifest: Manifest,
}

impl Found {
    /// What an error calls it.
    pub(super) fn shown(&self) -> String {
        self.names.first().map_or_else(String::new, |name| quoted(name))
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
        let manifest = match originals.with_config(&digest) {
            Some((manifest, blobs)) => {
                self.blobs.extend(blobs);
                manifest
            }
            None => {
                let diff_ids = ImageConfig::from_slice(&bytes)?.rootfs.diff_ids;
                if diff_ids.len() != item.layers.len() {
                    return Err(broken(format!(
                        "it lists {} layers, but the config has {} diff IDs",
                        item.layers.len(),
                        diff_ids.len()
                    )));
                }
                let config =
                    Descriptor::new(MediaType::DOCKER_CONFIG, digest.clone(), config.size());
                let mut layers = Vec::new();
                for (path, diff_id) in item.layers.iter().zip(diff_ids) {
                    let (layer, part) = layer(tar, path, diff_id)?;
                    self.blobs.entry(layer.digest.clone()).or_insert(part);
                    layers.push(layer);
                }
                docker_image(config, layers)?
            }
        };
        self.blobs.insert(digest, config);
        // An image may be listed once for each of its names.
        let known = self.images.iter_mut().find(|found| found.manifest == manifest);
        match known {
            Some(found) => found.names.extend(item.names),
            None => self.images.push(Found { names: item.names, manifest }),
        }
        Ok(())
    }
}

fn broken(problem: String) -> Error {
    Error::new(ErrorCode::ManifestInvalid, format!("manifest.json: {problem}"))
}

/// A file that `manifest.json` names. Paths in it may begin with `./`.
fn part(tar: &TarIndex, path: &str) -> Result<Part> {
    let name = path.strip_prefix("./").unwrap_or(path);
    tar.file(name)?.ok_or_else(|| broken(format!("{} does not exist in the archive", quoted(path))))
}

/// A layer and its descriptor. What is not compressed has the diff ID as its digest, which is verified when it is read;
/// the digest of what is compressed has to be computed.
fn layer(tar: &TarIndex, path: &str, diff_id: Digest) -> Result<(Descriptor, Part)> {
    let part = part(tar, path)?;
    let failed = |error| Error::io(format!("{} cannot be read", quoted(path)), error);
    let mut start = [0; 8];
    let count = part.read_at(0, &mut start).map_err(failed)?;
    let (media_type, digest) = match compression_of(&start[..count]) {
        None => (MediaType::DOCKER_LAYER, diff_id),
        Some("gzip") => (MediaType::DOCKER_LAYER_GZIP, hash(&part).map_err(failed)?),
        Some("zstd") => (MediaType::DOCKER_LAYER_ZSTD, hash(&part).map_err(failed)?),
        Some(other) => {
            let path = quoted(path);
            let message = format!("{path} is compressed with {other}, which no layer type is for");
            return Err(Error::unsupported(message));
        }
    };
    Ok((Descriptor::new(media_type, digest, part.size()), part))
}

fn hash(part: &Part) -> std::io::Result<Digest> {
    let mut hasher = Algorithm::Sha256.hasher();
    let mut reader = part.reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
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

/// The images of the OCI layout that newer versions of Docker put into an archive, by their configs. Their manifests
/// are what was pulled or built, so they are preferred. `manifest.json` is what counts, so a layout that cannot be read
/// is none.
struct Originals {
    layout: Option<TarLayout>,
    images: HashMap<Digest, Manifest>,
}

impl Originals {
    fn of(tar: &Arc<TarIndex>) -> Self {
        let mut images = HashMap::new();
        let layout = TarLayout::of(tar.clone()).ok();
        if let Some(layout) = &layout {
            // What was found before an error counts all the same.
            let _ = walk(layout, layout.index(), MediaType::is_index, |entry, _| {
                if entry.media_type.is_image()
                    && let Ok(Some(manifest)) = read_manifest(layout, entry)
                    && let Some(image) = manifest.image()
                {
                    images.entry(image.config.digest.clone()).or_insert(manifest);
                }
                ControlFlow::Continue(())
            });
        }
        Self { layout, images }
    }

    /// The image with a config, if all of it is there.
    fn with_config(&self, config: &Digest) -> Option<(Manifest, Vec<(Digest, Part)>)> {
        let (layout, manifest) = (self.layout.as_ref()?, self.images.get(config)?);
        let part = |blob: &Descriptor| {
            let part = layout.blob_part(&blob.digest).ok()??;
            (part.size() == blob.size).then(|| (blob.digest.clone(), part))
        };
        let blobs: Option<Vec<_>> = manifest.blobs().map(part).collect();
        Some((manifest.clone(), blobs?))
    }
}
