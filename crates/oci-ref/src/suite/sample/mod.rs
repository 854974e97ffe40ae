//! Sample content made of the files of the machine that it runs on: images, indexes, artifacts, as real tools would
//! store them. It is the same each time within a run.

mod assemble;
mod files;
mod layers;

use std::sync::OnceLock;

use oci_spec_types::{Descriptor, Tag};

use crate::suite::content::Piece;
use crate::{Error, ErrorKind, Manifest, Precondition, Result, Store};

/// What is stored: descriptors of each kind of content.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Everything on the top level, in an order in which it can be stored. What an index lists is not named here.
    pub entries: Vec<SampleEntry>,
    /// An image with a gzip, a zstd and an uncompressed layer; tag `image`.
    pub image: Descriptor,
    /// An index for several platforms, and an attestation; tag `platforms`.
    pub platforms: Descriptor,
    /// The same with a nested index, which not every tool can copy; tag `index`.
    pub index: Descriptor,
    /// The index within that index; it has no tag.
    pub nested: Descriptor,
    /// An artifact about the image, as a signature is; it has no tag.
    pub signature: Descriptor,
    /// An artifact about the index; tag `notes`.
    pub notes: Descriptor,
    /// An image whose config and layers have sha512 digests; tag `sha512`.
    pub sha512: Descriptor,
    /// An image of empty layers, and history without layers; tag `empty`.
    pub empty: Descriptor,
    /// An artifact whose config and layer are embedded as `data`; tag `embedded`.
    pub embedded: Descriptor,
    /// A Docker schema 2 image; tag `docker`.
    pub docker: Descriptor,
    /// A Docker manifest list with that image; tag `docker-list`.
    pub docker_list: Descriptor,
}

/// A manifest of the sample.
#[derive(Clone, Debug)]
pub struct SampleEntry {
    /// Its tag, if it has one.
    pub tag: Option<Tag>,
    /// Its descriptor.
    pub descriptor: Descriptor,
}

/// The content itself, in an order in which it can be stored.
struct Content {
    blobs: Vec<Piece>,
    manifests: Vec<(Manifest, Option<Tag>)>,
    sample: Sample,
}

static CONTENT: OnceLock<Content> = OnceLock::new();

/// Stores all of the sample, with its tags.
pub async fn write_all(store: &(impl Store + ?Sized)) -> Result<Sample> {
    let content = content().await?;
    for blob in &content.blobs {
        blob.put(store).await?;
    }
    for (manifest, tag) in &content.manifests {
        let tags: Vec<Tag> = tag.iter().cloned().collect();
        store.put_manifest(manifest, &tags, &Precondition::None).await?;
    }
    Ok(content.sample.clone())
}

/// Makes the content once; compressing takes a moment.
async fn content() -> Result<&'static Content> {
    if let Some(content) = CONTENT.get() {
        return Ok(content);
    }
    let assembled = tokio::task::spawn_blocking(assemble::assemble).await;
    let assembled = assembled.map_err(|error| {
        Error::new(ErrorKind::Internal, "making the sample panicked").with_source(error)
    })??;
    Ok(CONTENT.get_or_init(|| assembled))
}
