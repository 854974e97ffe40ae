//! A manifest: its exact bytes, their digest, and what they say.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec_types::{
    Algorithm, Annotations, ArtifactManifest, Descriptor, Digest, DocumentError, DocumentHead,
    ImageIndex, ImageManifest, MediaType, OtherManifest, VerifyError,
};

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "there is one for each manifest, on the heap")]
pub enum Document {
    /// One image or artifact: an OCI image manifest or a Docker schema 2 manifest.
    Image(ImageManifest),
    /// A list of manifests: an OCI image index or a Docker manifest list.
    Index(ImageIndex),
    /// An artifact manifest of a draft: OCI's, or ORAS's.
    Artifact(ArtifactManifest),
    /// A type that this library does not know. What it references is found by its structure.
    Other(OtherManifest),
}

/// A manifest as it is stored: exact bytes, their digest and media type, and a parsed view of them.
///
/// It is made by parsing bytes, which are verified first, and is never serialised again: what goes out is what came in.
/// Clones share the bytes.
///
/// ```
/// use oci_ref::Manifest;
/// use oci_spec_types::MediaType;
///
/// let bytes = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let manifest = Manifest::parse(bytes.as_slice().into(), None, None)?;
/// assert_eq!(manifest.media_type(), &MediaType::OCI_IMAGE_INDEX);
/// assert_eq!(manifest.bytes().as_ref(), bytes);
/// # Ok::<_, oci_ref::ManifestError>(())
/// ```
#[derive(Clone)]
pub struct Manifest(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    descriptor: Descriptor,
    document: Document,
}

/// Why bytes are not the manifest that they should be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The bytes have another digest.
    #[error("manifest: {0}")]
    Digest(#[from] VerifyError),
    /// There are more or fewer bytes than expected.
    #[error("manifest {digest} has {found} bytes, expected {expected}")]
    Size {
        /// The manifest that was expected.
        digest: Digest,
        /// Its size.
        expected: u64,
        /// The size found.
        found: u64,
    },
    /// The document is not well formed, or not what its type says.
    #[error("manifest of type {media_type}: {source}")]
    Document {
        /// The media type as which it was read.
        media_type: MediaType,
        /// What is wrong in it.
        source: DocumentError,
    },
    /// The document names another media type than the one it came with.
    #[error("manifest came as {declared}, but says that it is {found}")]
    MediaType {
        /// The type that it came with.
        declared: MediaType,
        /// The type in the document.
        found: MediaType,
    },
    /// The document's own type has characters that no HTTP header can have, where it has to be
    /// told.
    #[error("manifest is of type {:?}, expected printable ASCII", .0.as_str())]
    Unnamable(MediaType),
    /// Nothing tells what the document is.
    #[error(
        "manifest without a media type has neither `config` and `layers` nor `manifests`: it could be anything"
    )]
    Unknown,
    /// The structure fits two kinds.
    #[error(
        "manifest without a media type has `manifests` and also `config` or `layers`: it could be an index or an image"
    )]
    Ambiguous,
    /// A Docker schema 1 manifest, which is not supported: it has no digests of configs, and is signed inside.
    #[error(
        "Docker schema 1 manifests ({0}) are not supported; convert the image to schema 2 or OCI first"
    )]
    Schema1(MediaType),
}

impl Manifest {
    /// Verifies bytes against the digest that they should have, and parses them.
    ///
    /// The type is `media_type` if that is a manifest type this library knows; else the document's own `mediaType`;
    /// else what its structure says. A document whose structure fits two kinds, or that says another type than it came
    /// with, is refused. Without `expected` the digest is computed with sha256.
    pub fn parse(
        bytes: Bytes,
        media_type: Option<&MediaType>,
        expected: Option<&Digest>,
    ) -> Result<Self, ManifestError> {
        let digest = match expected {
            Some(expected) => {
                expected.verify(&bytes)?;
                expected.clone()
            }
            None => Algorithm::Sha256.digest(&bytes),
        };
        let (media_type, document) = read(&bytes, media_type)?;
        let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        descriptor.artifact_type = match &document {
            Document::Image(image) => image.artifact_type.clone(),
            Document::Index(index) => index.artifact_type.clone(),
            Document::Artifact(artifact) => artifact.artifact_type.clone(),
            Document::Other(other) => other.artifact_type.clone(),
        };
        // Empty means missing (distribution-spec, "Listing Referrers").
        descriptor.artifact_type = descriptor.artifact_type.filter(|artifact| !artifact.is_empty());
        Ok(Self(Arc::new(Inner { bytes, descriptor, document })))
    }

    /// Verifies bytes against a descriptor: size, digest and media type.
    pub fn verify(descriptor: &Descriptor, bytes: Bytes) -> Result<Self, ManifestError> {
        if bytes.len() as u64 != descriptor.size {
            return Err(ManifestError::Size {
                digest: descriptor.digest.clone(),
                expected: descriptor.size,
                found: bytes.len() as u64,
            });
        }
        Self::parse(bytes, Some(&descriptor.media_type), Some(&descriptor.digest))
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Media type, digest, size and artifact type.
    pub fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.0.descriptor.digest
    }

    /// The media type.
    pub fn media_type(&self) -> &MediaType {
        &self.0.descriptor.media_type
    }

