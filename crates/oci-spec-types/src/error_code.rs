//! Error codes and error bodies (distribution-spec, section Error codes).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::serialisation::null_as_default;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal;)*) => {
        /// What went wrong, in the specification's codes.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
            /// A code that the specification does not define. Made by [`ErrorCode::parse`].
            Other(Box<str>),
        }

        impl ErrorCode {
            /// The code as it stands in an error body.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// Reads a code; an unknown one becomes [`ErrorCode::Other`].
            pub fn parse(code: &str) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    other => Self::Other(other.into()),
                }
            }

            /// The HTTP status that fits the code best; 500 for an unknown one.
            pub fn status(&self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::Other(_) => 500,
                }
            }
        }
    };
}

error_codes! {
    /// The registry does not have the blob.
    BlobUnknown = "BLOB_UNKNOWN", 404;
    /// The upload is wrong and cannot go on.
    BlobUploadInvalid = "BLOB_UPLOAD_INVALID", 400;
    /// The registry does not know the upload.
    BlobUploadUnknown = "BLOB_UPLOAD_UNKNOWN", 404;
    /// The digest is malformed, unsupported, or not that of the content.
    DigestInvalid = "DIGEST_INVALID", 400;
    /// The manifest names a manifest or blob that the registry does not have.
    ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN", 404;
    /// The manifest is malformed.
    ManifestInvalid = "MANIFEST_INVALID", 400;
    /// The registry does not have the manifest.
    ManifestUnknown = "MANIFEST_UNKNOWN", 404;
    /// The repository's name is malformed.
    NameInvalid = "NAME_INVALID", 400;
    /// The registry does not have the repository.
    NameUnknown = "NAME_UNKNOWN", 404;
    /// The length is not that of the content.
    SizeInvalid = "SIZE_INVALID", 400;
    /// The client must authenticate.
    Unauthorized = "UNAUTHORIZED", 401;
    /// The client may not do this.
    Denied = "DENIED", 403;
    /// The registry does not do this.
    Unsupported = "UNSUPPORTED", 405;
    /// The client asks too often.
    TooManyRequests = "TOOMANYREQUESTS", 429;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// The JSON body of an error answer.
///
/// ```
/// # use oci_spec_types::{ErrorBody, ErrorCode};
/// let body = ErrorBody::new(ErrorCode::BlobUnknown, "no such blob");
/// assert_eq!(serde_json::to_string(&body)?, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no such blob"}]}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong; usually one entry.
    #[serde(deserialize_with = "null_as_default")]
    pub errors: Vec<ErrorEntry>,
}

impl ErrorBody {
    /// A body with one entry.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { errors: vec![ErrorEntry { code, message: message.into(), detail: None }] }
    }
}

/// One error of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// The code.
    pub code: ErrorCode,
    /// A sentence for people; may be empty.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
    /// Anything more; its form is the registry's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}
