//! The error of everything that this crate asks of a registry.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};
use oci_ref::ErrorKind;
use oci_spec_types::{ErrorBody, ErrorCode, ErrorEntry};
use reqwest::Url;

use crate::secrets::Secrets;
use crate::{ReferrersChange, ReferrersFailure, TlsFault, redact};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a registry refused, or answered wrongly, or why it could not be asked.
///
/// It names the request, with the query's values hidden (but for `scope` and `service`), and at most the first 2 KiB
/// of what the registry said. No credential appears in it. Where it crosses [`Source`](oci_ref::Source) and
/// [`Store`](oci_ref::Store) it is the cause of an [`oci_ref::Error`]:
///
/// ```
/// fn status(error: &oci_ref::Error) -> Option<u16> {
///     error.find_source::<oci_registry_client::Error>()?.status()
/// }
/// ```
pub struct Error(Box<Inner>);

/// A reason, other than what a registry answered, for which it was not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The name of a host could not be looked up.
    Name,
    /// The credentials for the registry could not be found out.
    Credentials,
    /// The registry leads to this host, at a private, link-local or loopback address, where it is
    /// not itself. [`ClientBuilder::allow_internal`](crate::ClientBuilder::allow_internal) names
    /// hosts for which that is allowed.
    Internal(String),
}

struct Inner {
    kind: ErrorKind,
    /// What was being done, such as `manifest 1.0 of r.example/a`.
    about: String,
    /// What came of it, shortly.
    reason: String,
    /// Further notes on how it came about.
    more: String,
    request: Option<(Method, String)>,
    status: Option<StatusCode>,
    errors: Vec<ErrorEntry>,
    body: Option<String>,
    retry_after: Option<Duration>,
    retryable: bool,
    /// True if a connection was made and broke before an answer.
    broken: bool,
    referrers: Option<ReferrersFailure>,
    tls_fault: Option<TlsFault>,
    obstacle: Option<Obstacle>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that no answer's status made: permanent until [`retryable`](Self::retryable) says otherwise.
    pub(crate) fn new(
        kind: impl Into<ErrorKind>,
        about: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind: kind.into(),
            about: about.into(),
            reason: reason.into(),
            more: String::new(),
            request: None,
            status: None,
            errors: Vec::new(),
            body: None,
            retry_after: None,
            retryable: false,
            broken: false,
            referrers: None,
            tls_fault: None,
            obstacle: None,
            source: None,
        }))
    }

    /// The error that an answer's status and body make. `missing` is what a `404` without a code
    /// means. What the body says of secrets is blanked.
    pub(crate) fn answered(
        status: StatusCode,
        about: impl Into<String>,
        missing: &ErrorCode,
        body: &[u8],
        secrets: &Secrets,
    ) -> Self {
        let mut errors =
            serde_json::from_slice::<ErrorBody>(body).map(|body| body.errors).unwrap_or_default();
        for entry in &mut errors {
            if let ErrorCode::Other(code) = &mut entry.code {
                *code = secrets.blank(code).as_ref().into();
            }
            entry.message = secrets.blank(&entry.message).into_owned();
            entry.detail.iter_mut().for_each(|detail| secrets.blank_json(detail));
        }
        let code = errors.first().map(|entry| &entry.code);
        let kind = kind_of(status, code, missing);
        let mut error = Self::new(kind, about, describe(status));
        error.0.retryable = is_temporary(status) && !code.is_some_and(blames_the_request);
        if errors.is_empty() {
            let shown = redact::text(&secrets.blank(&String::from_utf8_lossy(body)));
            error.0.body = (!shown.is_empty()).then_some(shown);
        }
        error.0.status = Some(status);
        error.0.errors = errors;
        error
    }

    pub(crate) fn with_request(mut self, method: &Method, url: &Url) -> Self {
        self.0.request = Some((method.clone(), redact::url(url)));
        self
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_kind(mut self, kind: impl Into<ErrorKind>) -> Self {
        self.0.kind = kind.into();
        self
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// The same error, as why a list of referrers was not changed. What a registry refuses there is
    /// no refusal of the manifest that refers, hence the kind.
    pub(crate) fn unlisted(mut self, failure: ReferrersFailure) -> Self {
        if !(self.is_retryable() || self.is_unauthorized() || self.is_denied()) {
            self.0.kind = ErrorKind::Unlisted;
        }
        let ReferrersFailure { change, subject, referrer, .. } = &failure;
        let outcome = match change {
            ReferrersChange::Add => "was written, but is not listed",
            ReferrersChange::Remove => "was not deleted: it is still listed",
        };
        let outcome = format!("{referrer} {outcome} as a referrer of {subject}");
        self.0.referrers = Some(failure);
        self.and(&outcome)
    }

    pub(crate) fn with_obstacle(mut self, obstacle: Obstacle) -> Self {
        self.0.obstacle = Some(obstacle);
        self
    }

    pub(crate) fn with_tls_fault(mut self, fault: TlsFault) -> Self {
        self.0.tls_fault = Some(fault);
        self
    }

    /// Tells that a connection was made and broke before an answer.
    pub(crate) fn is_broken_connection(&self) -> bool {
        self.0.broken
    }

    pub(crate) fn broken(mut self, broken: bool) -> Self {
        self.0.broken = broken;
        self
    }

    /// The same error, with what else there is to say of how it came about.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.0.more.push_str("; ");
        self.0.more.push_str(more);
        self
    }

    /// What kind of error it is, in the terms of [`oci_ref`].
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The status of the registry's answer; `None` if there was no answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status.map(|status| status.as_u16())
    }

    /// The spec's error code: the first that the registry gave, else the one that fits the status.
    pub fn code(&self) -> Option<&ErrorCode> {
        let given = self.0.errors.first().map(|entry| &entry.code);
        given.or(match &self.0.kind {
            ErrorKind::Code(code) => Some(code),
            _ => None,
        })
    }

    /// The errors in the registry's answer, if it was in the spec's form.
    pub fn errors(&self) -> &[ErrorEntry] {
        &self.0.errors
    }

    /// The first 2 KiB of the registry's answer, if it was not in the spec's form.
    pub fn body(&self) -> Option<&str> {
        self.0.body.as_deref()
    }

    /// How long the registry asked to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The way in which TLS failed, or was missing, if that is why the registry could not be asked.
    pub fn tls_fault(&self) -> Option<TlsFault> {
        self.0.tls_fault
    }

    /// The reason for which the registry was not asked, if it is one of these.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.0.obstacle.as_ref()
    }

    /// A manifest, blob, tag, repository or upload that is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Code(
                ErrorCode::BlobUnknown
                    | ErrorCode::ManifestUnknown
                    | ErrorCode::NameUnknown
                    | ErrorCode::BlobUploadUnknown
            )
        )
    }

    /// The registry wants to know who asks, or does not accept the credentials.
    pub fn is_unauthorized(&self) -> bool {
        self.0.kind == ErrorKind::Code(ErrorCode::Unauthorized)
    }

    /// The caller may not do this.
    pub fn is_denied(&self) -> bool {
        self.0.kind == ErrorKind::Code(ErrorCode::Denied)
    }

    /// The change of a list of referrers that was not made, where that is what failed: after a
    /// manifest was stored, or before it would have been deleted. `None` where the manifest itself
    /// was refused.
    pub fn referrers_failure(&self) -> Option<&ReferrersFailure> {
        self.0.referrers.as_ref()
    }

    /// Whether the same request may succeed later: the connection failed before an answer, or the status is 408, 425,
    /// 429, 499 or a 5xx other than 501, 505 and 511.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

