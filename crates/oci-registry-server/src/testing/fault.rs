//! What can go wrong on demand.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use oci_spec_types::{ErrorBody, ErrorCode};

use super::body::BodyPlan;
use super::line::End;
use crate::respond;

/// Something that goes wrong with a request to a [`TestRegistry`](crate::TestRegistry), when a
/// [`FaultRule`](crate::FaultRule) says so.
///
/// | what the client meets | |
/// |---|---|
/// | another answer, and the request is not carried out | [`FaultAnswer`], [`redirect_to`](Self::redirect_to) |
/// | a connection that breaks | [`reset`](Self::reset), [`close`](Self::close) |
/// | a slow registry | [`latency`](Self::latency), [`slow`](Self::slow) |
/// | a body of another length | [`wrong_length`](Self::wrong_length), [`extra_bytes`](Self::extra_bytes) |
/// | other content | [`corrupt`](Self::corrupt), [`wrong_digest`](Self::wrong_digest), [`null_lists`](Self::null_lists) |
/// | a registry that can do less, or does other than asked | [`status`](Self::status), [`whole_for_range`](Self::whole_for_range), [`wrong_content_range`](Self::wrong_content_range), [`no_mount`](Self::no_mount), [`without_header`](Self::without_header) |
/// | an odd `Location` | [`location_relative`](Self::location_relative), [`location_on`](Self::location_on), [`location_query`](Self::location_query) |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Answer(FaultAnswer),
    RedirectTo(String),
    Break(BreakAt, End),
    Latency(Duration),
    Slow { bytes: usize, interval: Duration },
    Length(i64),
    Extra(u64),
    Corrupt(u64),
    Header(HeaderName, HeaderValue),
    Status(StatusCode),
    NoHeader(HeaderName),
    WrongDigest,
    WrongContentRange,
    WholeForRange,
    NoMount,
    NullLists,
    Location(Form),
}

/// How a `Location` is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Relative,
    On(String),
    Query(String),
}

/// Where a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakAt {
    /// Before the request is carried out.
    Request,
    /// When it has been carried out, and nothing of the answer has been sent.
    Answer,
    /// After the head of the answer and so many bytes of its body; after all of it if it has fewer.
    Body(u64),
    /// After the whole answer, although it promised to stay open.
    End,
}

impl Fault {
    /// The connection is reset (TCP RST): the client's next read or write fails. It may overtake bytes that the client
    /// has not received yet; on the loopback interface it does not. Where the system cannot do it, the
    /// connection is closed instead.
    pub fn reset(at: BreakAt) -> Self {
        Self(Kind::Break(at, End::Reset))
    }

    /// The connection is closed in order (TCP FIN): the client reads an end of file. In the body this is a body that is
    /// shorter than its `Content-Length`.
    pub fn close(at: BreakAt) -> Self {
        Self(Kind::Break(at, End::Close))
    }

    /// The request is not carried out before so much time has passed. Runs on tokio's clock.
    pub fn latency(time: Duration) -> Self {
        Self(Kind::Latency(time))
    }

    /// The body comes in pieces of so many bytes (at least 1), with so much time between two. Runs on tokio's clock.
    pub fn slow(bytes: usize, interval: Duration) -> Self {
        Self(Kind::Slow { bytes, interval })
    }

    /// A `Content-Length` that is so many bytes too large, and the connection is closed where they are missing; or too
    /// small, and the rest of the body is not sent.
    pub fn wrong_length(difference: i64) -> Self {
        Self(Kind::Length(difference))
    }

    /// So many bytes, all zero, follow the body as a part of it.
    pub fn extra_bytes(count: u64) -> Self {
        Self(Kind::Extra(count))
    }

    /// The byte of the answer's body at this position, from 0, has all its bits flipped; nothing happens to a body that
    /// ends before.
    pub fn corrupt(position: u64) -> Self {
        Self(Kind::Corrupt(position))
    }

    /// The answer has this header, in place of its own.
    pub fn header(name: HeaderName, value: HeaderValue) -> Self {
        Self(Kind::Header(name, value))
    }

    /// The request is carried out, and answered with this status in place of another that says so.
    pub fn status(status: StatusCode) -> Self {
        Self(Kind::Status(status))
    }

    /// The answer lacks a header, such as `location`, `oci-subject`, `oci-filters-applied` or
    /// `docker-content-digest`. `content-length` cannot be left out.
    pub fn without_header(name: HeaderName) -> Self {
        Self(Kind::NoHeader(name))
    }

    /// `Docker-Content-Digest` is the digest of something else.
    pub fn wrong_digest() -> Self {
        Self(Kind::WrongDigest)
    }

