//! `Ref`: an image or an index, and the source that it came from.

use std::fmt;
use std::sync::Arc;

use oci_spec_types::{
    Descriptor, Digest, ErrorCode, ImageConfig, ImageIndex, ImageManifest, MediaType,
};

use crate::blob::check_limit;
use crate::{Blob, Document, Error, Manifest, Result, Source, Target, apart};
use bytes::Bytes;

/// An image or an index, and the source where what it references is read.
#[derive(Clone, Debug)]
pub enum Ref {
    /// One image or artifact.
    Image(Image),
    /// A list of images, or of further lists.
    Index(Index),
}

/// One image or artifact: a config and layers.
#[derive(Clone)]
pub struct Image {
    manifest: Manifest,
    source: Arc<dyn Source>,
}

/// A list of manifests.
#[derive(Clone)]
pub struct Index {
    manifest: Manifest,
    source: Arc<dyn Source>,
}

impl Ref {
    /// Reads a manifest from a source: verified by digest if the target has one, else as the source gives it.
    pub async fn read(source: Arc<dyn Source>, target: &Target) -> Result<Self> {
        let manifest = source.manifest(target).await?;
        Self::new(manifest, source)
    }

    /// Reads the manifest that a descriptor describes: size, digest and media type must be the descriptor's.
    pub async fn read_descriptor(source: Arc<dyn Source>, descriptor: &Descriptor) -> Result<Self> {
        let manifest = read_manifest(&*source, descriptor).await?;
        Self::new(manifest, source)
    }

    /// A parsed manifest, and the source of what it references. `UNSUPPORTED` for types that are neither image nor
    /// index.
    pub fn new(manifest: Manifest, source: Arc<dyn Source>) -> Result<Self> {
        match manifest.document() {
            Document::Image(_) => Ok(Self::Image(Image { manifest, source })),
            Document::Index(_) => Ok(Self::Index(Index { manifest, source })),
            Document::Artifact(_) | Document::Other(_) => Err(Error::unsupported(format!(
                "manifest {} is of type {}, which is neither an image nor an index",
                manifest.digest(),
                manifest.media_type()
            ))),
        }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Image(image) => &image.manifest,
            Self::Index(index) => &index.manifest,
        }
    }

    /// The source of what it references.
    pub fn source(&self) -> &Arc<dyn Source> {
        match self {
            Self::Image(image) => &image.source,
            Self::Index(index) => &index.source,
        }
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> &Digest {
        self.manifest().digest()
    }

    /// The media type of the manifest.
    pub fn media_type(&self) -> &MediaType {
        self.manifest().media_type()
    }

    /// The image; an error that says what it is instead, if it is none.
    pub fn as_image(&self) -> Result<&Image> {
        match self {
            Self::Image(image) => Ok(image),
            Self::Index(index) => Err(not_a(&index.manifest, "an image", "an index")),
        }
    }

    /// The index; an error that says what it is instead, if it is none.
    pub fn as_index(&self) -> Result<&Index> {
        match self {
            Self::Index(index) => Ok(index),
            Self::Image(image) => Err(not_a(&image.manifest, "an index", "an image")),
        }
    }
}

fn not_a(manifest: &Manifest, expected: &str, found: &str) -> Error {
    Error::new(
        ErrorCode::ManifestInvalid,
        format!(
            "{} is {found} of type {}, expected {expected}",
            manifest.digest(),
            manifest.media_type()
        ),
    )
}

/// Reads the manifest that a descriptor describes. Embedded content is used without asking the source.
pub(crate) async fn read_manifest(
    source: &(impl Source + ?Sized),
    descriptor: &Descriptor,
) -> Result<Manifest> {
    if let Some(data) = &descriptor.data {
        return Ok(Manifest::verify(descriptor, Bytes::from(data.clone()))?);
    }
    let target = Target::Digest(descriptor.digest.clone());
    let found = source.manifest(&target).await?;
    let (own, size) = (found.descriptor(), found.bytes().len());
    if (&own.digest, own.size, &own.media_type)
        == (&descriptor.digest, descriptor.size, &descriptor.media_type)
    {
        return Ok(found);
    }
    let bytes = found.bytes().clone();
    // The one document goes before the other comes.
    drop(found);
    let descriptor = descriptor.clone();
    apart(size, move || Ok(Manifest::verify(&descriptor, bytes)?)).await
}

