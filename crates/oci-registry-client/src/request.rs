//! One request, all the way: attempts, authentication, redirects, and what the answer's status means.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci_ref::ErrorKind;
use oci_spec_types::{ErrorCode, Name};
use reqwest::Url;

use crate::auth::{Purpose, Scopes};
use crate::payload::Payload;
use crate::reach::Lookup;
use crate::registry::Registry;
use crate::response::{Response, Trace};
use crate::{Client, Error, Result, redact};

/// The most hops that a request takes.
const MAX_REDIRECTS: usize = 10;

/// Says of a registry that it keeps signatures by an extension of the API (of OpenShift), which
/// this client does not speak.
const SUPPORTS_SIGNATURES: &str = "X-Registry-Supports-Signatures";

/// What a request is about, for errors.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Such as `manifest 1.0 of r.example/a`.
    pub(crate) what: String,
    /// What it means that it is not there.
    pub(crate) missing: ErrorCode,
}

impl About {
    pub(crate) fn new(what: impl Into<String>, missing: ErrorCode) -> Self {
        Self { what: what.into(), missing }
    }
}

/// A request to a registry.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) about: About,
    repository: Option<&'a Name>,
    scopes: Scopes,
    headers: HeaderMap,
    payload: Payload<'a>,
    /// Whether the payload is a secret, which goes to the origin that it is for and to no other.
    secret: bool,
    expected: &'static [u16],
}

impl<'a> Request<'a> {
    /// A request that expects `200`, and has no content.
    pub(crate) fn new(method: Method, url: Url, about: About) -> Self {
        Self {
            method,
            url,
            about,
            repository: None,
            scopes: Scopes::default(),
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            secret: false,
            expected: &[200],
        }
    }

    pub(crate) fn repository(mut self, name: &'a Name) -> Self {
        self.repository = Some(name);
        self
    }

    /// What the request needs to be allowed.
    pub(crate) fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// What is to be sent, which no other origin may see than that of the address.
    pub(crate) fn secret(mut self, payload: Payload<'a>) -> Self {
        self.secret = true;
        self.payload(payload)
    }

    /// The statuses that are no errors.
    pub(crate) fn expect(mut self, statuses: &'static [u16]) -> Self {
        self.expected = statuses;
        self
    }

    pub(crate) fn expects(&self, status: StatusCode) -> bool {
        self.expected.contains(&status.as_u16())
    }

    fn has_content(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }

    fn trace(&self, url: &Url, client: &Client) -> Trace {
        let (method, about) = (self.method.clone(), self.about.clone());
        let secrets = client.secrets().clone();
        Trace { method, url: url.clone(), about, proxy: None, secrets }
    }
}

