//! Media types (RFC 6838; image-spec, `media-types.md`).

use std::borrow::Cow;
use std::str::FromStr;

use crate::text::{Reason, parse_error, text_type};

/// Longest type and longest subtype, each (RFC 6838, section 4.2).
const MAX_PART: usize = 127;

/// Longest media type that is kept as somebody else wrote it.
const MAX_WRITTEN: usize = 1024;

/// A media type, as it was written: unknown types, parameters and letter case are kept.
///
/// What is made here is `type/subtype` without parameters ([`new`](Self::new), parsing). What is
/// found in documents of others may be more, or less: it is kept as it is
/// ([`as_written`](Self::as_written), which is also how it is read from JSON), since content is
/// moved and not judged. Types are compared by their text.
///
/// ```
/// # use oci_spec_types::MediaType;
/// let header = "Application/vnd.oci.image.index.v1+json; charset=utf-8";
/// assert_eq!(MediaType::from_content_type(header), Some(MediaType::OCI_IMAGE_INDEX));
/// assert!(header.parse::<MediaType>().is_err()); // strict: no parameters
/// assert_eq!(MediaType::as_written(header)?.as_str(), header); // kept
/// # Ok::<_, oci_spec_types::MediaTypeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Cow<'static, str>);

parse_error! {
    /// A text that is not a media type.
    MediaTypeError, "media type"
}

text_type!(MediaType, MediaType::as_written);

macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: Self = Self::from_static($value);)*
        }
    };
}

constants! {
    /// OCI image manifest.
    OCI_IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    OCI_IMAGE_INDEX = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    OCI_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, an uncompressed tar archive.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, compressed with gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, compressed with zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI layer that is not to be pushed to other registries (deprecated).
    OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// The same, compressed with gzip.
    OCI_LAYER_NONDISTRIBUTABLE_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// The same, compressed with zstd.
    OCI_LAYER_NONDISTRIBUTABLE_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
    /// The empty JSON object `{}`, for artifacts without a configuration or layers.
    OCI_EMPTY_JSON = "application/vnd.oci.empty.v1+json";
    /// OCI content descriptor.
    OCI_DESCRIPTOR = "application/vnd.oci.descriptor.v1+json";
    /// The `oci-layout` file of an image layout.
    OCI_LAYOUT_HEADER = "application/vnd.oci.layout.header.v1+json";
    /// OCI artifact manifest, withdrawn before image-spec 1.1 but still found.
    OCI_ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json";
    /// ORAS artifact manifest, from which that one was made, still found too.
    ORAS_ARTIFACT_MANIFEST = "application/vnd.cncf.oras.artifact.manifest.v1+json";
    /// Docker image manifest, schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, compressed with gzip.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, uncompressed.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, compressed with zstd.
    DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker layer that lies elsewhere (Windows base layers), uncompressed.
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    /// The same, compressed with gzip.
    DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Docker image manifest, schema 1, unsigned (obsolete).
    DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// Docker image manifest, schema 1, signed (obsolete).
    DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// Bytes of which nothing more is known.
    OCTET_STREAM = "application/octet-stream";
}

