//! Addresses and texts as they may be shown: without secrets, without control characters, and not too long.

use oci_spec_types::plain;
use reqwest::Url;

/// The most of an answer's body that an error shows, in bytes: 2 KiB.
pub(crate) const MAX_SHOWN: usize = 2 << 10;

/// An address without user name, password and fragment. Query values are hidden, but for `scope` and `service`: others
/// can be signatures or tokens.
pub(crate) fn url(url: &Url) -> String {
    let mut shown = String::new();
    shown.push_str(url.scheme());
    shown.push_str("://");
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push(':');
        shown.push_str(&port.to_string());
    }
    shown.push_str(url.path());
    for (count, pair) in url.query().into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if count == 0 { '?' } else { '&' });
        // A key without a value can be a secret as well.
        match pair.split_once('=') {
            Some((key @ ("scope" | "service"), value)) => {
                shown.push_str(key);
                shown.push('=');
                shown.push_str(value);
            }
            Some((key, _)) => {
                shown.push_str(key);
                shown.push_str("=REDACTED");
            }
            None => shown.push_str("REDACTED"),
        }
    }
    shown
}

/// The beginning of a text from outside, in one line.
pub(crate) fn text(text: &str) -> String {
    let mut end = text.len().min(MAX_SHOWN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut shown = plain(text.get(..end).unwrap_or_default().trim()).into_owned();
    if end < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: M13
    #[test]
    fn addresses_show_no_secret() {
        let cases = [
            (
                "https://user:secret@r.example:8443/v2/a?X-Sig=secret&service=s&scope=repository:a:pull#secret",
                "https://r.example:8443/v2/a?X-Sig=REDACTED&service=s&scope=repository:a:pull",
            ),
            ("https://r.example/a?secret", "https://r.example/a?REDACTED"),
            (
                "https://r.example/a?service=a=b&Scope=secret",
                "https://r.example/a?service=a=b&Scope=REDACTED",
            ),
            ("http://[::1]:5000/a", "http://[::1]:5000/a"),
        ];
        for (address, expected) in cases {
            let shown = url(&Url::parse(address).unwrap());
            assert_eq!(shown, expected);
            assert!(!shown.contains("secret"));
        }
    }

    #[test]
    fn texts_are_short_and_plain() {
        assert_eq!(text(" a\r\nb\u{1b}[1m\u{202e} "), "a  b\u{fffd}[1m\u{fffd}");
        let long = text(&"é".repeat(3000));
        assert_eq!(long.chars().count(), MAX_SHOWN / 2 + 1);
        assert!(long.ends_with('…'));
    }
}
