//! The client's reading of `Link`: one header a line.
//!
//! The next page is of the same origin, and not the page itself; what is refused has a short reason.

use http::header::LINK;
use oci_registry_client::fuzzing::next_page;

use crate::headers::of_lines;
use crate::support::assert_fit_for_logs;

/// Checks one input.
pub fn check(data: &[u8]) {
    let headers = of_lines(LINK, data);
    for (base, origin) in [
        ("https://r.example/v2/a/tags/list?n=2", "https://r.example/"),
        ("http://127.0.0.1:5000/v2/_catalog", "http://127.0.0.1:5000/"),
    ] {
        match next_page(&headers, base) {
            Ok(Some(next)) => {
                let (scheme, rest) = origin.split_once("://").expect("an origin");
                let of_origin = next.strip_prefix(scheme).and_then(|next| next.strip_prefix("://"));
                let of_origin = of_origin.expect("the scheme of the page before");
                // A user name and a password may stand before the host.
                let authority = of_origin.split(['/', '?', '#']).next().unwrap_or_default();
                let host = authority.rsplit('@').next().unwrap_or_default();
                assert_eq!(format!("{host}/"), rest, "{next}");
                assert_ne!(next, base);
            }
            Ok(None) => {}
            Err(reason) => assert_fit_for_logs(&reason, 16 << 10),
        }
    }
}