impl Registry {
    /// Sends a request until it is answered as expected, or there is no hope for that.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Response> {
        let mut attempts = self.attempts();
        loop {
            attempts.ready(self.state()).await;
            match self.exchange(request).await {
                Ok(response) => return Ok(response),
                Err(error) => attempts.failed(self.state(), error).await?,
            }
        }
    }

    /// Sends a request, and reads the whole answer, if it has no more than `limit` bytes. A body that breaks off is a
    /// failed attempt like any other.
    pub(crate) async fn read(
        &self,
        request: &Request<'_>,
        limit: u64,
    ) -> Result<(Response, Bytes)> {
        let mut attempts = self.attempts();
        loop {
            attempts.ready(self.state()).await;
            let read = async {
                let mut response = self.exchange(request).await?;
                let body = response.bytes(limit).await?;
                Ok((response, body))
            };
            match read.await {
                Ok(read) => return Ok(read),
                Err(error) => attempts.failed(self.state(), error).await?,
            }
        }
    }

    /// One attempt: the request, and once more if the registry wants to know first who asks.
    pub(crate) async fn exchange(&self, request: &Request<'_>) -> Result<Response> {
        let purpose = Purpose { repository: request.repository, scopes: &request.scopes };
        let authorization = self.authorization(purpose).await?;
        let response =
            self.follow(request, authorization.as_ref().map(|value| (value, self.base()))).await?;
        // A host that the registry has sent us to is not told who we are.
        if response.status() != StatusCode::UNAUTHORIZED
            || !is_same_origin(response.url(), self.base())
        {
            return response.accept(request).await;
        }
        let answer = self
            .answer(response.headers(), response.url(), purpose, authorization.as_ref())
            .await?;
        let Some(authorization) = answer else {
            return Err(response.into_error().await);
        };
        // What the refusal says is of no use any more; reading it keeps the connection.
        drop(response.into_error().await);
        let response = self.follow(request, Some((&authorization, self.base()))).await?;
        response.accept(request).await
    }

    /// Sends a request, and follows where the answers lead. The authorization goes to the origin for which it is, and
    /// nowhere else. From https it never leads to plain HTTP.
    pub(crate) async fn follow(
        &self,
        request: &Request<'_>,
        authorization: Option<(&HeaderValue, &Url)>,
    ) -> Result<Response> {
        let mut url = self.by_https(&request.url).unwrap_or_else(|| request.url.clone());
        for _ in 0..=MAX_REDIRECTS {
            let mut answer = self.hop(request, &url, authorization).await;
            if let Some(https) = self.https_instead(&url, &answer).await? {
                url = https;
                answer = self.hop(request, &url, authorization).await;
            }
            let response = answer?;
            self.client().tell_warnings(self.host(), response.headers());
            if response.header(SUPPORTS_SIGNATURES) == Some("1")
                && is_same_origin(&url, self.base())
            {
                self.state().keeps_signatures.store(true, Ordering::Relaxed);
            }
            match redirect(request, &response)? {
                Some(next) if request.secret && !is_same_origin(&next, &request.url) => {
                    let leads = redact::url(&next);
                    let reason = format!("a secret is not sent on to another host: {leads}");
                    return Err(response.error(ErrorCode::Unauthorized, reason));
                }
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(request
            .trace(&url, self.client())
            .error(ErrorKind::Internal, format!("redirected more than {MAX_REDIRECTS} times")))
    }

    /// Asks the registry anything, to see where it answers: an upload of an earlier process may
    /// lead elsewhere before the registry itself was asked. By a proxy that cannot be seen.
    fn locate(&self) -> BoxFuture<'_, ()> {
        let base = self.base().clone();
        async move {
            if self.client().transport().proxies().find(&base).is_none() {
                let about = About::new(format!("registry {}", self.host()), ErrorCode::Unsupported);
                let request = Request::new(Method::GET, base.clone(), about);
                // What it answers does not matter, nor whether it does.
                let _ = self.hop(&request, &base, None).await;
            }
        }
        .boxed()
    }

    async fn hop(
        &self,
        request: &Request<'_>,
        url: &Url,
        authorization: Option<(&HeaderValue, &Url)>,
    ) -> Result<Response> {
        let client = self.client();
        let mut trace = request.trace(url, client);
        let own = is_same_origin(url, self.base()) || is_same_origin(url, self.asked_first());
        let mut lookup = Lookup::All;
        if !own {
            if !self.state().seen.is_known(self.base()) {
                self.locate().await;
            }
            let zone = self.state().seen.zone(self.base());
            let checked = client.config().allowed.check(zone, url);
            lookup = checked.map_err(|found| trace.leads_inside(found))?;
        }
        trace.proxy = client.transport().proxies().find(url).map(redact::url);
        if trace.proxy.is_some() {
            // The name that is looked up is the proxy's.
            lookup = Lookup::All;
        }
        let http = client.transport().http(&self.state().http, self.host(), own)?;
        if url.scheme() == "https"
            && let Some(platform) = &http.platform
            && let Some(reason) = platform.unusable().await
        {
            return Err(trace.error(ErrorKind::Io, format!("https is not possible: {reason}")));
        }
        let mut raw = reqwest::Request::new(request.method.clone(), url.clone());
        *raw.headers_mut() = request.headers.clone();
        // Without it, any coding would do (RFC 9110, 12.5.3), and digests are of what is not coded.
        raw.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some((value, _)) = authorization.filter(|(_, origin)| is_same_origin(url, origin)) {
            raw.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        // Opened before a place is taken: the content may come from a request to the same registry.
        let outgoing = request.payload.open(&request.about).await?;
        let progress = outgoing.progress;
        if request.has_content() {
            raw.headers_mut().insert(header::CONTENT_LENGTH, outgoing.length.into());
            *raw.body_mut() = Some(outgoing.body);
        }
        let places = if request.has_content() { &self.state().writes } else { &self.state().reads };
        let _place = places.acquire().await.expect("the semaphore is never closed");
        self.state().turn(client.config().interval).await;
        let idle = client.config().idle_timeout;
        let answer = progress.wait(http.client(lookup).execute(raw), idle).await;
        match answer {
            Some(Ok(inner)) => {
                if let Some(address) = inner.remote_addr().filter(|_| own && trace.proxy.is_none())
                {
                    self.state().seen.learn(address);
                }
                Ok(Response::new(inner, trace, idle))
            }
            failed => Err(match progress.content_error(&request.about) {
                Some(error) => error,
                None => trace.connection(failed.and_then(Result::err)),
            }),
        }
    }
}

/// Where an answer leads, if it does. The method stays what it was, so that `303` is followed for reads only.
fn redirect(request: &Request<'_>, response: &Response) -> Result<Option<Url>> {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match response.status().as_u16() {
        301 | 302 | 307 | 308 => {}
        303 if reads => {}
        _ => return Ok(None),
    }
    if request.expects(response.status()) {
        return Ok(None);
    }
    response.location().map(Some)
}

pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// A header's value from text that can stand in one by its form: numbers, digests, media types, ranges.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digests, types and ranges are visible ASCII")
}

impl Error {
    /// Tells whether this may be about `HEAD` alone: registries, and what stands before them,
    /// refuse it where they answer `GET`. One that means the content says so again.
    pub(crate) fn refuses_head(&self) -> bool {
        matches!(self.status(), Some(400 | 403 | 405 | 501))
    }

    /// Whether there was an answer with this status.
    pub(crate) fn has_status(&self, status: u16) -> bool {
        self.status() == Some(status)
    }
}
