//! The server's paths and queries: `METHOD /path?query` in the first line, a body in the rest.
//!
//! Whatever is asked for, the answer is none of 500 and above, errors have the spec's form, and `HEAD` has no body.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use crate::server;
use crate::support::{block_on, first_line};

/// Checks one input.
pub fn check(data: &[u8]) {
    let (line, body) = first_line(data);
    let Some((method, target)) = split(line) else { return };
    let request = Request::builder().method(method).uri(target);
    let Ok(request) = request.body(Full::new(Bytes::copy_from_slice(body))) else { return };
    block_on(async {
        let registry = server::registry().await;
        server::ask(&registry, request).await;
    });
}

/// The method, and a target below `/v2/`: all others belong to the application around the router.
pub(crate) fn split(line: &[u8]) -> Option<(Method, Vec<u8>)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&line[..space]).ok()?;
    let target = &line[space + 1..];
    let below = target.starts_with(b"/v2/") || target == b"/v2" || target.starts_with(b"/v2?");
    // The answer to CONNECT is no answer of a registry: HTTP has it that a body cannot follow.
    let is_asked = below && method != Method::CONNECT;
    is_asked.then(|| (method, target.to_owned()))
}
