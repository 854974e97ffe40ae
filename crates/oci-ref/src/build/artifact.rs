//! Building an artifact.

use bytes::Bytes;
use oci_spec_types::{Annotations, Descriptor, ImageManifest, MediaType, Tag};

use super::{Built, LayerContent, image};
use crate::{Manifest, Result, Store};

/// Builds an artifact of any bytes: an OCI image manifest with an `artifactType` (image-spec, "Guidelines for Artifact
/// Usage"). The same input gives the same bytes.
///
/// Without a config and without layers it has the empty JSON object in their place.
///
/// ```
/// use oci_ref::{ArtifactBuilder, LayerContent};
/// use oci_spec_types::{Descriptor, MediaType};
///
/// let image = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"an image manifest");
/// let kind = MediaType::from_static("application/vnd.example.sbom+json");
/// let built = ArtifactBuilder::new(kind.clone())
///     .layer(LayerContent::blob(kind, r#"{"packages":[]}"#))
///     .subject(image.clone())
///     .build()?;
/// assert_eq!(built.manifest().subject(), Some(&image));
/// # Ok::<_, oci_ref::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ArtifactBuilder {
    artifact_type: MediaType,
    config: (Descriptor, Bytes),
    layers: Vec<LayerContent>,
    annotations: Annotations,
    subject: Option<Descriptor>,
}

impl ArtifactBuilder {
    /// An artifact of this type.
    pub fn new(artifact_type: MediaType) -> Self {
        Self {
            artifact_type,
            config: empty(),
            layers: Vec::new(),
            annotations: Annotations::new(),
            subject: None,
        }
    }

    /// Sets the config.
    #[must_use]
    pub fn config(mut self, media_type: MediaType, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        self.config = (Descriptor::of(media_type, &content), content);
        self
    }

    /// Adds a layer.
    #[must_use]
    pub fn layer(mut self, layer: LayerContent) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets an annotation of the manifest.
    #[must_use]
    pub fn annotate(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the manifest that this one says something about.
    #[must_use]
    pub fn subject(mut self, subject: Descriptor) -> Self {
        self.subject = Some(subject);
        self
    }

    /// Builds it.
    pub fn build(self) -> Result<Built> {
        let (config, config_content) = self.config;
        let mut contents = vec![config_content];
        let mut layers = Vec::new();
        for layer in self.layers {
            layers.push(layer.descriptor);
            contents.push(layer.content);
        }
        if layers.is_empty() {
            let (layer, content) = empty();
            layers.push(layer);
            contents.push(content);
        }
        let document = ImageManifest {
            artifact_type: Some(self.artifact_type.to_string()),
            annotations: self.annotations,
            subject: self.subject,
            ..ImageManifest::new(config, layers)
        };
        Ok(Built::new(image::manifest(&document)?, contents, None))
    }

    /// Builds it, writes its blobs and then its manifest, and moves the tags to it.
    pub async fn write(self, store: &dyn Store, tags: &[Tag]) -> Result<Manifest> {
        self.build()?.write(store, tags).await
    }
}

fn empty() -> (Descriptor, Bytes) {
    (Descriptor::empty_json(), Bytes::from_static(b"{}"))
}
