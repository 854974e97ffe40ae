//! Ranges: `Range` and `If-Range` of a pull, `Content-Range` of an upload, and the `Range` that answers an upload.

use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};
use oci_ref::ByteRange;

use crate::etag;

/// The part of a blob that a request asks for (RFC 9110, section 14).
///
/// What is no byte range, or several of them, is ignored, which the RFC allows: the answer is the whole blob. A range
/// whose end lies before its start, such as `500-0`, is one that no blob has: the answer is 416.
pub(crate) fn requested(headers: &HeaderMap, etag: &str) -> ByteRange {
    let mut values = headers.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return ByteRange::All;
    };
    // Without the strong validator the client's part belongs to something else (RFC 9110, 13.1.5).
    if headers.get_all(IF_RANGE).iter().any(|condition| !etag::is(condition, etag)) {
        return ByteRange::All;
    }
    value.to_str().ok().and_then(parse).unwrap_or(ByteRange::All)
}

/// Parses the value of a `Range` header that holds one byte range.
fn parse(value: &str) -> Option<ByteRange> {
    let (unit, spec) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => Some(ByteRange::Last(number(last)?)),
        (first, "") => Some(ByteRange::From(number(first)?)),
        (first, last) => Some(ByteRange::Inclusive(number(first)?, number(last)?)),
    }
}

/// A number made of digits only. One that is too large to be written down is the largest there is.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Which bytes of a blob a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The position of its first byte.
    pub(crate) start: u64,
    /// How many bytes it has.
    pub(crate) length: u64,
}

impl ContentRange {
    /// Parses a chunk's `Content-Range`: `<first>-<last>`, both included. What HTTP would have around it, `bytes ` and
    /// `/<size>`, is tolerated.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let range = value.trim();
        let range = range.strip_prefix("bytes ").unwrap_or(range).trim();
        let (range, size) = range.split_once('/').unwrap_or((range, "*"));
        if size != "*" {
            number(size)?;
        }
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let length = last.checked_sub(first)?.checked_add(1)?;
        Some(Self { start: first, length })
    }
}

/// The `Range` of an upload that has so many bytes: the position of its last byte. An upload without bytes has no such
/// position, and says `0-0` as every registry does.
pub(crate) fn uploaded(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(pairs: &[(http::HeaderName, &'static str)]) -> ByteRange {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        requested(&headers, "\"sha256:ab\"")
    }

    // spec: R11
    #[test]
    fn requested_ranges() {
        let cases = [
            ("bytes=0-9", ByteRange::Inclusive(0, 9)),
            ("Bytes = 0 - 9", ByteRange::Inclusive(0, 9)),
            ("bytes=500-0", ByteRange::Inclusive(500, 0)),
            ("bytes=5-", ByteRange::From(5)),
            ("bytes=-5", ByteRange::Last(5)),
            ("bytes=-0", ByteRange::Last(0)),
            ("bytes=0-99999999999999999999999", ByteRange::Inclusive(0, u64::MAX)),
            ("bytes=-", ByteRange::All),
            ("bytes=", ByteRange::All),
            ("bytes", ByteRange::All),
            ("bytes=0-1,4-5", ByteRange::All),
            ("bytes=+1-2", ByteRange::All),
            ("bytes=1--2", ByteRange::All),
            ("items=0-1", ByteRange::All),
            ("", ByteRange::All),
        ];
        for (text, expected) in cases {
            assert_eq!(of(&[(RANGE, text)]), expected, "{text:?}");
        }
        assert_eq!(of(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=2-3")]), ByteRange::All);
    }

    #[test]
    fn conditional_ranges() {
        let with = |condition| of(&[(RANGE, "bytes=1-2"), (IF_RANGE, condition)]);
        assert_eq!(with("\"sha256:ab\""), ByteRange::Inclusive(1, 2));
        assert_eq!(with("W/\"sha256:ab\""), ByteRange::All);
        assert_eq!(with("\"sha256:cd\""), ByteRange::All);
        assert_eq!(with("Wed, 21 Oct 2015 07:28:00 GMT"), ByteRange::All);
    }

    #[test]
    fn content_ranges() {
        let range = |start, length| Some(ContentRange { start, length });
        let cases = [
            ("0-99", range(0, 100)),
            ("100-100", range(100, 1)),
            ("bytes 0-99", range(0, 100)),
            ("bytes 0-99/*", range(0, 100)),
            ("bytes 0-99/1000", range(0, 100)),
            ("99-0", None),
            ("0-18446744073709551615", None),
            ("-5", None),
            ("5-", None),
            ("5", None),
            ("", None),
            ("a-b", None),
            ("0x1-0x2", None),
            ("0-9/x", None),
            ("-1-5", None),
            ("bytes=0-5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ContentRange::parse(text), expected, "{text:?}");
        }
    }

    // spec: R24
    #[test]
    fn uploaded_ranges() {
        assert_eq!(uploaded(0), "0-0");
        assert_eq!(uploaded(1), "0-0");
        assert_eq!(uploaded(100), "0-99");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = parse(&text);
            let _ = ContentRange::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(start in 0..u64::MAX / 2, length in 1..u64::MAX / 2) {
            let text = format!("{start}-{}", start + length - 1);
            prop_assert_eq!(ContentRange::parse(&text), Some(ContentRange { start, length }));
            let range = ByteRange::Inclusive(start, start + length - 1);
            prop_assert_eq!(parse(&format!("bytes={text}")), Some(range));
        }
    }
}
