//! A manifest that waits for others.

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, MediaType};

use crate::graph::read_manifest;
use crate::{LARGE_DOCUMENT, Manifest, Result, Source, apart};

/// A manifest that waits for others. Of a large one less is kept: parsed it can take many times as
/// much memory as its bytes.
pub(super) enum Kept {
    Whole(Manifest),
    Bytes(Bytes, MediaType, Digest),
    /// Nothing of it: it is read once more.
    Source(Box<Descriptor>),
}

impl Kept {
    /// Keeps the bytes of a large one.
    pub(super) fn bytes(manifest: Manifest) -> Self {
        if manifest.bytes().len() <= LARGE_DOCUMENT {
            return Self::Whole(manifest);
        }
        let (bytes, media_type) = (manifest.bytes().clone(), manifest.media_type().clone());
        Self::Bytes(bytes, media_type, manifest.digest().clone())
    }

    /// Keeps nothing of a large one.
    pub(super) fn at_source(manifest: Manifest) -> Self {
        if manifest.bytes().len() <= LARGE_DOCUMENT {
            return Self::Whole(manifest);
        }
        Self::Source(Box::new(manifest.descriptor().clone()))
    }

    /// The manifest, parsed from the same bytes.
    pub(super) async fn manifest(self, source: &dyn Source) -> Result<Manifest> {
        match self {
            Self::Whole(manifest) => Ok(manifest),
            Self::Bytes(bytes, media_type, digest) => {
                let size = bytes.len();
                let parse = move || Ok(Manifest::parse(bytes, Some(&media_type), Some(&digest))?);
                apart(size, parse).await
            }
            Self::Source(descriptor) => {
                let read = read_manifest(source, &descriptor).await;
                read.map_err(|error| {
                    error.context(format!("reading manifest {} once more", descriptor.digest))
                })
            }
        }
    }
}
