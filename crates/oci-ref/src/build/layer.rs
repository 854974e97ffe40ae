//! A layer for a builder.

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, MediaType};

use crate::{Compression, Result};

/// The content of a layer that an image or an artifact is built of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerContent {
    pub(super) descriptor: Descriptor,
    pub(super) content: Bytes,
    /// The digest of the uncompressed content, of file system layers.
    pub(super) diff_id: Option<Digest>,
}

impl LayerContent {
    /// A tar archive, to be compressed. `UNSUPPORTED` for gzip and zstd without the feature `compression`.
    pub fn tar(tar: impl Into<Bytes>, compression: Compression) -> Result<Self> {
        let tar = tar.into();
        let diff_id = Digest::sha256(&tar);
        let content = compression.compress(tar)?;
        let descriptor = Descriptor::of(compression.media_type(), &content);
        Ok(Self { descriptor, content, diff_id: Some(diff_id) })
    }

    /// A layer that is packed already. Its content is unpacked to compute the diff ID, and may have `limit` bytes at
    /// most. `Invalid` if the media type is no layer's, or the content is not packed as it says.
    #[cfg(feature = "compression")]
    pub fn packed(media_type: MediaType, content: impl Into<Bytes>, limit: u64) -> Result<Self> {
        let content = content.into();
        let diff_id = crate::layers::unpacked_digest(&media_type, content.clone(), limit)?;
        let descriptor = Descriptor::of(media_type, &content);
        Ok(Self { descriptor, content, diff_id: Some(diff_id) })
    }

    /// Any bytes, for artifacts.
    pub fn blob(media_type: MediaType, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let descriptor = Descriptor::of(media_type, &content);
        Self { descriptor, content, diff_id: None }
    }

    /// Sets an annotation of the layer.
    #[must_use]
    pub fn annotate(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.descriptor.annotations.insert(key.into(), value.into());
        self
    }

    /// The descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The digest of the uncompressed content, of file system layers.
    pub fn diff_id(&self) -> Option<&Digest> {
        self.diff_id.as_ref()
    }
}
