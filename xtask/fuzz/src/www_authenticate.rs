//! The client's reading of `WWW-Authenticate`: one header a line.
//!
//! A challenge that is understood is understood the same way when it is written by the book.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use oci_registry_client::fuzzing::{Challenge, challenge};

use crate::headers::{is_visible, of_lines, quote};

/// Checks one input.
pub fn check(data: &[u8]) {
    let Some(found) = challenge(&of_lines(WWW_AUTHENTICATE, data)) else { return };
    let Challenge::Bearer { realm, service, scope } = &found else { return };
    assert!(!realm.is_empty());
    let mut written = format!("Bearer realm={}", quote(realm));
    for (name, value) in [("service", service), ("scope", scope)] {
        if let Some(value) = value {
            written.push_str(&format!(",{name}={}", quote(value)));
        }
    }
    if is_visible(&written) {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, written.parse().expect("visible characters"));
        assert_eq!(challenge(&headers).as_ref(), Some(&found), "{written}");
    }
}