    /// What it says.
    pub fn document(&self) -> &Document {
        &self.0.document
    }

    /// The image manifest, if it is one.
    pub fn image(&self) -> Option<&ImageManifest> {
        match &self.0.document {
            Document::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The index, if it is one.
    pub fn index(&self) -> Option<&ImageIndex> {
        match &self.0.document {
            Document::Index(index) => Some(index),
            _ => None,
        }
    }

    /// The blobs of an image: its config, then its layers in order. Those of an artifact manifest.
    /// Other content that may be referenced as a blob is among the [`references`](Self::references).
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, others): (_, &[Descriptor]) = match &self.0.document {
            Document::Image(image) => (Some(&image.config), &image.layers),
            Document::Artifact(artifact) => (None, &artifact.blobs),
            Document::Index(_) | Document::Other(_) => (None, &[]),
        };
        config.into_iter().chain(others)
    }

    /// The entries of an index, in order: manifests, though some list blobs.
    pub fn manifests(&self) -> &[Descriptor] {
        self.index().map_or(&[], |index| &index.manifests)
    }

    /// The manifest that this one is about, if it says so.
    pub fn subject(&self) -> Option<&Descriptor> {
        match &self.0.document {
            Document::Image(image) => image.subject.as_ref(),
            Document::Index(index) => index.subject.as_ref(),
            Document::Artifact(artifact) => artifact.subject.as_ref(),
            Document::Other(other) => other.subject.as_ref(),
        }
    }

    /// The annotations.
    pub fn annotations(&self) -> Option<&Annotations> {
        match &self.0.document {
            Document::Image(image) => Some(&image.annotations),
            Document::Index(index) => Some(&index.annotations),
            Document::Artifact(artifact) => Some(&artifact.annotations),
            Document::Other(other) => Some(&other.annotations),
        }
    }

    /// The descriptor by which this manifest is listed among its subject's referrers: with its artifact type, which
    /// for an image without one is its config's media type, and its annotations (distribution-spec, "Listing
    /// Referrers"). `None` without a subject.
    pub fn as_referrer(&self) -> Option<Descriptor> {
        self.subject()?;
        let mut descriptor = self.descriptor().clone();
        if let Document::Image(image) = self.document()
            && descriptor.artifact_type.is_none()
        {
            descriptor.artifact_type = Some(image.config.media_type.to_string());
        }
        descriptor.annotations = self.annotations().cloned().unwrap_or_default();
        Some(descriptor)
    }
}

/// Decides what a document is, and reads it as that.
fn read(
    bytes: &[u8],
    declared: Option<&MediaType>,
) -> Result<(MediaType, Document), ManifestError> {
    if let Some(declared) = declared.filter(|declared| declared.is_schema1()) {
        return Err(ManifestError::Schema1(declared.clone()));
    }
    let head = DocumentHead::from_slice(bytes).map_err(|source| ManifestError::Document {
        media_type: declared.cloned().unwrap_or(MediaType::OCTET_STREAM),
        source,
    })?;
    let known = declared.filter(|declared| declared.is_manifest());
    let media_type = match (known, head.media_type()) {
        (_, Some(found)) if found.is_schema1() => {
            return Err(ManifestError::Schema1(found.clone()));
        }
        (Some(declared), Some(found)) if declared != found => {
            return Err(ManifestError::MediaType {
                declared: declared.clone(),
                found: found.clone(),
            });
        }
        (Some(declared), _) => declared.clone(),
        (None, Some(found)) => found.clone(),
        (None, None) => match structure(&head)? {
            Some(media_type) => media_type,
            None => declared.cloned().ok_or(ManifestError::Unknown)?,
        },
    };
    if !media_type.is_header_value() {
        return Err(ManifestError::Unnamable(media_type));
    }
    let document = if media_type.is_index() {
        ImageIndex::from_slice(bytes).map(Document::Index)
    } else if media_type.is_image() {
        ImageManifest::from_slice(bytes).map(Document::Image)
    } else if media_type.is_artifact() {
        ArtifactManifest::from_slice(bytes).map(Document::Artifact)
    } else {
        OtherManifest::from_slice(bytes).map(Document::Other)
    };
    match document {
        Ok(document) => Ok((media_type, document)),
        Err(source) => Err(ManifestError::Document { media_type, source }),
    }
}

/// What the structure alone says. An image has a config and layers, an index has manifests.
fn structure(head: &DocumentHead) -> Result<Option<MediaType>, ManifestError> {
    let image = head.has_config() || head.has_layers();
    match (head.has_manifests(), image) {
        (true, true) => Err(ManifestError::Ambiguous),
        (true, false) => Ok(Some(MediaType::OCI_IMAGE_INDEX)),
        (false, true) => Ok(Some(MediaType::OCI_IMAGE_MANIFEST)),
        (false, false) if head.has_fs_layers() => {
            Err(ManifestError::Schema1(MediaType::DOCKER_SCHEMA1))
        }
        (false, false) => Ok(None),
    }
}

impl PartialEq for Manifest {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest() && self.media_type() == other.media_type()
    }
}

impl Eq for Manifest {}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Manifest").field(self.descriptor()).finish()
    }
}
