//! `Content-Range` of answers to range requests (RFC 9110, 14.4), and `Range` of upload sessions.

use std::ops::Range;

/// What `Content-Range: bytes 2-5/10` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The first byte.
    pub(crate) first: u64,
    /// The last byte.
    pub(crate) last: u64,
    /// The size of the whole, if it is said.
    pub(crate) size: Option<u64>,
}

impl ContentRange {
    /// Reads the header of a `206`. `None` if it is not well formed: no byte range, last before first, or not within
    /// the size.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (range, size) = bytes_unit(value)?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let size = match size {
            "*" => None,
            size => Some(number(size)?),
        };
        let fits = first <= last && size.is_none_or(|size| last < size) && last < u64::MAX;
        fits.then_some(Self { first, last, size })
    }

    /// The bytes meant.
    pub(crate) fn range(self) -> Range<u64> {
        self.first..self.last + 1
    }
}

/// The size in the `Content-Range: bytes */10` of a `416`.
pub(crate) fn unsatisfied_size(value: &str) -> Option<u64> {
    number(bytes_unit(value)?.strip_prefix("*/")?)
}

/// How many bytes an upload session has, by its `Range: 0-N` (distribution-spec, "Pushing a blob in chunks").
///
/// `0-0` means one byte, but registries also write it for none; what the client knows decides.
pub(crate) fn upload_offset(value: &str, known: u64) -> Option<u64> {
    let value = value.trim();
    let range = value.strip_prefix("bytes=").unwrap_or(value);
    let last = number(range.strip_prefix("0-")?)?;
    match last {
        0 => Some(known.min(1)),
        last => last.checked_add(1),
    }
}

fn bytes_unit(value: &str) -> Option<&str> {
    let (unit, rest) = value.trim().split_once(' ')?;
    unit.eq_ignore_ascii_case("bytes").then(|| rest.trim_start())
}

/// Digits only: no sign, no white space.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_and_not() {
        let range = |first, last, size| Some(ContentRange { first, last, size });
        let cases = [
            ("bytes 0-0/1", range(0, 0, Some(1))),
            ("bytes 2-5/10", range(2, 5, Some(10))),
            ("Bytes 2-5/10", range(2, 5, Some(10))),
            ("bytes 2-5/*", range(2, 5, None)),
            ("bytes 5-2/10", None),
            ("bytes 2-10/10", None),
            ("bytes 2-5", None),
            ("bytes=2-5/10", None),
            ("bytes */10", None),
            ("items 2-5/10", None),
            ("bytes +2-5/10", None),
            ("bytes 2-99999999999999999999/*", None),
            ("bytes 0-18446744073709551615/*", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(ContentRange::parse(value), expected, "{value:?}");
        }
        assert_eq!(unsatisfied_size("bytes */10"), Some(10));
        assert_eq!(unsatisfied_size("bytes 0-1/10"), None);
    }

    #[test]
    fn upload_offsets() {
        let cases = [
            ("0-9", 0, Some(10)),
            ("bytes=0-9", 0, Some(10)),
            ("0-0", 0, Some(0)),
            ("0-0", 1, Some(1)),
            ("0-0", 9, Some(1)),
            ("0--1", 0, None),
            ("1-9", 0, None),
            ("0-18446744073709551615", 0, None),
            ("", 0, None),
        ];
        for (value, known, expected) in cases {
            assert_eq!(upload_offset(value, known), expected, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(first in 0..u64::MAX / 2, more in 0..1000u64, rest in 0..1000u64) {
            let (last, size) = (first + more, first + more + 1 + rest);
            let parsed = ContentRange::parse(&format!("bytes {first}-{last}/{size}"));
            prop_assert_eq!(parsed, Some(ContentRange { first, last, size: Some(size) }));
        }

        #[test]
        fn anything_is_read_without_a_panic(value in "(bytes )?[-0-9*/ a-z]{0,40}") {
            if let Some(parsed) = ContentRange::parse(&value) {
                prop_assert!(parsed.range().start < parsed.range().end);
            }
            unsatisfied_size(&value);
            upload_offset(&value, 3);
        }
    }
}
