//! The client's reading of `Location`.
//!
//! It never leads from https to http, keeps neither user name nor password, and resolves to itself.

use oci_registry_client::fuzzing::location;

use crate::support::assert_fit_for_logs;

/// Checks one input: the value.
pub fn check(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    for base in [
        "https://r.example/v2/a/blobs/uploads/?x=y",
        "https://r.example:8443/v2/",
        "http://127.0.0.1:5000/v2/a/blobs/uploads/1",
        "http://r.example:443/v2/",
    ] {
        match location(value, base) {
            Ok(url) => {
                let secure = url.starts_with("https://");
                assert!(
                    secure || !base.starts_with("https:") && url.starts_with("http://"),
                    "{url}"
                );
                let authority = url.split('/').nth(2).expect("a host follows the scheme");
                let authority = authority.split(['?', '#']).next().unwrap_or_default();
                assert!(!authority.is_empty() && !authority.contains('@'), "{url}");
                assert!(!url.contains('#'), "{url}");
                assert_eq!(location(&url, base).as_ref(), Ok(&url));
            }
            Err(reason) => assert_fit_for_logs(&reason, 16 << 10),
        }
    }
}
