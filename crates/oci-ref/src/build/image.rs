//! Building an image.

use bytes::Bytes;
use oci_spec_types::{
    Annotations, ContainerConfig, Descriptor, Extra, History, ImageConfig, ImageManifest,
    MediaType, Platform, RootFs, Tag,
};

use super::{Built, LayerContent};
use crate::list::platform_of;
use crate::{Error, ErrorKind, Loss, Manifest, Result, Store};

/// Builds an image of a config and layers. The same input gives the same bytes.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use oci_ref::{Compression, ImageBuilder, LayerContent, Memory};
/// use oci_spec_types::Platform;
///
/// let layer = LayerContent::tar(vec![0; 1024], Compression::None)?; // an empty archive
/// let manifest = ImageBuilder::for_platform(&Platform::new("linux", "amd64"))
///     .env("PATH", "/bin")
///     .label("org.example.team", "storage")
///     .layer(layer)
///     .write(&Memory::new(), &["latest".parse().unwrap()])
///     .await?;
/// assert_eq!(manifest.blobs().count(), 2);
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    config: ImageConfig,
    layers: Vec<LayerContent>,
    annotations: Annotations,
    subject: Option<Descriptor>,
    media_type: MediaType,
}

impl ImageBuilder {
    /// An OCI image with this config. Its diff IDs will be those of the layers.
    pub fn new(config: ImageConfig) -> Self {
        Self {
            config,
            layers: Vec::new(),
            annotations: Annotations::new(),
            subject: None,
            media_type: MediaType::OCI_IMAGE_MANIFEST,
        }
    }

    /// An OCI image for a platform, with nothing else in its config.
    pub fn for_platform(platform: &Platform) -> Self {
        Self::new(ImageConfig {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
            config: None,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: Vec::new(), extra: Extra::new() },
            history: Vec::new(),
            extra: Extra::new(),
        })
    }

    /// The config as it is so far, to be changed. Diff IDs in it are replaced.
    pub fn config_mut(&mut self) -> &mut ImageConfig {
        &mut self.config
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let env = &mut self.container().env;
        env.retain(|variable| variable.split('=').next() != Some(name));
        env.push(format!("{name}={value}"));
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.container().labels.insert(key.into(), value.into());
        self
    }

    /// Adds a step to the history. If there is any, as many steps must have made a layer as there are layers.
    #[must_use]
    pub fn history(mut self, step: History) -> Self {
        self.config.history.push(step);
        self
    }

    /// Adds a layer on top.
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

    /// Sets the type of the manifest: that of an OCI or of a Docker image.
    #[must_use]
    pub fn media_type(mut self, media_type: MediaType) -> Self {
        self.media_type = media_type;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// `Invalid` if a layer is no file system layer, the history does not fit the layers, or the config would not
    /// parse; `MANIFEST_INVALID` for what a Docker image cannot hold.
    pub fn build(mut self) -> Result<Built> {
        self.config.rootfs.diff_ids =
            self.layers.iter().enumerate().map(diff_id).collect::<Result<_>>()?;
        self.check_history()?;
        let config = serde_json::to_vec(&self.config).map_err(|error| invalid("config", error))?;
        let config = Bytes::from(config);
        ImageConfig::from_slice(&config).map_err(|error| invalid("config", error))?;

        let config_descriptor = Descriptor::of(MediaType::OCI_IMAGE_CONFIG, &config);
        let layers = self.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let document = ImageManifest {
            annotations: self.annotations,
            subject: self.subject,
            ..ImageManifest::new(config_descriptor, layers)
        };
        let manifest = manifest(&document)?.convert_to(&self.media_type, Loss::Refuse)?.manifest;
        let mut contents = vec![config];
        contents.extend(self.layers.into_iter().map(|layer| layer.content));
        Ok(Built::new(manifest, contents, Some(platform_of(&self.config))))
    }

    /// Builds it, writes its blobs and then its manifest, and moves the tags to it.
    pub async fn write(self, store: &dyn Store, tags: &[Tag]) -> Result<Manifest> {
        self.build()?.write(store, tags).await
    }

    fn container(&mut self) -> &mut ContainerConfig {
        self.config.config.get_or_insert_default()
    }

    fn check_history(&self) -> Result<()> {
        let history = &self.config.history;
        let steps = history.iter().filter(|step| step.empty_layer != Some(true)).count();
        let layers = self.layers.len();
        if history.is_empty() || steps == layers {
            return Ok(());
        }
        let message =
            format!("{steps} steps of the history made a layer, but there are {layers} layers");
        Err(Error::new(ErrorKind::Invalid, message))
    }
}

fn diff_id((position, layer): (usize, &LayerContent)) -> Result<oci_spec_types::Digest> {
    layer.diff_id.clone().ok_or_else(|| {
        let media_type = &layer.descriptor.media_type;
        let message = format!("layer {position} is of type {media_type}, and has no diff ID: it is no file system layer");
        Error::new(ErrorKind::Invalid, message)
    })
}

fn invalid(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what}: {error}")).with_source(error)
}

/// The one place where an image manifest becomes bytes.
pub(super) fn manifest(document: &ImageManifest) -> Result<Manifest> {
    let bytes = serde_json::to_vec(document).map_err(|error| invalid("manifest", error))?;
    Ok(Manifest::parse(bytes.into(), Some(&MediaType::OCI_IMAGE_MANIFEST), None)?)
}
