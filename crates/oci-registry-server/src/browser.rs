//! Protection from browsers: pages of other sites send requests to it, by its own name or by
//! one that leads to it, and content that somebody has pushed would run as if it were the
//! registry's own page.

use std::net::IpAddr;

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci_spec_types::ErrorCode;

use crate::error::Failure;
use crate::{PeerAddr, ServerOptions, respond};

/// The most characters of a host or an origin that an error repeats.
const SHOWN: usize = 100;

/// The headers that a page may set in a request.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Cache-Control, Content-Range, Content-Type, If-Match, If-None-Match, \
     If-Range, Range",
);

/// The headers that a page may see of an answer, besides what all may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept-Ranges, Content-Length, Content-Range, Docker-Content-Digest, \
     Docker-Distribution-Api-Version, Docker-Upload-Uuid, Etag, Link, Location, \
     Oci-Chunk-Min-Length, Oci-Filters-Applied, Oci-Subject, Oci-Tag, Range, Retry-After, Warning, \
     Www-Authenticate",
);

/// The seconds for which a browser may count on what it was told.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// A place whose pages may use the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CorsOrigin {
    Any,
    /// As browsers write it: `https://ui.example`.
    One(HeaderValue),
}

impl CorsOrigin {
    /// Reads `*`, or a scheme and an authority.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, authority) = text.split_once("://")?;
        let known = matches!(scheme, "http" | "https");
        let parsed: http::uri::Authority = authority.parse().ok()?;
        if !known || parsed.host().is_empty() || authority.contains('@') {
            return None;
        }
        HeaderValue::from_str(&text.to_ascii_lowercase()).ok().map(Self::One)
    }
}

