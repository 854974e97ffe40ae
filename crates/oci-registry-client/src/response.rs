//! An answer: its headers, and its body within limits.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, AsHeaderName};
use http::{HeaderMap, Method, StatusCode};
use oci_ref::ErrorKind;
use oci_spec_types::{Digest, ErrorCode};
use reqwest::Url;
use tokio::time::Instant;

use crate::reach::{self, LookupError, Zone};
use crate::request::{About, Request};
use crate::secrets::Secrets;
use crate::{Error, Obstacle, Result, content_range, location, redact, retry, tls};

/// The most of an error's body that is read, so that its codes are understood. Less of it is shown.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// How slowly a whole answer may come, in bytes a second, beyond the time for which the other side may keep silent. A
/// blob is read by somebody who can see how it goes on, and is not held to this.
const MIN_RATE: u32 = 4 << 10;

/// An answer whose body has not been read.
pub(crate) struct Response {
    inner: reqwest::Response,
    trace: Trace,
    idle: Option<Duration>,
}

/// What errors of an answer say of the request.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) about: About,
    /// The proxy through which it went, without its password.
    pub(crate) proxy: Option<String>,
    /// The secrets that were sent and must not be shown.
    pub(crate) secrets: Secrets,
}

impl Trace {
    pub(crate) fn error(&self, kind: impl Into<ErrorKind>, reason: impl Into<String>) -> Error {
        let reason = self.secrets.blank(&reason.into()).into_owned();
        Error::new(kind, self.about.what.clone(), reason).with_request(&self.method, &self.url)
    }

    /// The same for what has a cause, which is told along unless it tells a secret.
    fn error_from(
        &self,
        kind: impl Into<ErrorKind>,
        reason: impl Into<String>,
        cause: impl StdError + Send + Sync + 'static,
    ) -> Error {
        let tells = matches!(self.secrets.blank(&cause.to_string()), Cow::Owned(_));
        let error = self.error(kind, reason);
        if tells { error } else { error.with_source(cause) }
    }

    /// The error for a connection that failed, or kept silent (`None`).
    pub(crate) fn connection(&self, error: Option<reqwest::Error>) -> Error {
        let Some(error) = error else {
            let reason = "the registry kept silent for too long";
            return self.error(ErrorKind::Unavailable, reason).retryable(true);
        };
        // The address stands in our own error, with its secrets hidden.
        let error = error.without_url();
        let fault = tls::find_fault(&error);
        let (obstacle, lookup) = match reach::find(&error) {
            Some(failed @ LookupError::Inside(host, ..)) => {
                (Some(Obstacle::Internal(host.clone())), Some(inside(failed)))
            }
            Some(failed) => (Some(Obstacle::Name), Some(chain(failed))),
            None => (None, None),
        };
        let refused = matches!(obstacle, Some(Obstacle::Internal(_)));
        let permanent = fault.is_some() || refused || error.is_builder();
        let kind = match permanent {
            _ if refused => ErrorKind::Internal,
            true => ErrorKind::Io,
            false => ErrorKind::Unavailable,
        };
        let mut reason = lookup.unwrap_or_else(|| chain(telling(&error)));
        if let Some(proxy) = &self.proxy {
            reason = format!("through the proxy {proxy}: {reason}");
        }
        let broken = !error.is_connect() && !error.is_timeout();
        let failed = self.error(kind, reason).retryable(!permanent).broken(broken);
        match (fault, obstacle) {
            (Some(fault), _) => failed.with_tls_fault(fault),
            (None, Some(obstacle)) => failed.with_obstacle(obstacle),
            (None, None) => failed,
        }
    }

    /// The error for an address that is not asked, since the registry must not lead there.
    pub(crate) fn leads_inside(&self, zone: Zone) -> Error {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let reason = inside(format_args!("{host} is a {} address", zone.name()));
        self.error(ErrorKind::Internal, reason).with_obstacle(Obstacle::Internal(host))
    }
}

fn inside(why: impl fmt::Display) -> String {
    format!("{why}, and the registry that leads there is not at one")
}

/// Returns the cause that tells what failed: those above say that it is about a request, and that
/// it is about a connection.
fn telling(error: &reqwest::Error) -> &(dyn StdError + 'static) {
    let above = if error.is_connect() { 2 } else { 1 };
    let mut told: &(dyn StdError + 'static) = error;
    for _ in 0..above {
        told = told.source().unwrap_or(told);
    }
    told
}

/// An error and its causes in one line, each once.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = cause.source();
    }
    text
}

impl Response {
    pub(crate) fn new(inner: reqwest::Response, trace: Trace, idle: Option<Duration>) -> Self {
        Self { inner, trace, idle }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// A header's value, if it is there once or more, and is text.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The address that answered, after redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.trace.url
    }

    /// An error about this answer that its status alone does not make.
    pub(crate) fn error(&self, kind: impl Into<ErrorKind>, reason: impl Into<String>) -> Error {
        self.trace.error(kind, reason).with_status(self.status())
    }

    /// The same for what has a cause, which is told along unless it tells a secret.
    pub(crate) fn error_from(
        &self,
        kind: impl Into<ErrorKind>,
        reason: impl Into<String>,
        cause: impl StdError + Send + Sync + 'static,
    ) -> Error {
        self.trace.error_from(kind, reason, cause).with_status(self.status())
    }

