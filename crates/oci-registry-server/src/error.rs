//! From an error to an answer: one table from kinds to statuses, and the spec's error body.

use std::borrow::Cow;

use axum::response::Response;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use oci_ref::{Error, ErrorKind};
use oci_spec_types::{ErrorBody, ErrorCode};

use crate::asked::Asked;
use crate::etag;
use crate::percent::BadEscape;
use crate::query::QueryError;
use crate::respond;

/// When to come back, in seconds, if nobody said.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// An answer that says what went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) code: ErrorCode,
    pub(crate) message: Cow<'static, str>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The cause, for the log alone.
    cause: Option<Cause>,
}

/// A cause of a failure that the client is not told.
#[derive(Debug)]
enum Cause {
    /// Something that must not happen.
    Internal(String),
    /// The disk is full.
    NoRoom(String),
    /// It cannot be done now.
    Unavailable(String),
}

impl Failure {
    /// A failure with the status that belongs to its code.
    pub(crate) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let status = status_of(&code);
        let mut headers = Vec::new();
        if code == ErrorCode::TooManyRequests {
            // spec: R73
            headers.push((RETRY_AFTER, RETRY_SECONDS));
        }
        Self { status, code, message: message.into(), headers, cause: None }
    }

    /// A request that is malformed in a way for which the spec has no code of its own.
    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST)
    }

    /// A condition of the request that does not hold.
    pub(crate) fn precondition(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Denied, message).with_status(StatusCode::PRECONDITION_FAILED)
    }

    /// Content over a limit.
    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("the content has more bytes than the limit of {limit}");
        // spec: R40
        Self::new(ErrorCode::SizeInvalid, message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// A body that came slower than we wait for.
    pub(crate) fn too_slow() -> Self {
        let message = "the body came too slowly, or stopped";
        Self::new(ErrorCode::SizeInvalid, message)
            .with_status(StatusCode::REQUEST_TIMEOUT)
            .with_header(CONNECTION, HeaderValue::from_static("close"))
    }

    /// Something that must not happen. What it was goes to the log (see [`log`](Self::log)), not to
    /// the client.
    pub(crate) fn internal(what: &(dyn std::fmt::Display + Sync)) -> Self {
        Self::new(ErrorCode::Unsupported, "internal error")
            .with_status(StatusCode::INTERNAL_SERVER_ERROR)
            .because(Cause::Internal(what.to_string()))
    }

    fn because(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// Logs what the client is not told, with the request that it answers.
    pub(crate) fn log(&self, request: &Asked) {
        match &self.cause {
            Some(Cause::Internal(error)) => {
                tracing::error!(%request, %error, "internal error");
            }
            Some(Cause::NoRoom(error)) => tracing::error!(%request, %error, "no room left"),
            Some(Cause::Unavailable(error)) => {
                tracing::warn!(%request, %error, "not available now");
            }
            None => {}
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response {
        // spec: R70, R71, R72
        let body = respond::json(&ErrorBody::new(self.code, self.message));
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, respond::JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

/// The status of a code. One that an engine made up is refused as our own mistake would be.
fn status_of(code: &ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The one table from kinds of errors to answers.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.message().to_owned();
        match error.kind() {
            ErrorKind::Code(ErrorCode::Other(_)) => Self::internal(&error.chain()),
            ErrorKind::Code(code) => Self::new(code.clone(), message),
            ErrorKind::RangeInvalid { .. } => Self::new(ErrorCode::SizeInvalid, message)
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE),
            ErrorKind::PreconditionFailed => Self::precondition(message),
            ErrorKind::TooLarge { limit } => Self::too_large(*limit),
            ErrorKind::Invalid => Self::bad_request(message),
            ErrorKind::StorageFull => {
                Self::new(ErrorCode::Unsupported, "the registry has no room left")
                    .with_status(StatusCode::INSUFFICIENT_STORAGE)
                    .because(Cause::NoRoom(error.chain()))
            }
            ErrorKind::Unavailable => {
                Self::new(ErrorCode::Unsupported, "the registry cannot do this now")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .with_header(RETRY_AFTER, RETRY_SECONDS)
                    .because(Cause::Unavailable(error.chain()))
            }
            _ => Self::internal(&error.chain()),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadEscape> for Failure {
    fn from(error: BadEscape) -> Self {
        Self::bad_request(format!("path: {error}"))
    }
}

impl From<etag::PushError> for Failure {
    fn from(error: etag::PushError) -> Self {
        Self::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status() {
        let cases = [
            (ErrorCode::BlobUnknown.into(), 404),
            (ErrorCode::BlobUploadInvalid.into(), 400),
            (ErrorCode::BlobUploadUnknown.into(), 404),
            (ErrorCode::DigestInvalid.into(), 400),
            (ErrorCode::ManifestBlobUnknown.into(), 404),
            (ErrorCode::ManifestInvalid.into(), 400),
            (ErrorCode::ManifestUnknown.into(), 404),
            (ErrorCode::NameInvalid.into(), 400),
            (ErrorCode::NameUnknown.into(), 404),
            (ErrorCode::SizeInvalid.into(), 400),
            (ErrorCode::Unauthorized.into(), 401),
            (ErrorCode::Denied.into(), 403),
            (ErrorCode::Unsupported.into(), 405),
            (ErrorCode::TooManyRequests.into(), 429),
            (ErrorCode::parse("MADE_UP").into(), 500),
            (ErrorKind::RangeInvalid { size: 1 }, 416),
            (ErrorKind::PreconditionFailed, 412),
            (ErrorKind::TooLarge { limit: 1 }, 413),
            (ErrorKind::StorageFull, 507),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Io, 500),
            (ErrorKind::Invalid, 400),
            (ErrorKind::Cancelled, 500),
            (ErrorKind::Internal, 500),
        ];
        for (kind, status) in cases {
            let failure = Failure::from(Error::new(kind.clone(), "secret /var/lib/x"));
            assert_eq!(failure.status.as_u16(), status, "{kind:?}");
            let waits = failure.headers.iter().any(|(name, _)| name == RETRY_AFTER);
            assert_eq!(waits, status == 429 || status == 503, "{kind:?}");
            if status >= 500 {
                assert!(!failure.message.contains("/var"), "{kind:?}: {}", failure.message);
            }
        }
    }
}