    /// `Content-Range`, where there is one, says that the part begins and ends one byte later than it does.
    pub fn wrong_content_range() -> Self {
        Self(Kind::WrongContentRange)
    }

    /// `Range` is ignored: the answer is 200 and all of the blob.
    pub fn whole_for_range() -> Self {
        Self(Kind::WholeForRange)
    }

    /// A mount is answered by 202 and the location of an upload.
    pub fn no_mount() -> Self {
        Self(Kind::NoMount)
    }

    /// The lists in a JSON answer are `null`, as in `"tags": null`.
    pub fn null_lists() -> Self {
        Self(Kind::NullLists)
    }

    /// `Location` is relative to the request's path, without a slash at its beginning.
    pub fn location_relative() -> Self {
        Self(Kind::Location(Form::Relative))
    }

    /// `Location` is a URL: its path behind this base, such as `http://127.0.0.1:5000` for another registry, or the
    /// registry's own host without its port.
    pub fn location_on(base: impl Into<String>) -> Self {
        Self(Kind::Location(Form::On(base.into())))
    }

    /// `Location` has these query parameters, such as `_state=a%2Fb`, which the client must keep.
    pub fn location_query(query: impl Into<String>) -> Self {
        Self(Kind::Location(Form::Query(query.into())))
    }

    /// 307 to the same path and query behind this base, such as the [`url`](crate::TestRegistry::url) of another
    /// registry. To any other URL: [`FaultAnswer::redirect`].
    pub fn redirect_to(base: impl Into<String>) -> Self {
        Self(Kind::RedirectTo(base.into()))
    }

    /// The answer that comes in place of the registry's.
    pub(super) fn answer(&self, path_and_query: &str) -> Option<FaultAnswer> {
        match &self.0 {
            Kind::Answer(answer) => Some(answer.clone()),
            Kind::RedirectTo(base) => {
                let url = format!("{}{path_and_query}", base.trim_end_matches('/'));
                Some(FaultAnswer::redirect(StatusCode::TEMPORARY_REDIRECT, &url))
            }
            _ => None,
        }
    }

    /// Adds what happens to the body.
    pub(super) fn plan(&self, plan: &mut BodyPlan) {
        match self.0 {
            Kind::Break(BreakAt::Body(after), end) => plan.end = Some((after, end)),
            Kind::Break(BreakAt::End, end) => plan.end = Some((u64::MAX, end)),
            Kind::Slow { bytes, interval } => plan.pace = Some((bytes, interval)),
            Kind::Length(difference) => plan.length = difference,
            Kind::Extra(count) => plan.padding = count,
            Kind::Corrupt(position) => plan.corrupt = Some(position),
            _ => {}
        }
    }
}

/// An answer that comes in place of the registry's. The request is not carried out.
///
/// ```
/// use std::time::Duration;
/// use http::StatusCode;
/// use oci_registry_server::{FaultAnswer, FaultRule};
/// use oci_spec_types::ErrorCode;
///
/// let busy = FaultAnswer::new(StatusCode::TOO_MANY_REQUESTS)
///     .error(ErrorCode::TooManyRequests)
///     .retry_after(Duration::from_secs(2));
/// let rule = FaultRule::new(busy).first(3);
/// # let _ = rule;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl FaultAnswer {
    /// A status, without a body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A redirect to any URL or path. One that no header can hold is percent-encoded.
    pub fn redirect(status: StatusCode, location: &str) -> Self {
        Self::new(status).header(LOCATION, respond::value(location))
    }

    /// With the spec's error body.
    #[must_use]
    pub fn error(self, code: ErrorCode) -> Self {
        let body = respond::json(&ErrorBody::new(code, "a fault that was asked for"));
        self.body(respond::JSON, body)
    }

    /// With any body, such as the HTML of a proxy.
    #[must_use]
    pub fn body(self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        let mut answer = self.header(CONTENT_TYPE, content_type);
        answer.body = body.into();
        answer
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With `Retry-After` in whole seconds.
    #[must_use]
    pub fn retry_after(self, time: Duration) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(time.as_secs()))
    }

    /// With `Retry-After` as a date, of whole seconds. One before 1970 or after 9999 is the nearest between.
    #[must_use]
    pub fn retry_after_date(self, date: SystemTime) -> Self {
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let date = httpdate::fmt_http_date(date.clamp(SystemTime::UNIX_EPOCH, last));
        self.header(RETRY_AFTER, respond::value(&date))
    }

    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl From<FaultAnswer> for Fault {
    fn from(answer: FaultAnswer) -> Self {
        Self(Kind::Answer(answer))
    }
}