    /// The length of the body, or what it would be for a `GET`. Of an encoded one it says nothing.
    pub(crate) fn content_length(&self) -> Option<u64> {
        let length = self.header(header::CONTENT_LENGTH)?.parse().ok()?;
        self.encoding().is_none().then_some(length)
    }

    /// The encoding of the body, if it has one (RFC 9110, 8.4). None was asked for.
    fn encoding(&self) -> Option<&str> {
        let encoding = self.header(header::CONTENT_ENCODING)?.trim();
        (!encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")).then_some(encoding)
    }

    /// Fails if the body is encoded, which makes other bytes of it than those that are verified.
    fn check_encoding(&self) -> Result<()> {
        match self.encoding() {
            None => Ok(()),
            Some(encoding) => {
                let shown = redact::text(encoding);
                let reason = format!(
                    "the answer is encoded (Content-Encoding: {shown}), and was asked not to be"
                );
                Err(self.error(ErrorKind::Internal, reason))
            }
        }
    }

    /// The digest that the registry gives (`Docker-Content-Digest`). One that is not well formed is an error.
    pub(crate) fn digest(&self) -> Result<Option<Digest>> {
        let Some(value) = self.headers().get("Docker-Content-Digest") else {
            return Ok(None);
        };
        let parsed = value.to_str().ok().and_then(|value| value.parse().ok());
        parsed.map(Some).ok_or_else(|| {
            self.error(
                ErrorCode::DigestInvalid,
                format!("Docker-Content-Digest is {value:?}, which is no digest"),
            )
        })
    }

    /// Where the answer leads (`Location`).
    pub(crate) fn location(&self) -> Result<Url> {
        let value = self.header(header::LOCATION).ok_or_else(|| {
            self.error(ErrorKind::Internal, format!("the answer {} has no Location", self.status()))
        })?;
        location::resolve(value, self.url())
            .map_err(|reason| self.error(ErrorKind::Internal, reason))
    }

    /// This answer if its status is one that was expected; else the error that it makes.
    pub(crate) async fn accept(self, request: &Request<'_>) -> Result<Self> {
        if !request.expects(self.status()) {
            return Err(self.into_error().await);
        }
        if request.method == Method::GET {
            self.check_encoding()?;
        }
        Ok(self)
    }

    /// The error that this answer makes.
    pub(crate) async fn into_error(mut self) -> Error {
        let (status, trace) = (self.status(), self.trace.clone());
        let wait = retry::retry_after(self.headers(), jiff::Timestamp::now());
        let size = match status {
            StatusCode::RANGE_NOT_SATISFIABLE => self.range_size(),
            _ => None,
        };
        // What broke off is still worth showing; what was to be had, such as a token, is not.
        let body = match self.encoding() {
            None if !status.is_success() => self.beginning(MAX_ERROR_BODY).await,
            _ => Bytes::new(),
        };
        let About { what, missing } = &trace.about;
        let error = Error::answered(status, what.clone(), missing, &body, &trace.secrets)
            .with_request(&trace.method, &trace.url)
            .with_retry_after(wait);
        match size {
            Some(size) => error.with_kind(ErrorKind::RangeInvalid { size }),
            None => error,
        }
    }

    /// How many bytes there are, by a `416`: of a blob, or of an upload.
    fn range_size(&self) -> Option<u64> {
        let blob = self.header(header::CONTENT_RANGE).and_then(content_range::unsatisfied_size);
        blob.or_else(|| content_range::upload_offset(self.header(header::RANGE)?, 0))
    }

    /// As much of the body as there is, up to `limit` bytes and a little more. Why it broke off does not matter.
    async fn beginning(&mut self, limit: u64) -> Bytes {
        let mut all = BytesMut::new();
        let begun = Instant::now();
        while let Ok(Some(chunk)) = self.chunk_of(begun, all.len()).await {
            all.extend_from_slice(&chunk);
            if all.len() as u64 >= limit {
                break;
            }
        }
        all.freeze()
    }

    /// The whole body, if it has no more than `limit` bytes.
    pub(crate) async fn bytes(&mut self, limit: u64) -> Result<Bytes> {
        let too_large = self.error(
            ErrorKind::TooLarge { limit },
            format!("the answer has more than {limit} bytes"),
        );
        self.check_encoding()?;
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large);
        }
        let mut all = BytesMut::new();
        let begun = Instant::now();
        while let Some(chunk) = self.chunk_of(begun, all.len()).await? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The next piece of a body that began to come at a time, and of which so many bytes have come.
    async fn chunk_of(&mut self, begun: Instant, received: usize) -> Result<Option<Bytes>> {
        let Some(idle) = self.idle else { return self.chunk().await };
        let earned = Duration::from_secs_f64(received as f64 / f64::from(MIN_RATE));
        match tokio::time::timeout_at(begun + idle + earned, self.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) => {
                let reason = format!("the answer comes too slowly: {received} bytes until now");
                Err(self.error(ErrorKind::Unavailable, reason).retryable(true))
            }
        }
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let chunk = match self.idle {
            Some(idle) => tokio::time::timeout(idle, self.inner.chunk()).await.ok(),
            None => Some(self.inner.chunk().await),
        };
        match chunk {
            Some(Ok(chunk)) => Ok(chunk),
            Some(Err(error)) => Err(self.trace.connection(Some(error))),
            None => Err(self.trace.connection(None)),
        }
    }
}