/// Whether an answer with this status is worth another attempt.
fn is_temporary(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 | 499 => true,
        501 | 505 | 511 => false,
        code => code >= 500,
    }
}

/// Tells whether a code says that the request is at fault: whatever the status, the same one will
/// not be taken later. Distribution answers 500 to manifests whose blobs it lacks.
fn blames_the_request(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ManifestBlobUnknown
            | ErrorCode::ManifestInvalid
            | ErrorCode::NameInvalid
            | ErrorCode::DigestInvalid
            | ErrorCode::SizeInvalid
            | ErrorCode::Unsupported
    )
}

fn kind_of(status: StatusCode, code: Option<&ErrorCode>, missing: &ErrorCode) -> ErrorKind {
    let known = code.filter(|code| !matches!(code, ErrorCode::Other(_)));
    match (status.as_u16(), known) {
        (401, _) => ErrorCode::Unauthorized.into(),
        (403, _) => ErrorCode::Denied.into(),
        (412, _) => ErrorKind::PreconditionFailed,
        (429, _) => ErrorCode::TooManyRequests.into(),
        (507, _) => ErrorKind::StorageFull,
        (501, _) => ErrorCode::Unsupported.into(),
        (505 | 511, _) => ErrorKind::Internal,
        (500, Some(code)) if blames_the_request(code) => code.clone().into(),
        (408 | 425 | 499 | 500.., _) => ErrorKind::Unavailable,
        (400..=499, Some(code)) => code.clone().into(),
        (404, None) => missing.clone().into(),
        (405, None) => ErrorCode::Unsupported.into(),
        (413, None) => ErrorCode::SizeInvalid.into(),
        (400..=499, None) => ErrorKind::Invalid,
        // A status that was not asked for, such as 200 where 201 belongs.
        _ => ErrorKind::Internal,
    }
}