impl MediaType {
    /// A media type from an owned or static text.
    ///
    /// # Errors
    /// When it is not `type/subtype` in the characters of RFC 6838.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Result<Self, MediaTypeError> {
        let text = text.into();
        match check(&text) {
            Ok(()) => Ok(Self(text)),
            Err(reason) => Err(MediaTypeError::new(&text, reason)),
        }
    }

    /// A media type as somebody else wrote it, whether or not it is `type/subtype`: with
    /// parameters, in upper case, a word. It can be anything that is neither empty nor longer than
    /// 1,024 bytes and has no control characters.
    ///
    /// # Errors
    /// When it is empty, too long, or has a control character.
    pub fn as_written(text: impl Into<Cow<'static, str>>) -> Result<Self, MediaTypeError> {
        let text = text.into();
        let control = text.char_indices().find(|(_, found)| found.is_control());
        let checked = Reason::check_length(&text, MAX_WRITTEN).and(match control {
            Some((at, _)) => Err(Reason::at(&text, at, "no control character")),
            None => Ok(()),
        });
        match checked {
            Ok(()) => Ok(Self(text)),
            Err(reason) => Err(MediaTypeError::new(&text, reason)),
        }
    }

    /// A media type known when the program is written, for constants.
    ///
    /// # Panics
    /// When the text is not a media type; in a `const` that is a compile error.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(is_well_formed(text.as_bytes()), "not a media type");
        Self(Cow::Borrowed(text))
    }

    /// Reads a `Content-Type` header: parameters are dropped, white space is trimmed and ASCII letters become
    /// lower-case. `None` when the rest is not `type/subtype`.
    pub fn from_content_type(header: &str) -> Option<Self> {
        let essence = header.split(';').next().unwrap_or_default().trim();
        if essence.len() > 2 * MAX_PART + 1 {
            return None;
        }
        Self::new(essence.to_ascii_lowercase()).ok()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an image manifest: OCI, or Docker schema 2.
    pub fn is_image(&self) -> bool {
        matches!(self, m if *m == Self::OCI_IMAGE_MANIFEST || *m == Self::DOCKER_MANIFEST)
    }

    /// Whether this is an OCI image index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_IMAGE_INDEX || *self == Self::DOCKER_MANIFEST_LIST
    }

    /// Tells whether a registry keeps content of this type as a manifest rather than as a blob:
    /// images, indexes, artifact manifests and Docker schema 1.
    pub fn is_manifest(&self) -> bool {
        self.is_image() || self.is_index() || self.is_artifact() || self.is_schema1()
    }

    /// Tells an artifact manifest of a draft: OCI's, or ORAS's.
    pub fn is_artifact(&self) -> bool {
        *self == Self::OCI_ARTIFACT_MANIFEST || *self == Self::ORAS_ARTIFACT_MANIFEST
    }

    /// Whether this is an image configuration, OCI or Docker.
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_IMAGE_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Whether this is a file system layer, OCI or Docker, of any compression, distributable or not.
    pub fn is_layer(&self) -> bool {
        const LAYERS: [MediaType; 6] = [
            MediaType::OCI_LAYER,
            MediaType::OCI_LAYER_GZIP,
            MediaType::OCI_LAYER_ZSTD,
            MediaType::DOCKER_LAYER,
            MediaType::DOCKER_LAYER_GZIP,
            MediaType::DOCKER_LAYER_ZSTD,
        ];
        LAYERS.contains(self) || self.is_non_distributable()
    }

    /// Whether this is a layer that lies elsewhere and is not to be pushed without being asked for.
    pub fn is_non_distributable(&self) -> bool {
        const LAYERS: [MediaType; 5] = [
            MediaType::OCI_LAYER_NONDISTRIBUTABLE,
            MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP,
            MediaType::OCI_LAYER_NONDISTRIBUTABLE_ZSTD,
            MediaType::DOCKER_FOREIGN_LAYER,
            MediaType::DOCKER_FOREIGN_LAYER_GZIP,
        ];
        LAYERS.contains(self)
    }

    /// Tells what can be the value of an HTTP header: printable ASCII, and space.
    pub fn is_header_value(&self) -> bool {
        self.0.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    }

    /// Whether this is a Docker schema 1 manifest, signed or not.
    pub fn is_schema1(&self) -> bool {
        *self == Self::DOCKER_SCHEMA1 || *self == Self::DOCKER_SCHEMA1_SIGNED
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(input: &str) -> Result<Self, MediaTypeError> {
        check(input).map_err(|reason| MediaTypeError::new(input, reason))?;
        Ok(Self(Cow::Owned(input.to_owned())))
    }
}

fn check(input: &str) -> Result<(), Reason> {
    Reason::check_length(input, 2 * MAX_PART + 1)?;
    if is_well_formed(input.as_bytes()) {
        return Ok(());
    }
    let (main, sub) =
        input.split_once('/').ok_or(Reason::Rule("it has no '/', expected type/subtype"))?;
    for (start, part) in [(0, main), (main.len() + 1, sub)] {
        if part.len() > MAX_PART {
            return Err(Reason::Rule("a part has more than 127 bytes"));
        }
        let bad = part.bytes().enumerate().position(|(at, byte)| !is_allowed(byte, at == 0));
        if part.is_empty() || bad.is_some() {
            return Err(Reason::at(
                input,
                start + bad.unwrap_or(0),
                "a letter, digit or one of !#$&-^_.+ (RFC 6838)",
            ));
        }
    }
    Err(Reason::Rule("it is not type/subtype"))
}

const fn is_allowed(byte: u8, first: bool) -> bool {
    byte.is_ascii_alphanumeric()
        || (!first && matches!(byte, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+'))
}

/// The grammar in a form that runs at compile time: exactly one slash, two parts of 1 to 127 allowed bytes.
const fn is_well_formed(text: &[u8]) -> bool {
    let mut slash = false;
    let mut part = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'/' {
            if slash || part == 0 {
                return false;
            }
            slash = true;
            part = 0;
        } else {
            if !is_allowed(text[at], part == 0) || part == MAX_PART {
                return false;
            }
            part += 1;
        }
        at += 1;
    }
    slash && part > 0
}
