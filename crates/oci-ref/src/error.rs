//! The one error of everything that reads or writes content.
//!
//! Its kinds are the distribution spec's error codes, and a few conditions that the spec expresses by a status
//! alone. A client turns what a registry answers into a kind, and a server turns a kind into an answer, so an
//! error crosses the wire without being translated twice.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use oci_spec_types::{DocumentError, ErrorCode, UnsupportedAlgorithm, VerifyError};

use crate::ManifestError;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a form that a program can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// One of the distribution spec's error codes.
    Code(ErrorCode),
    /// A range that does not fit: of a blob of `size` bytes for a read, of an upload that stands at `size` bytes
    /// for a write.
    RangeInvalid {
        /// How many bytes there are.
        size: u64,
    },
    /// The condition under which a write was asked for does not hold.
    PreconditionFailed,
    /// A manifest was stored, but not added to the list of its subject's referrers that clients
    /// keep under a tag; or it was not deleted, because it could not be taken off that list.
    /// Passing failures and refused credentials keep their own kinds.
    Unlisted,
    /// The destination takes no index whose manifests are not all there.
    Sparse,
    /// More bytes than the configured limit.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is no room left to write to.
    StorageFull,
    /// The other side cannot do it now, and may be able to later.
    Unavailable,
    /// A local file, or a connection, failed.
    Io,
    /// The caller asked for something that cannot be.
    Invalid,
    /// The operation was cancelled.
    Cancelled,
    /// Something that should not happen, such as stored content that no longer has its digest.
    Internal,
}

/// An error of reading or writing content: what kind it is, what it was about, and its cause.
///
/// ```
/// use oci_ref::Error;
/// use oci_spec_types::ErrorCode;
///
/// let error = Error::new(ErrorCode::BlobUnknown, "blob sha256:… is not in repository a/b");
/// assert!(error.is_not_found());
/// assert!(!error.is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Tells whether an error says that no more files, or connections, can be open.
fn too_many_open_files(error: &std::io::Error) -> bool {
    /// `ENFILE` and `EMFILE`, the same on all Unix systems. The standard library has no kind for
    /// them.
    const NO_MORE: [i32; 2] = [23, 24];
    cfg!(unix) && error.raw_os_error().is_some_and(|code| NO_MORE.contains(&code))
}

impl Error {
    /// An error of a kind, with a message that names the thing, what was expected and what was found.
    pub fn new(kind: impl Into<ErrorKind>, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind: kind.into(), message: message.into(), source: None }))
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// This error as the cause of one that says what was being done, of the same kind.
    #[must_use]
    pub fn context(self, doing: impl Into<Cow<'static, str>>) -> Self {
        Self::new(self.0.kind.clone(), doing).with_source(self)
    }

    /// An error of reading or writing a local file. A full disk is [`ErrorKind::StorageFull`]; that
    /// this process, or the system, may have no more files open is [`ErrorKind::Unavailable`],
    /// since it passes.
    pub fn io(message: impl Into<Cow<'static, str>>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::StorageFull
            }
            _ if too_many_open_files(&source) => ErrorKind::Unavailable,
            _ => ErrorKind::Io,
        };
        Self::new(kind, message).with_source(source)
    }

    /// An operation that this source or store does not have.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    /// What kind of error it is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The spec's error code, where the error is one of those.
    pub fn code(&self) -> Option<&ErrorCode> {
        match &self.0.kind {
            ErrorKind::Code(code) => Some(code),
            _ => None,
        }
    }

    /// This error's own message, without its causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// A manifest, blob, tag, repository or upload that is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.code(),
            Some(
                ErrorCode::BlobUnknown
                    | ErrorCode::ManifestUnknown
                    | ErrorCode::NameUnknown
                    | ErrorCode::BlobUploadUnknown
            )
        )
    }

    /// The caller has to say who they are.
    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(&ErrorCode::Unauthorized)
    }

    /// The caller may not do this.
    pub fn is_denied(&self) -> bool {
        self.code() == Some(&ErrorCode::Denied)
    }

    /// Tells whether content is not what its descriptor says: it has another digest or another size.
    pub fn is_other_content(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DigestInvalid | ErrorCode::SizeInvalid))
    }

    /// The source or store does not have this operation.
    pub fn is_unsupported(&self) -> bool {
        self.code() == Some(&ErrorCode::Unsupported)
    }

    /// The same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::Code(ErrorCode::TooManyRequests))
    }

    /// The message with those of its causes, each once, in one line: for logs, and for reports that have no room for more.
    ///
    /// ```
    /// let cause = std::io::Error::other("no such device");
    /// assert_eq!(oci_ref::Error::io("cannot read x", cause).chain(), "cannot read x: no such device");
    /// ```
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut said = text.clone();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            let message = cause.to_string();
            if !said.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
                said = message;
            }
            next = cause.source();
        }
        text
    }

    /// The first error of type `E` among this error's causes.
    pub fn find_source<E: StdError + 'static>(&self) -> Option<&E> {
        let mut next = StdError::source(self);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<E>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<ErrorCode> for ErrorKind {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ManifestError> for Error {
    fn from(error: ManifestError) -> Self {
        let code = match &error {
            ManifestError::Digest(_) => ErrorCode::DigestInvalid,
            ManifestError::Size { .. } => ErrorCode::SizeInvalid,
            _ => ErrorCode::ManifestInvalid,
        };
        Self::new(code, error.to_string()).with_source(error)
    }
}

impl From<VerifyError> for Error {
    fn from(error: VerifyError) -> Self {
        Self::new(ErrorCode::DigestInvalid, error.to_string()).with_source(error)
    }
}

impl From<UnsupportedAlgorithm> for Error {
    fn from(error: UnsupportedAlgorithm) -> Self {
        Self::new(ErrorCode::DigestInvalid, error.to_string()).with_source(error)
    }
}

impl From<DocumentError> for Error {
    fn from(error: DocumentError) -> Self {
        Self::new(ErrorCode::ManifestInvalid, error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // zot#359
    #[test]
    fn too_few_descriptors_pass_by_themselves() {
        let kind = |code| Error::io("x", std::io::Error::from_raw_os_error(code)).kind().clone();
        let (enoent, enfile, emfile) = (2, 23, 24);
        assert_eq!(kind(enoent), ErrorKind::Io);
        assert_eq!(kind(enfile), ErrorKind::Unavailable);
        assert_eq!(kind(emfile), ErrorKind::Unavailable);
    }
}