fn describe(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        match &inner.request {
            Some((method, url)) => write!(f, "{method} {url}: {}", inner.reason)?,
            None => write!(f, "{}: {}", inner.about, inner.reason)?,
        }
        let said = inner.errors.iter().flat_map(|entry| [entry.code.as_str(), &entry.message]);
        let said: Vec<_> = said.filter(|text| !text.is_empty()).collect();
        match &inner.body {
            Some(body) => write!(f, ": {body}")?,
            None if said.is_empty() => {}
            None => write!(f, ": {}", redact::text(&said.join(": ")))?,
        }
        f.write_str(&inner.more)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("about", &self.0.about)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for oci_ref::Error {
    /// The error of the same kind and with the same message, with this one as its cause.
    fn from(error: Error) -> Self {
        Self::new(error.0.kind.clone(), error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        let (missing, secrets) = (ErrorCode::BlobUnknown, Secrets::default());
        Error::answered(status, "blob x of r.example/a", &missing, body.as_bytes(), &secrets)
    }

    // covers: M10
    #[test]
    fn temporary_statuses() {
        for status in 400..600 {
            let temporary = match status {
                408 | 425 | 429 | 499 => true,
                501 | 505 | 511 => false,
                500..=599 => true,
                _ => false,
            };
            assert_eq!(answered(status, "").is_retryable(), temporary, "{status}");
        }
    }

    // covers: M14
    #[test]
    fn kinds_and_codes() {
        let coded = |code: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"m","detail":{{"a":1}}}}]}}"#)
        };
        let cases = [
            (404, "", ErrorKind::Code(ErrorCode::BlobUnknown)),
            (404, &coded("NAME_UNKNOWN"), ErrorKind::Code(ErrorCode::NameUnknown)),
            (404, &coded("UNKNOWN"), ErrorKind::Code(ErrorCode::BlobUnknown)),
            (401, &coded("DENIED"), ErrorKind::Code(ErrorCode::Unauthorized)),
            (403, "", ErrorKind::Code(ErrorCode::Denied)),
            (400, &coded("DIGEST_INVALID"), ErrorKind::Code(ErrorCode::DigestInvalid)),
            (400, "", ErrorKind::Invalid),
            (405, "", ErrorKind::Code(ErrorCode::Unsupported)),
            (412, "", ErrorKind::PreconditionFailed),
            (413, "", ErrorKind::Code(ErrorCode::SizeInvalid)),
            (429, "", ErrorKind::Code(ErrorCode::TooManyRequests)),
            (500, "", ErrorKind::Unavailable),
            (500, &coded("UNKNOWN"), ErrorKind::Unavailable),
            (503, &coded("MANIFEST_INVALID"), ErrorKind::Unavailable),
            (500, &coded("MANIFEST_BLOB_UNKNOWN"), ErrorKind::Code(ErrorCode::ManifestBlobUnknown)),
            (501, "", ErrorKind::Code(ErrorCode::Unsupported)),
            (507, "", ErrorKind::StorageFull),
            (200, "", ErrorKind::Internal),
        ];
        for (status, body, kind) in cases {
            let error = answered(status, body);
            assert_eq!(*error.kind(), kind, "{status} {body}");
            assert_eq!(error.status(), Some(status));
        }
        assert!(answered(500, &coded("UNKNOWN")).is_retryable());
        assert!(!answered(500, &coded("MANIFEST_BLOB_UNKNOWN")).is_retryable());
        let error = answered(404, &coded("UNKNOWN"));
        assert_eq!(error.code(), Some(&ErrorCode::Other("UNKNOWN".into())));
        assert!(error.is_not_found());
        assert_eq!(error.errors()[0].message, "m");
        assert_eq!(error.body(), None);
        assert_eq!(error.to_string(), "blob x of r.example/a: 404 Not Found: UNKNOWN: m");
    }

    #[test]
    fn a_body_in_another_form_is_shown_at_its_beginning() {
        let error = answered(502, &"<html>\n".repeat(2000));
        assert!(error.body().unwrap().starts_with("<html> <html>"));
        assert!(error.to_string().len() < 2200);
        // In the spec's form it is no longer.
        let entry = format!(r#"{{"code":"A","message":"{}"}}"#, "m".repeat(1000));
        let error = answered(400, &format!(r#"{{"errors":[{}]}}"#, [entry.as_str(); 40].join(",")));
        assert_eq!(error.errors().len(), 40);
        assert!(error.to_string().len() < 2200 && error.to_string().contains(": A: mmm"));
    }

    // What a token service answered that said what it was sent.
    #[test]
    fn what_was_sent_is_not_shown() {
        let secrets = Secrets::default();
        secrets.learn(&crate::Credentials::basic("bob", "SECRETPW"));
        let sent = "you sent Basic Ym9iOlNFQ1JFVFBX, SECRETPW";
        let entry = serde_json::json!({"code": sent, "message": sent, "detail": [{"a": sent}]});
        for body in [sent.to_owned(), serde_json::json!({"errors": [entry]}).to_string()] {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            let missing = ErrorCode::NameUnknown;
            let error = Error::answered(status, "x", &missing, body.as_bytes(), &secrets);
            let all = format!("{error} {error:?} {:?} {:?}", error.errors(), error.body());
            assert!(all.contains("you sent Basic REDACTED, REDACTED"), "{all}");
            assert!(!all.contains("SECRETPW") && !all.contains("Ym9iOlNFQ1JFVFBX"), "{all}");
        }
    }

    #[test]
    fn it_is_the_cause_of_the_general_error() {
        let error = oci_ref::Error::from(answered(404, ""));
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "blob x of r.example/a: 404 Not Found");
        assert_eq!(error.find_source::<Error>().unwrap().status(), Some(404));
    }
}
