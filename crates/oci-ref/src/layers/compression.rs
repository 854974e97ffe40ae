//! How a layer's tar archive is compressed.

use oci_spec_types::MediaType;

use crate::{Error, Result};

/// How a layer's tar archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip (RFC 1952).
    Gzip,
    /// With zstd (RFC 8878).
    Zstd,
}

impl Compression {
    /// The compression that a layer's media type states; `None` for types that are no layers.
    ///
    /// ```
    /// use oci_ref::Compression;
    /// use oci_spec_types::MediaType;
    ///
    /// assert_eq!(Compression::of(&MediaType::DOCKER_LAYER_GZIP), Some(Compression::Gzip));
    /// assert_eq!(Compression::of(&MediaType::OCI_IMAGE_CONFIG), None);
    /// ```
    pub fn of(media_type: &MediaType) -> Option<Self> {
        if !media_type.is_layer() {
            return None;
        }
        let name = media_type.as_str();
        Some(if name.ends_with("gzip") {
            Self::Gzip
        } else if name.ends_with("zstd") {
            Self::Zstd
        } else {
            Self::None
        })
    }

    /// The OCI media type of layers that are compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::OCI_LAYER,
            Self::Gzip => MediaType::OCI_LAYER_GZIP,
            Self::Zstd => MediaType::OCI_LAYER_ZSTD,
        }
    }

    /// Compresses a tar archive. The same archive gives the same bytes.
    #[cfg(feature = "compression")]
    pub(crate) fn compress(self, tar: bytes::Bytes) -> Result<bytes::Bytes> {
        let compressed = match self {
            Self::None => return Ok(tar),
            Self::Gzip => {
                // The header has no time and no file name.
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                std::io::Write::write_all(&mut encoder, &tar).and_then(|()| encoder.finish())
            }
            Self::Zstd => zstd::stream::encode_all(tar.as_ref(), zstd::DEFAULT_COMPRESSION_LEVEL),
        };
        compressed.map(Into::into).map_err(|error| Error::io("compressing a layer failed", error))
    }

    /// Compresses nothing: this build has the feature `compression` not enabled.
    #[cfg(not(feature = "compression"))]
    pub(crate) fn compress(self, tar: bytes::Bytes) -> Result<bytes::Bytes> {
        match self {
            Self::None => Ok(tar),
            other => Err(Error::unsupported(format!(
                "a layer cannot be compressed ({other:?}) without the feature `compression`"
            ))),
        }
    }
}
