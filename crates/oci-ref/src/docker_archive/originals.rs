//! The manifests that newer versions of Docker put into an archive, in an OCI layout beside
//! `manifest.json`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, ImageManifest, MediaType};

use super::file::{LayerFile, Stored};
use super::images::broken;
use crate::archive::{TarIndex, TarLayout, quoted};
use crate::layout::reach::walk;
use crate::layout::view::{Blobs, read_manifest};
use crate::{Compression, Manifest, Result};

/// The images of the layout, by their configs. Their manifests are what was pulled or built, so
/// they are preferred where they say what `manifest.json` says. A layout that cannot be read is
/// none.
pub(super) struct Originals {
    layout: Option<TarLayout>,
    images: HashMap<Digest, Vec<Manifest>>,
}

/// A manifest, and where its blobs lie.
type Original = (Manifest, Vec<(Digest, Stored)>);

impl Originals {
    pub(super) fn of(tar: &Arc<TarIndex>) -> Self {
        let mut images: HashMap<_, Vec<Manifest>> = HashMap::new();
        let layout = TarLayout::of(tar.clone()).ok();
        if let Some(layout) = &layout {
            // What was found before an error counts all the same.
            let _ = walk(layout, layout.index(), MediaType::is_index, |entry, _| {
                if entry.media_type.is_image()
                    && let Ok(Some(manifest)) = read_manifest(layout, entry)
                    && let Some(image) = manifest.image()
                {
                    let known = images.entry(image.config.digest.clone()).or_default();
                    if !known.contains(&manifest) {
                        known.push(manifest);
                    }
                }
                ControlFlow::Continue(())
            });
        }
        Self { layout, images }
    }

    fn with_config(&self, config: &Digest) -> impl Iterator<Item = (&Manifest, &ImageManifest)> {
        let found = self.images.get(config).into_iter().flatten();
        found.filter_map(|manifest| Some((manifest, manifest.image()?)))
    }

    /// Says of a config that it is one of artifacts only.
    pub(super) fn is_artifact(&self, config: &Digest) -> bool {
        let mut found = self.with_config(config).peekable();
        found.peek().is_some() && found.all(|(_, image)| !image.config.media_type.is_config())
    }

    /// The manifest for what `manifest.json` says, with its blobs, if there is one and all of it is
    /// there.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` if none says the same.
    pub(super) fn choose(
        &self,
        digest: &Digest,
        config: &Stored,
        layers: &[LayerFile<'_>],
        diff_ids: Option<&[Digest]>,
    ) -> Result<Option<Original>> {
        let Some(layout) = &self.layout else { return Ok(None) };
        let mut refused = None;
        for (manifest, image) in self.with_config(digest) {
            let agreed = same_size(manifest, &image.config, config.part.size())
                .and_then(|()| agree(layout, manifest, image, layers, diff_ids));
            match agreed {
                Ok(Some(blobs)) => return Ok(Some((manifest.clone(), blobs))),
                Ok(None) => {}
                // Another manifest of the same config may be meant, such as one with layers of
                // another compression.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(None), Err)
    }
}

/// The layers of a manifest, if they are those that `manifest.json` lists. `None` if they are not
/// all there.
fn agree(
    layout: &TarLayout,
    manifest: &Manifest,
    image: &ImageManifest,
    layers: &[LayerFile<'_>],
    diff_ids: Option<&[Digest]>,
) -> Result<Option<Vec<(Digest, Stored)>>> {
    let digest = manifest.digest();
    if image.layers.len() != layers.len() {
        // Docker 25.0.0 writes manifests without layers, beside a right `manifest.json`
        // (moby/moby#47065).
        if image.layers.is_empty() {
            return Ok(None);
        }
        return Err(broken(format!(
            "it lists {} layers, but manifest {digest} beside it has {}",
            layers.len(),
            image.layers.len()
        )));
    }
    let mut blobs = Vec::new();
    for (position, (listed, file)) in image.layers.iter().zip(layers).enumerate() {
        let Some(part) = layout.blob_part(&listed.digest)? else { return Ok(None) };
        same_size(manifest, listed, part.size())?;
        let differs = |what: &str, found: &Digest| {
            broken(format!("layer {position} is {found} {what}, but {} in {digest}", listed.digest))
        };
        if !part.is_same(&file.part) {
            let Some(algorithm) = listed.digest.known_algorithm() else { return Ok(None) };
            let found = file.hash(algorithm)?;
            if found != listed.digest {
                return Err(differs(&format!("as {}", quoted(file.path)), &found));
            }
        }
        let blob = match diff_ids.map(|diff_ids| &diff_ids[position]) {
            None => Stored::plain(part),
            Some(diff_id) => {
                // What is not compressed is its own content, so its digest tells without reading
                // it.
                let plain = file.compression == Ok(Compression::None)
                    && diff_id.algorithm() == listed.digest.algorithm();
                if plain && *diff_id != listed.digest {
                    return Err(differs("by its diff ID", diff_id));
                }
                Stored::layer(file, &listed.digest, diff_id.clone())
            }
        };
        blobs.push((listed.digest.clone(), blob));
    }
    Ok(Some(blobs))
}

/// Refuses a file that has not the size that a manifest states.
fn same_size(manifest: &Manifest, listed: &Descriptor, found: u64) -> Result<()> {
    match found == listed.size {
        true => Ok(()),
        false => Err(broken(format!(
            "{} has {found} bytes, but {} in manifest {}",
            listed.digest,
            listed.size,
            manifest.digest()
        ))),
    }
}
