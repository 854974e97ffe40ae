//! What tells a manifest's kind: its own media type, and the fields that it has.

use serde::Deserialize;

use crate::document::{DocumentError, TopLevel, parse, scan};
use crate::media_type::MediaType;

/// The fields of a document from outside that tell what it is, before it is read as anything.
///
/// ```
/// # use oci_spec_types::DocumentHead;
/// let head = DocumentHead::from_slice(br#"{"schemaVersion": 2, "manifests": []}"#)?;
/// assert!(head.has_manifests() && !head.has_layers() && head.media_type().is_none());
/// # Ok::<(), oci_spec_types::DocumentError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHead {
    media_type: Option<MediaType>,
    fields: TopLevel,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    media_type: Option<MediaType>,
}

impl DocumentHead {
    /// Checks the document, as [`check_document`](crate::check_document) does, and reads its head.
    ///
    /// # Errors
    /// What `check_document` refuses, and a `mediaType` that is no media type.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DocumentError> {
        let fields = scan(bytes)?;
        let Fields { media_type } = parse(bytes)?;
        Ok(Self { media_type, fields })
    }

    /// The document's `mediaType`.
    pub fn media_type(&self) -> Option<&MediaType> {
        self.media_type.as_ref()
    }

    /// Whether there is a field `manifests`, as an index has.
    pub fn has_manifests(&self) -> bool {
        self.fields.contains(TopLevel::MANIFESTS)
    }

    /// Whether there is a field `layers`, as an image has.
    pub fn has_layers(&self) -> bool {
        self.fields.contains(TopLevel::LAYERS)
    }

    /// Whether there is a field `config`, as an image has.
    pub fn has_config(&self) -> bool {
        self.fields.contains(TopLevel::CONFIG)
    }

    /// Whether there is a field `fsLayers`, as a Docker schema 1 manifest has.
    pub fn has_fs_layers(&self) -> bool {
        self.fields.contains(TopLevel::FS_LAYERS)
    }
}
