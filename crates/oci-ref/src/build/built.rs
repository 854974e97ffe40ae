//! What a builder made.

use std::collections::HashSet;

use bytes::Bytes;
use oci_spec_types::{Descriptor, Platform, Tag};

use crate::{Manifest, Precondition, Result, Store};

/// An image or artifact in memory: its manifest, and the content of its blobs.
#[derive(Clone, Debug)]
pub struct Built {
    manifest: Manifest,
    /// In the manifest's order: the config, then the layers.
    contents: Vec<Bytes>,
    platform: Option<Platform>,
}

impl Built {
    pub(super) fn new(
        manifest: Manifest,
        contents: Vec<Bytes>,
        platform: Option<Platform>,
    ) -> Self {
        Self { manifest, contents, platform }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The config, then the layers, with their content.
    pub fn blobs(&self) -> impl Iterator<Item = (&Descriptor, &Bytes)> {
        self.manifest.blobs().zip(&self.contents)
    }

    /// The descriptor by which an index lists it: an image with its platform, an artifact with its artifact type.
    pub fn index_entry(&self) -> Descriptor {
        Descriptor { platform: self.platform.clone(), ..self.manifest.descriptor().clone() }
    }

    /// Writes the blobs that are not there, then the manifest, and moves the tags to it.
    pub async fn write(self, store: &dyn Store, tags: &[Tag]) -> Result<Manifest> {
        let mut written = HashSet::new();
        for (descriptor, content) in self.blobs() {
            if written.insert(&descriptor.digest)
                && store.blob_size(&descriptor.digest).await?.is_none()
            {
                store.put_blob(descriptor, content).await?;
            }
        }
        store.put_manifest(&self.manifest, tags, &Precondition::None).await?;
        Ok(self.manifest)
    }
}
