//! `Location` of upload sessions, and its quirks.

use reqwest::Url;

use crate::redact;

/// Resolves a `Location` against the address that answered (distribution-spec, "Pushing blobs").
///
/// It may be relative or absolute. Where the request named port 443 and the answer names the same host without a port,
/// the port is put back: some proxies drop it. From https it may not lead to http. A user name and a password in it
/// are dropped, since they would be sent.
pub(crate) fn resolve(location: &str, base: &Url) -> Result<Url, String> {
    let mut url = base
        .join(location)
        .map_err(|error| format!("Location {:?} is no address: {error}", redact::text(location)))?;
    // A URL of https has no port if it names 443, so that only plain HTTP can lose it.
    if base.port() == Some(443) && url.port().is_none() && url.host() == base.host() {
        // Fails for addresses without a host only, which are refused below.
        let _ = url.set_port(Some(443));
    }
    check(&url, base)?;
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    Ok(url)
}

/// Whether an answer may lead from one address to another.
fn check(url: &Url, from: &Url) -> Result<(), String> {
    match (from.scheme(), url.scheme()) {
        ("http", "http" | "https") | ("https", "https") => Ok(()),
        ("https", "http") => {
            Err(format!("the answer leads from https to plain http: {}", redact::url(url)))
        }
        (_, scheme) => Err(format!("the answer leads to an address of scheme {scheme:?}")),
    }
}

/// An address with one more query parameter; what the query has is kept as it is.
pub(crate) fn with_query(mut url: Url, key: &str, value: &str) -> Url {
    let kept = url.query().map_or(0, str::len);
    url.query_pairs_mut().append_pair(key, value);
    // A space is `%20` for everybody, and `+` only for those who read a query as a form.
    let query = url.query().map(|query| {
        let (old, added) = query.split_at(kept);
        format!("{old}{}", added.replace('+', "%20"))
    });
    url.set_query(query.as_deref());
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // covers: O5
    #[test]
    fn locations() {
        let cases = [
            (
                "https://r.example/v2/a/blobs/uploads/",
                "/v2/a/blobs/uploads/1",
                "https://r.example/v2/a/blobs/uploads/1",
            ),
            (
                "https://r.example/v2/a/blobs/uploads/",
                "1?_state=x%2By",
                "https://r.example/v2/a/blobs/uploads/1?_state=x%2By",
            ),
            ("https://r.example/v2/", "https://up.example/1?s=1", "https://up.example/1?s=1"),
            ("http://r.example:5000/v2/", "http://r.example:5000/1", "http://r.example:5000/1"),
            ("http://r.example:443/v2/", "http://r.example/1", "http://r.example:443/1"),
            ("http://r.example:443/v2/", "http://other.example/1", "http://other.example/1"),
            ("https://r.example:443/v2/", "https://r.example/1", "https://r.example/1"),
            ("https://r.example/v2/", "https://user:secret@r.example/1#x", "https://r.example/1"),
            ("http://r.example/v2/", "https://r.example/1", "https://r.example/1"),
        ];
        for (base, location, expected) in cases {
            let url = resolve(location, &Url::parse(base).unwrap());
            assert_eq!(url.map(String::from).as_deref(), Ok(expected), "{location} at {base}");
        }
    }

    #[test]
    fn refused_locations() {
        let base = Url::parse("https://r.example/v2/").unwrap();
        for location in
            ["http://r.example/1", "ftp://r.example/1", "file:///etc/passwd", "https://", "data:x"]
        {
            assert!(resolve(location, &base).is_err(), "{location}");
        }
    }

    #[test]
    fn the_query_is_kept() {
        let url = Url::parse("https://r.example/1?_state=a%2Bb+c%3D%3D&k").unwrap();
        let url = with_query(url, "digest", "sha256:ab");
        assert_eq!(url.query(), Some("_state=a%2Bb+c%3D%3D&k&digest=sha256%3Aab"));
        let url = with_query(Url::parse("https://r.example/1").unwrap(), "digest", "sha256:ab");
        assert_eq!(url.query(), Some("digest=sha256%3Aab"));
        let url = with_query(url, "artifactType", "text/x+y; a=\u{e4}");
        let last = "artifactType=text%2Fx%2By%3B%20a%3D%C3%A4";
        assert_eq!(url.query(), Some(format!("digest=sha256%3Aab&{last}").as_str()));
    }

    proptest! {
        #[test]
        fn anything_is_resolved_without_a_panic(location in "\\PC{0,60}") {
            let base = Url::parse("https://r.example/v2/").unwrap();
            if let Ok(url) = resolve(&location, &base) {
                prop_assert_eq!(url.scheme(), "https");
                prop_assert_eq!(url.username(), "");
            }
        }
    }
}
