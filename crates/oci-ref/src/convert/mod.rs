//! Manifests as another type: OCI to Docker and back, for images and for lists.
//!
//! The two formats have the same shape, and differ in media types and in what a document may hold. What the target
//! cannot hold is an error that names it, or is dropped and reported. Blobs stay as they are: configs and layers are
//! the same bytes under another type. Fields that neither format defines are kept.

mod image;
mod list;
mod types;

use std::fmt;

use bytes::Bytes;
use oci_spec_types::{Annotations, Descriptor, ErrorCode, MediaType, Platform};

use crate::{Document, Error, ErrorKind, Manifest, Result};

/// What to do with what the target of a conversion cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// The conversion is refused, and the error names it.
    #[default]
    Refuse,
    /// It is dropped or replaced, and reported.
    Allow,
}

/// A manifest as another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The manifest; with the very bytes of the original, if it was of the type already.
    pub manifest: Manifest,
    /// What it could not hold.
    pub dropped: Vec<Dropped>,
}

/// Something that the target of a conversion cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where it was, as `manifests[3].annotations`.
    pub path: String,
    /// What became of it.
    pub change: Change,
}

/// What became of something that the target of a conversion cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is gone.
    Removed,
    /// The entry had no platform, and must have one: it has that of this host, without a variant.
    PlatformAssumed(Platform),
    /// The media type became one that the target does not define, but that some readers know.
    Unofficial(MediaType),
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            Change::Removed => write!(f, "{}: dropped", self.path),
            Change::PlatformAssumed(platform) => {
                write!(f, "{}: missing, {platform} assumed", self.path)
            }
            Change::Unofficial(media_type) => {
                write!(f, "{}: became {media_type}, which is not official", self.path)
            }
        }
    }
}

impl Manifest {
    /// This manifest as another type: an OCI index as a Docker list, an OCI image as a Docker one, and the reverse.
    ///
    /// An image's config and layers change their types with it; they stay the same blobs. The manifests that a list
    /// names stay as they are: convert them first, and then
    /// [`update_instances`](crate::List::update_instances).
    ///
    /// A Docker document has no annotations, subject, artifact type or embedded data, and each entry of a Docker list
    /// has a platform. An OCI one has no processor features. Layers compressed with zstd have no official Docker type;
    /// if loss is allowed they get the one that containerd knows.
    ///
    /// # Errors
    /// `MANIFEST_INVALID`, naming the field, for what the target cannot hold if `loss` is [`Loss::Refuse`], and in any
    /// case for configs and layers of which the target has no like. `Invalid` for a list as an image, an image as a
    /// list, and types that are neither.
    ///
    /// ```
    /// use oci_ref::{Loss, Manifest};
    /// use oci_spec_types::MediaType;
    ///
    /// let bytes = br#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b"}}"#;
    /// let index = Manifest::parse(bytes.as_slice().into(), None, None)?;
    /// let error = index.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Refuse).unwrap_err();
    /// assert!(error.to_string().ends_with("annotations: a Docker list cannot hold this"));
    ///
    /// let converted = index.convert_to(&MediaType::DOCKER_MANIFEST_LIST, Loss::Allow)?;
    /// assert_eq!(converted.dropped[0].to_string(), "annotations: dropped");
    /// # Ok::<_, oci_ref::Error>(())
    /// ```
    pub fn convert_to(&self, media_type: &MediaType, loss: Loss) -> Result<Conversion> {
        if self.media_type() == media_type {
            return Ok(Conversion { manifest: self.clone(), dropped: Vec::new() });
        }
        let mut target = Target::new(self, media_type, loss);
        let bytes = match self.document() {
            Document::Index(index) if media_type.is_index() => {
                serde_json::to_vec(&list::convert(index, &mut target)?)
            }
            Document::Image(image) if media_type.is_image() => {
                serde_json::to_vec(&image::convert(image, &mut target)?)
            }
            _ => return Err(self.not_convertible(media_type)),
        };
        let bytes =
            Bytes::from(bytes.map_err(|error| target.error(error.to_string()).with_source(error))?);
        let digest = self.digest().known_algorithm().unwrap_or_default().digest(&bytes);
        Ok(Conversion {
            manifest: Manifest::parse(bytes, Some(media_type), Some(&digest))?,
            dropped: target.dropped,
        })
    }

