//! Content descriptors (image-spec, `descriptor.md`).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::platform::Platform;
use crate::serialisation::{data, is_blank, null_as_default, size};
use crate::{Annotations, Extra};

/// What some content is, which digest it has, and how long it is.
///
/// ```
/// # use oci_spec_types::{Descriptor, MediaType};
/// let descriptor = Descriptor::of(MediaType::OCI_IMAGE_CONFIG, b"{}");
/// assert_eq!(descriptor.size, 2);
/// assert!(descriptor.digest.verify(b"{}").is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The content's media type.
    pub media_type: MediaType,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes, at most 2^63 - 1.
    #[serde(with = "size")]
    pub size: u64,
    /// Other places to get the content from.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations of this use of the content.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Annotations::is_empty"
    )]
    pub annotations: Annotations,
    /// The content itself, if it is embedded; base64 in JSON. Nothing has compared it with digest and size.
    #[serde(default, with = "data", skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<u8>>,
    /// In an index: the platform that the manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact the manifest is.
    #[serde(default, skip_serializing_if = "is_blank")]
    pub artifact_type: Option<String>,
    /// Fields that the specification does not define.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Descriptor {
    /// A descriptor with nothing but what every one has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: Annotations::new(),
            data: None,
            platform: None,
            artifact_type: None,
            extra: Extra::new(),
        }
    }

    /// The descriptor of `bytes`, with their SHA-256 digest.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// Tells that the content may lie elsewhere than what references it: it has URLs, or its type
    /// says that it is not distributed. A layer that is not there is then none that is missing.
    pub fn may_be_elsewhere(&self) -> bool {
        !self.urls.is_empty() || self.media_type.is_non_distributable()
    }

    /// The specification's descriptor of the empty JSON object `{}`, with the object embedded.
    pub fn empty_json() -> Self {
        Self { data: Some(b"{}".to_vec()), ..Self::of(MediaType::OCI_EMPTY_JSON, b"{}") }
    }
}
