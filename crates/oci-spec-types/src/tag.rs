//! Tags (distribution-spec, section Pulling manifests).

use std::str::FromStr;

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
    match input
        .bytes()
        .enumerate()
        .position(|(at, byte)| !allowed(at, byte))
    {
        Some(0) => Err(Reason::at(input, 0, "a letter, digit or '_'")),
        Some(at) => Err(Reason::at(input, at, "a letter, digit, '.', '_' or '-'")),
        None => Ok(()),
    }
}