    fn not_convertible(&self, media_type: &MediaType) -> Error {
        let expected = match self.document() {
            Document::Index(_) => ", which is not a list type",
            Document::Image(_) => ", which is not an image type",
            Document::Artifact(_) | Document::Other(_) => "",
        };
        let (digest, from) = (self.digest(), self.media_type());
        Error::new(
            ErrorKind::Invalid,
            format!("{digest} of type {from} cannot be converted to {media_type}{expected}"),
        )
    }
}

/// The type that something is converted to, and what it could not hold so far.
struct Target<'a> {
    manifest: &'a Manifest,
    media_type: &'a MediaType,
    loss: Loss,
    dropped: Vec<Dropped>,
}

impl<'a> Target<'a> {
    fn new(manifest: &'a Manifest, media_type: &'a MediaType, loss: Loss) -> Self {
        Self { manifest, media_type, loss, dropped: Vec::new() }
    }

    fn is_docker(&self) -> bool {
        *self.media_type == MediaType::DOCKER_MANIFEST
            || *self.media_type == MediaType::DOCKER_MANIFEST_LIST
    }

    fn name(&self) -> &'static str {
        match (self.is_docker(), self.media_type.is_index()) {
            (true, true) => "a Docker list",
            (true, false) => "a Docker image",
            (false, true) => "an OCI index",
            (false, false) => "an OCI image",
        }
    }

    fn error(&self, what: impl fmt::Display) -> Error {
        let (digest, media_type) = (self.manifest.digest(), self.media_type);
        Error::new(
            ErrorCode::ManifestInvalid,
            format!("converting {digest} to {media_type}: {what}"),
        )
    }

    /// The target has no like of this, whatever may be lost.
    fn refuse<T>(&self, path: &str, found: &MediaType) -> Result<T> {
        Err(self.error(format_args!("{path}: {} has nothing like {found}", self.name())))
    }

    /// The target cannot hold this.
    fn lose(&mut self, path: impl fmt::Display, change: Change) -> Result<()> {
        if self.loss == Loss::Refuse {
            let needs = match &change {
                Change::Removed => "cannot hold this",
                Change::PlatformAssumed(_) => "needs one, and there is none",
                Change::Unofficial(_) => "has no official type for this",
            };
            return Err(self.error(format_args!("{path}: {} {needs}", self.name())));
        }
        self.dropped.push(Dropped { path: path.to_string(), change });
        Ok(())
    }

    /// Empties a field that the target does not have.
    fn clear<T: Default + PartialEq>(
        &mut self,
        field: &mut T,
        path: impl fmt::Display,
    ) -> Result<()> {
        if *field == T::default() {
            return Ok(());
        }
        *field = T::default();
        self.lose(path, Change::Removed)
    }

    /// Empties a text that the target does not have. An empty one, as Go writes it, says nothing.
    fn clear_text(&mut self, text: &mut Option<String>, path: impl fmt::Display) -> Result<()> {
        if text.as_deref() == Some("") {
            *text = None;
        }
        self.clear(text, path)
    }

    /// Empties what no Docker document has at its top.
    fn clear_top(
        &mut self,
        annotations: &mut Annotations,
        artifact_type: &mut Option<String>,
        subject: &mut Option<Descriptor>,
    ) -> Result<()> {
        if !self.is_docker() {
            return Ok(());
        }
        self.clear(annotations, "annotations")?;
        self.clear_text(artifact_type, "artifactType")?;
        self.clear(subject, "subject")
    }

    /// Empties what no Docker descriptor has.
    fn clear_descriptor(&mut self, descriptor: &mut Descriptor, path: &str) -> Result<()> {
        if !self.is_docker() {
            return Ok(());
        }
        self.clear(&mut descriptor.annotations, format_args!("{path}.annotations"))?;
        self.clear_text(&mut descriptor.artifact_type, format_args!("{path}.artifactType"))?;
        self.clear(&mut descriptor.data, format_args!("{path}.data"))
    }
    /// Empties what no Docker descriptor of a config or a layer has.
    fn clear_blob(&mut self, descriptor: &mut Descriptor, path: &str) -> Result<()> {
        self.clear_descriptor(descriptor, path)?;
        if !self.is_docker() {
            return Ok(());
        }
        self.clear(&mut descriptor.platform, format_args!("{path}.platform"))
    }
}
