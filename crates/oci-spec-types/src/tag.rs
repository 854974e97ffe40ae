//! Tags (distribution-spec, section Pulling manifests).

use std::str::FromStr;

use crate::Digest;
use crate::text::{Reason, parse_error, text_type};

/// Longest tag, in bytes.
const MAX_LENGTH: usize = 128;

/// A tag: a letter, digit or `_`, then up to 127 letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

parse_error! {
    /// A text that is not a tag.
    TagError, "tag"
}

text_type!(Tag);

impl Tag {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag under which clients keep what refers to a manifest, for registries that have no referrers API: at most
    /// 32 characters of the algorithm, `-`, at most 64 of the hash, and `-` for what no tag may have
    /// (distribution-spec, section Referrers Tag Schema).
    ///
    /// ```
    /// # use oci_spec_types::{Digest, Tag};
    /// let digest = Digest::sha256(b"");
    /// assert_eq!(Tag::of_referrers(&digest).as_str(), digest.as_str().replace(':', "-"));
    /// ```
    pub fn of_referrers(subject: &Digest) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let algorithm = subject.algorithm().chars().take(32);
        let encoded = subject.encoded().chars().take(64);
        let tag: String = algorithm.chain(['-']).chain(encoded).map(plain).collect();
        Self(tag.into())
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(input: &str) -> Result<Self, TagError> {
        check(input).map_err(|reason| TagError::new(input, reason))?;
        Ok(Self(input.into()))
    }
}

fn check(input: &str) -> Result<(), Reason> {
    Reason::check_length(input, MAX_LENGTH)?;
    let allowed = |at: usize, byte: u8| match byte {
        b'.' | b'-' => at > 0,
        _ => byte.is_ascii_alphanumeric() || byte == b'_',
    };
    match input.bytes().enumerate().position(|(at, byte)| !allowed(at, byte)) {
        Some(0) => Err(Reason::at(input, 0, "a letter, digit or '_'")),
        Some(at) => Err(Reason::at(input, at, "a letter, digit, '.', '_' or '-'")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_referrers() {
        let (a64, a128) = ("a".repeat(64), "a".repeat(128));
        // The last is the specification's own example.
        let cases = [
            (format!("sha256:{a64}"), format!("sha256-{a64}")),
            (format!("sha512:{a128}"), format!("sha512-{a64}")),
            ("a+b.c_d:x=y_z".into(), "a-b.c_d-x-y_z".into()),
            (format!("{}:x", "a".repeat(40)), format!("{}-x", "a".repeat(32))),
            (
                "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:\
                 alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExcerciseEncodedTruncation"
                    .into(),
                "test-algorithm-using-algorithm-s-\
                 alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot"
                    .into(),
            ),
        ];
        for (digest, expected) in cases {
            let tag = Tag::of_referrers(&digest.parse().unwrap());
            assert_eq!(tag.as_str(), expected, "{digest}");
            assert_eq!(expected.parse(), Ok(tag));
        }
    }
}
