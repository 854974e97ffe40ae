//! Image manifests and image indexes (image-spec, `manifest.md` and `image-index.md`). Docker's schema 2 manifest
//! and manifest list have the same shape and are read as the same types.

use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;
use crate::document::{DocumentError, TopLevel, parse, scan};
use crate::media_type::MediaType;
use crate::serialisation::{is_blank, null_as_default, schema_version};
use crate::{Annotations, Extra};

/// An image manifest: a configuration and layers.
///
/// Read documents from outside with [`ImageManifest::from_slice`]; plain `serde` reading does not notice an
/// index passed off as an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    #[serde(deserialize_with = "schema_version::deserialize")]
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact this is, if it is not an image.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ImageManifest {
    /// An OCI image manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: schema_version::VALUE,
            media_type: Some(MediaType::OCI_IMAGE_MANIFEST),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
            extra: Extra::new(),
        }
    }

    /// Reads an image manifest, OCI or Docker schema 2, from its bytes.
    ///
    /// # Errors
    /// When [`check_document`](crate::check_document) refuses the bytes, when a field is missing or wrong (the error
    /// names its path, as `layers[2].size`), or when the document could also be read as another kind of manifest:
    /// it has a `manifests` field, or its `mediaType` is that of another kind.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DocumentError> {
        let top = scan(bytes)?;
        refuse_fields("an image manifest", &[("manifests", top.contains(TopLevel::MANIFESTS))])?;
        let manifest: Self = parse(bytes)?;
        refuse_kind("an image manifest", manifest.media_type.as_ref(), MediaType::is_image)?;
        Ok(manifest)
    }
}

/// An image index: a list of manifests, often one for each platform.
///
/// Read documents from outside with [`ImageIndex::from_slice`]; plain `serde` reading does not notice an image
/// passed off as an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    #[serde(deserialize_with = "schema_version::deserialize")]
    pub schema_version: u32,
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact this is, if it is not an image.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub artifact_type: Option<String>,
    /// The manifests, which may be indexes themselves.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the index.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ImageIndex {
    /// An OCI image index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: schema_version::VALUE,
            media_type: Some(MediaType::OCI_IMAGE_INDEX),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
            extra: Extra::new(),
        }
    }

    /// Reads an image index or a Docker manifest list from its bytes.
    ///
    /// # Errors
    /// When [`check_document`](crate::check_document) refuses the bytes, when a field is missing or wrong (the error
    /// names its path, as `manifests[3].digest`), or when the document could also be read as another kind of
    /// manifest: it has a `layers`, `config` or `fsLayers` field, or its `mediaType` is that of another kind.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DocumentError> {
        let top = scan(bytes)?;
        refuse_fields(
            "an image index",
            &[
                ("layers", top.contains(TopLevel::LAYERS)),
                ("config", top.contains(TopLevel::CONFIG)),
                ("fsLayers", top.contains(TopLevel::FS_LAYERS)),
            ],
        )?;
        let index: Self = parse(bytes)?;
        refuse_kind("an image index", index.media_type.as_ref(), MediaType::is_index)?;
        Ok(index)
    }
}

/// An OCI artifact manifest: blobs, and what they are about. A draft of the image-spec's version 1.1 had it, and
/// registries still hold some; artifacts made now are image manifests with an `artifactType`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactManifest {
    /// The document's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What kind of artifact this is.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub artifact_type: Option<String>,
    /// The content.
    #[serde(default, deserialize_with = "null_as_default")]
    pub blobs: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// Fields that the draft did not define.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ArtifactManifest {
    /// Reads an artifact manifest from its bytes.
    ///
    /// # Errors
    /// When [`check_document`](crate::check_document) refuses the bytes, when a field is missing or wrong, or when the
    /// document could also be read as another kind of manifest: it has a `manifests`, `layers` or `config` field, or its
    /// `mediaType` is that of another kind.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DocumentError> {
        let top = scan(bytes)?;
        refuse_fields(
            "an artifact manifest",
            &[
                ("manifests", top.contains(TopLevel::MANIFESTS)),
                ("layers", top.contains(TopLevel::LAYERS)),
                ("config", top.contains(TopLevel::CONFIG)),
            ],
        )?;
        let manifest: Self = parse(bytes)?;
        refuse_kind("an artifact manifest", manifest.media_type.as_ref(), MediaType::is_artifact)?;
        Ok(manifest)
    }
}

fn refuse_fields(kind: &str, fields: &[(&str, bool)]) -> Result<(), DocumentError> {
    match fields.iter().find(|(_, present)| *present) {
        Some((field, _)) => {
            Err(DocumentError::at(field, format!("{kind} must not have this field")))
        }
        None => Ok(()),
    }
}

/// Refuses the media type of another kind of manifest. Types that this crate does not know pass.
fn refuse_kind(
    kind: &str,
    found: Option<&MediaType>,
    own: fn(&MediaType) -> bool,
) -> Result<(), DocumentError> {
    match found {
        Some(found) if found.is_manifest() && !own(found) => Err(DocumentError::at(
            "mediaType",
            format!("found {found}, expected the media type of {kind}"),
        )),
        _ => Ok(()),
    }
}