/// Refuses what a page of another site has a browser ask for.
///
/// - On loopback, a host that is not this machine's: its owner can let the name lead here, so that
///   a page of theirs counts as the registry's own, and may read all there is.
/// - Anywhere, a write from a page of another origin, of which a browser asks nobody first.
pub(crate) fn check(parts: &Parts, options: &ServerOptions) -> Result<(), Failure> {
    let local = parts.extensions.get::<PeerAddr>().map(|peer| peer.0.ip().to_canonical());
    if local.is_some_and(|peer| peer.is_loopback()) {
        let header = parts.headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
        let target = parts.uri.authority().map(|authority| authority.as_str());
        let foreign = |host: &&str| !is_own_host(host, options);
        if let Some(host) = header.into_iter().chain(target).find(foreign) {
            let message = format!(
                "host {:?} is not known on loopback; --external-url or --allow-host name it",
                shown(host)
            );
            let failure = Failure::new(ErrorCode::Denied, message);
            return Err(failure.with_status(StatusCode::MISDIRECTED_REQUEST));
        }
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let Some(origin) = parts.headers.get(ORIGIN).filter(|_| !reads) else { return Ok(()) };
    if allowed(origin, options).is_some() || is_own_origin(origin, parts, options) {
        return Ok(());
    }
    let message = format!(
        "pages of {:?} may not write here; --cors-origin lets them",
        shown(origin.to_str().unwrap_or("?"))
    );
    Err(Failure::new(ErrorCode::Denied, message))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Tells whether a host, with or without a port, is this machine's, or was named in the options.
fn is_own_host(host: &str, options: &ServerOptions) -> bool {
    let name = host_name(host);
    let is = |own: &str| own.eq_ignore_ascii_case(name);
    let below = name.len().checked_sub(".localhost".len()).and_then(|at| name.get(at..));
    let plain = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = plain.parse::<IpAddr>().ok();
    // No browser sends an empty one.
    name.is_empty()
        || is("localhost")
        || below.is_some_and(|end| end.eq_ignore_ascii_case(".localhost"))
        || address.is_some_and(|address| address.to_canonical().is_loopback())
        || external_authority(options).is_some_and(|own| is(host_name(own)))
        || options.hosts.iter().any(|own| own == "*" || is(host_name(own)))
}

/// The part before the port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        // Colons that stand in brackets are an address's.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn external_authority(options: &ServerOptions) -> Option<&str> {
    let (_, rest) = options.external_url.as_deref()?.split_once("://")?;
    rest.split('/').next()
}

/// Tells whether a page was loaded from the registry itself, as far as a request tells.
fn is_own_origin(origin: &HeaderValue, parts: &Parts, options: &ServerOptions) -> bool {
    let Some((_, origin)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let is = |own: &str| own.eq_ignore_ascii_case(origin);
    host.is_some_and(is) || external_authority(options).is_some_and(is)
}

/// The answer to an origin whose pages may use the registry.
fn allowed(origin: &HeaderValue, options: &ServerOptions) -> Option<HeaderValue> {
    options.cors_origins.iter().find_map(|allowed| match allowed {
        CorsOrigin::Any => Some(HeaderValue::from_static("*")),
        CorsOrigin::One(one) => (one == origin).then(|| one.clone()),
    })
}

/// The answer to a browser that asks what a page may do, if that is what a request is and the page
/// may.
pub(crate) fn preflight<'a>(
    parts: &Parts,
    options: &ServerOptions,
    methods: impl Iterator<Item = &'a str>,
) -> Option<Response> {
    let origin = parts.headers.get(ORIGIN).filter(|_| parts.method == Method::OPTIONS)?;
    parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    allowed(origin, options)?;
    let methods = methods.collect::<Vec<_>>().join(", ");
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, respond::value(&methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(response)
}

/// Lets the pages of origins that may use the registry see an answer.
pub(crate) fn mark(parts: &Parts, options: &ServerOptions, answer: &mut HeaderMap) {
    if options.cors_origins.is_empty() {
        return;
    }
    answer.append(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = parts.headers.get(ORIGIN) else { return };
    let Some(allowed) = allowed(origin, options) else { return };
    if allowed != "*" {
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
}

/// Tells whether a browser would run content of this media type, or look in it for what it can run.
pub(crate) fn runs(media_type: &str) -> bool {
    let plain = media_type.split(';').next().unwrap_or_default().trim();
    let media_type = plain.to_ascii_lowercase();
    let Some((top, sub)) = media_type.split_once('/') else { return true };
    let plain = sub.strip_prefix("x-").unwrap_or(sub);
    let scripts = ["javascript", "ecmascript", "jscript", "livescript", "vbscript"];
    let documents =
        ["css", "html", "xhtml", "xml", "xml-dtd", "xsl", "xslt", "svg", "wasm", "mhtml"];
    top == "multipart"
        || sub.ends_with("+xml")
        || documents.contains(&plain)
        || scripts.iter().any(|script| plain.starts_with(script))
        || media_type == "message/rfc822"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, peer: Option<&str>, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(PeerAddr(format!("{peer}:4711").parse().unwrap()));
        }
        parts
    }

    #[test]
    fn hosts_on_loopback() {
        let options = ServerOptions::new().external_url("https://R.example:8443/x").unwrap();
        let options = options.allow_hosts(["registry", "other.example:5000"]);
        let status = |peer, host: &str| {
            let asked = parts(Method::GET, peer, &[("host", host)]);
            check(&asked, &options).map_err(|failure| failure.status.as_u16())
        };
        let local = Some("127.0.0.1");
        for own in [
            "localhost",
            "LOCALHOST:5000",
            "app.localhost:5000",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:5000",
            "[::1]",
            "r.example",
            "r.example:8443",
            "registry:5000",
            "OTHER.example",
            "",
        ] {
            assert_eq!(status(local, own), Ok(()), "{own}");
            assert_eq!(status(Some("[::1]"), own), Ok(()), "{own}");
        }
        for foreign in [
            "rebind.attacker.example",
            "rebind.attacker.example:5000",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "notlocalhost",
            "r.example.attacker.example",
            "192.0.2.1:5000",
            "[2001:db8::1]",
            "0.0.0.0:5000",
            "x",
        ] {
            assert_eq!(status(local, foreign), Err(421), "{foreign}");
            assert_eq!(status(Some("[::ffff:127.0.0.1]"), foreign), Err(421), "{foreign}");
            assert_eq!(status(Some("192.0.2.7"), foreign), Ok(()), "{foreign}");
            assert_eq!(status(None, foreign), Ok(()), "{foreign}");
        }
        let any = ServerOptions::new().allow_hosts(["*"]);
        assert!(check(&parts(Method::GET, local, &[("host", "x")]), &any).is_ok());
    }

    #[test]
    fn writes_of_pages() {
        let options = ServerOptions::new().external_url("https://r.example").unwrap();
        let options = options.cors_origin("https://UI.example").unwrap();
        let ask = |method: Method, origin: &str| {
            let asked = parts(method, None, &[("host", "h.example:5000"), ("origin", origin)]);
            check(&asked, &options).map_err(|failure| failure.status.as_u16())
        };
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for own in ["http://h.example:5000", "https://r.example", "https://ui.example"] {
                assert_eq!(ask(method.clone(), own), Ok(()), "{method} {own}");
            }
            for foreign in
                ["null", "http://h.example", "http://ui.example", "https://a.example", ""]
            {
                assert_eq!(ask(method.clone(), foreign), Err(403), "{method} {foreign}");
            }
        }
        assert_eq!(ask(Method::GET, "https://a.example"), Ok(()), "the browser shows it to nobody");
    }

    #[test]
    fn types_that_browsers_run() {
        for media_type in [
            "text/html",
            "TEXT/HTML ; charset=utf-8",
            "application/xhtml+xml",
            "image/svg+xml",
            "application/xml",
            "text/xml",
            "application/atom+xml",
            "text/css",
            "application/javascript",
            "application/x-javascript",
            "text/javascript1.5",
            "text/ecmascript",
            "application/wasm",
            "multipart/x-mixed-replace",
            "message/rfc822",
            "html",
        ] {
            assert!(runs(media_type), "{media_type}");
        }
        for media_type in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.example.transcript.v1+json",
            "application/vnd.example.html+json",
            "application/json",
            "application/octet-stream",
            "text/plain",
        ] {
            assert!(!runs(media_type), "{media_type}");
        }
    }

    #[test]
    fn origins() {
        let one = |text: &str| CorsOrigin::One(HeaderValue::from_str(text).unwrap());
        assert_eq!(CorsOrigin::parse("*"), Some(CorsOrigin::Any));
        assert_eq!(
            CorsOrigin::parse("https://UI.example:8443"),
            Some(one("https://ui.example:8443"))
        );
        for bad in ["", "ui.example", "https://", "ftp://x", "https://u@x", "https://x/y", "null"] {
            assert_eq!(CorsOrigin::parse(bad), None, "{bad}");
        }
    }
}
