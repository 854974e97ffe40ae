//! Requests to the server with headers and bodies, up to six in a row on one registry: ranges, conditions, pages,
//! upload sessions.
//!
//! Requests are separated by `---`; each has a line `METHOD /path?query`, headers, an empty line, and a body. A target
//! that begins with `@` continues what the last `Location` or `Link` said. What holds is as in `server_route.rs`.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LINK, LOCATION};
use http::{HeaderValue, Request};
use http_body_util::Full;

use crate::server::{self, Answer};
use crate::support::{block_on, first_line, pieces};
use crate::{headers, server_route};

/// Checks one input.
pub fn check(data: &[u8]) {
    block_on(async {
        let registry = server::registry().await;
        let mut next = String::new();
        for piece in pieces(data, 6) {
            let Some(request) = request(piece, &next) else { continue };
            let answer = server::ask(&registry, request).await;
            if let Some(target) = continued(&answer) {
                next = target;
            }
        }
    });
}

fn request(data: &[u8], next: &str) -> Option<Request<Full<Bytes>>> {
    let (line, mut rest) = first_line(data);
    let line = match line.iter().position(|byte| *byte == b'@') {
        Some(at) => [&line[..at], next.as_bytes(), &line[at + 1..]].concat(),
        None => line.to_owned(),
    };
    let (method, target) = server_route::split(&line)?;
    let mut request = Request::builder().method(method).uri(target);
    let mut sized = false;
    loop {
        let (line, after) = first_line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        match headers::split(line) {
            // Where HTTP is read from a connection, a length that is not that of the body never gets here.
            Some((name, _)) if name == CONTENT_LENGTH => sized = true,
            Some((name, value)) => request = request.header(name, value),
            None => {}
        }
    }
    if sized {
        request = request.header(CONTENT_LENGTH, HeaderValue::from(rest.len()));
    }
    request.body(Full::new(Bytes::copy_from_slice(rest))).ok()
}

/// Where an answer says that one can go on.
fn continued(answer: &Answer) -> Option<String> {
    if let Some(location) = answer.headers.get(LOCATION) {
        return Some(location.to_str().expect("a Location is text").to_owned());
    }
    let link = answer.headers.get(LINK)?.to_str().expect("a Link is text");
    let target = link.strip_prefix('<').and_then(|link| link.split_once('>'));
    let (target, rel) = target.expect("a Link has an address in angle brackets");
    assert!(rel.contains("rel=\"next\""), "{link}");
    Some(target.to_owned())
}