/// The form of an entry of an index, or of a reference of a manifest of an unknown type.
pub(crate) enum Entry {
    /// A manifest, read.
    Manifest(Manifest),
    /// A blob, which the source has.
    Blob,
}

/// Reads the manifest that a descriptor describes, which may be a blob as well. What has a
/// manifest's type is a blob only if the source has no such manifest; anything else, such as the
/// layers that a build cache lists, is a manifest only if the source has no such blob.
///
/// # Errors
/// `SIZE_INVALID` for a blob that has another size than the descriptor says. Where there is
/// neither, the error of the one that was to be expected.
pub(crate) async fn read_entry(
    source: &(impl Source + ?Sized),
    descriptor: &Descriptor,
) -> Result<Entry> {
    if descriptor.media_type.is_manifest() {
        return match read_manifest(source, descriptor).await {
            Ok(manifest) => Ok(Entry::Manifest(manifest)),
            Err(error) if error.is_not_found() => match source.has_blob(descriptor).await? {
                true => Ok(Entry::Blob),
                false => Err(error),
            },
            Err(error) => Err(error),
        };
    }
    if source.has_blob(descriptor).await? {
        return Ok(Entry::Blob);
    }
    read_manifest(source, descriptor).await.map(Entry::Manifest)
}

impl Image {
    /// The exact bytes, their digest and media type.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The source of its blobs.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// What the manifest says.
    pub fn document(&self) -> &ImageManifest {
        match self.manifest.document() {
            Document::Image(image) => image,
            _ => unreachable!("an Image is made of image manifests only"),
        }
    }

    /// The config's descriptor.
    pub fn config_descriptor(&self) -> &Descriptor {
        &self.document().config
    }

    /// The layers' descriptors, in order.
    pub fn layers(&self) -> &[Descriptor] {
        &self.document().layers
    }

    /// The config, then the layers, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifest.blobs()
    }

    /// One of its blobs as a stream that is verified.
    pub async fn open_blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        Blob::open(&*self.source, descriptor).await
    }

    /// One of its blobs whole, verified, if it has no more than `limit` bytes.
    pub async fn read_blob_verified(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes> {
        check_limit(descriptor, limit)?;
        self.open_blob(descriptor).await?.into_bytes(limit).await
    }

    /// The image config, read and parsed. `UNSUPPORTED` for artifacts, whose config is something else.
    pub async fn config(&self) -> Result<ImageConfig> {
        let descriptor = self.config_descriptor();
        if !descriptor.media_type.is_config() {
            return Err(Error::unsupported(format!(
                "config {} is of type {}, which is not an image config",
                descriptor.digest, descriptor.media_type
            )));
        }
        let bytes = self.read_blob_verified(descriptor, crate::DEFAULT_BLOB_LIMIT).await?;
        Ok(ImageConfig::from_slice(&bytes)?)
    }
}

impl Index {
    /// The exact bytes, their digest and media type.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The source of its manifests.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// What the manifest says.
    pub fn document(&self) -> &ImageIndex {
        match self.manifest.document() {
            Document::Index(index) => index,
            _ => unreachable!("an Index is made of index manifests only"),
        }
    }

    /// The descriptors of its manifests, in order.
    pub fn manifests(&self) -> &[Descriptor] {
        self.manifest.manifests()
    }

    /// Reads one of its manifests.
    pub async fn read(&self, descriptor: &Descriptor) -> Result<Ref> {
        Ref::read_descriptor(self.source.clone(), descriptor).await
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Image").field(self.manifest.descriptor()).finish()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Index").field(self.manifest.descriptor()).finish()
    }
}
