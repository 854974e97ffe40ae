//! What the load pushes.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::noise::noise;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) bytes: Arc<Vec<u8>>,
}

impl Blob {
    pub(super) fn noise(seed: u64, size: usize) -> Self {
        Self::new(noise(seed, size))
    }

    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes: Arc::new(bytes) }
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// A manifest. Cheap to clone in its `Arc`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: &'static str,
    /// The digests of the blobs that it references.
    pub(super) blobs: Vec<String>,
    /// The digests of the manifests in an index.
    pub(super) children: Vec<String>,
    pub(super) subject: Option<String>,
}

impl Manifest {
    /// An image. `note` makes it differ from others.
    pub(super) fn image(
        config: &Blob,
        layers: &[Blob],
        subject: Option<&Self>,
        note: &str,
    ) -> Arc<Self> {
        let describe = |blob: &Blob, media_type| json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size()});
        let mut value = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "artifactType": "application/vnd.example.crash",
            "config": describe(config, EMPTY),
            "layers": layers.iter().map(|layer| describe(layer, LAYER)).collect::<Vec<_>>(),
            "annotations": {"note": note},
        });
        if let Some(subject) = subject {
            value["subject"] = subject.descriptor();
        }
        let blobs = [config].into_iter().chain(layers).map(|blob| blob.digest.clone()).collect();
        let subject = subject.map(|subject| subject.digest.clone());
        Self::new(&value, IMAGE, (blobs, Vec::new()), subject)
    }

    pub(super) fn index(children: &[Arc<Self>], note: &str) -> Arc<Self> {
        let value = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": children.iter().map(|child| child.descriptor()).collect::<Vec<_>>(),
            "annotations": {"note": note},
        });
        let children = children.iter().map(|child| child.digest.clone()).collect();
        Self::new(&value, INDEX, (Vec::new(), children), None)
    }

    fn new(
        value: &serde_json::Value,
        media_type: &'static str,
        (blobs, children): (Vec<String>, Vec<String>),
        subject: Option<String>,
    ) -> Arc<Self> {
        let bytes = value.to_string().into_bytes();
        Arc::new(Self { digest: sha256(&bytes), bytes, media_type, blobs, children, subject })
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
