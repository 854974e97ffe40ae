//! What the checks push: content that no other run has, and manifests made from it.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(super) const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(super) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

/// The digest of some bytes by the algorithm of another digest.
pub(super) fn digest_like(other: &str, bytes: &[u8]) -> String {
    if other.starts_with("sha512:") { sha512(bytes) } else { sha256(bytes) }
}

/// A blob and its digest.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

impl Blob {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let digest = sha256(&bytes);
        Self { bytes, digest }
    }

    pub(super) fn with_sha512(bytes: Vec<u8>) -> Self {
        let digest = sha512(&bytes);
        Self { bytes, digest }
    }

    pub(super) fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A manifest as it goes over the wire.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
    pub(super) digest: String,
}

impl Document {
    pub(super) fn new(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), media_type: media_type.to_owned(), bytes }
    }

    /// A document whose `mediaType` says what it is.
    pub(super) fn of(value: &Value) -> Self {
        let media_type = value.get("mediaType").and_then(Value::as_str).unwrap_or(IMAGE);
        Self::new(media_type, value.to_string().into_bytes())
    }

    pub(super) fn with_sha512(self) -> Self {
        Self { digest: sha512(&self.bytes), ..self }
    }

    pub(super) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image manifest of a config and layers.
pub(super) fn image(config: &Value, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers})
}

/// An image index of manifests.
pub(super) fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// A document with one more field.
pub(super) fn with(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}
