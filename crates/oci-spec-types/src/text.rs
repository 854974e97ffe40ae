//! What every parser of short text here shares: excerpts of foreign input for errors, the reasons for a
//! refusal, and the traits of a type that is text.

use std::fmt;

/// How much of a refused input an error keeps, in characters.
const EXCERPT_CHARS: usize = 64;

/// The beginning of a refused input, so that an error never grows with what a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    start: Box<str>,
    /// Length of the whole input in bytes.
    whole: usize,
}

impl Excerpt {
    pub(crate) fn new(input: &str) -> Self {
        let end = input.char_indices().nth(EXCERPT_CHARS).map_or(input.len(), |(at, _)| at);
        Self { start: input[..end].into(), whole: input.len() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug formatting quotes and escapes control characters, which could otherwise forge log lines.
        write!(f, "{:?}", self.start)?;
        if self.start.len() < self.whole {
            write!(f, "… ({} bytes)", self.whole)?;
        }
        Ok(())
    }
}

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("it is empty")]
    Empty,
    #[error("it has {found} bytes, at most {limit} are allowed")]
    TooLong { limit: usize, found: usize },
    #[error("found {found:?} at byte {at}, expected {expected}")]
    Unexpected { found: char, at: usize, expected: &'static str },
    #[error("it ends where {expected} is expected")]
    Ends { expected: &'static str },
    #[error("{algorithm} has {expected} hexadecimal digits, found {found}")]
    HexLength { algorithm: &'static str, expected: usize, found: usize },
    #[error("{0}")]
    Rule(&'static str),
}

impl Reason {
    /// What is wrong at byte `at` of `input`: the character there, or the end.
    pub(crate) fn at(input: &str, at: usize, expected: &'static str) -> Self {
        match input.get(at..).and_then(|rest| rest.chars().next()) {
            Some(found) => Self::Unexpected { found, at, expected },
            None => Self::Ends { expected },
        }
    }

    /// Refuses an input that is empty or longer than `limit` bytes, before anything else looks at it.
    pub(crate) fn check_length(input: &str, limit: usize) -> Result<(), Self> {
        match input.len() {
            0 => Err(Self::Empty),
            found if found > limit => Err(Self::TooLong { limit, found }),
            _ => Ok(()),
        }
    }
}

/// Declares the error of one parser: an excerpt of the input, and the reason.
macro_rules! parse_error {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            input: crate::text::Excerpt,
            reason: crate::text::Reason,
        }

        impl $name {
            fn new(input: &str, reason: crate::text::Reason) -> Self {
                Self { input: crate::text::Excerpt::new(input), reason }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!("invalid ", $what, " {}: {}"), self.input, self.reason)
            }
        }

        impl std::error::Error for $name {}
    };
}
pub(crate) use parse_error;

/// Gives a type with `as_str` and `FromStr` the traits of text. From JSON it is read by `FromStr`,
/// or as it is said.
macro_rules! text_type {
    ($name:ident) => {
        crate::text::text_type!(@traits $name);
        crate::text::deserialize_from_str!($name);
    };
    ($name:ident, $read:path) => {
        crate::text::text_type!(@traits $name);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                $read(text).map_err(serde::de::Error::custom)
            }
        }
    };
    (@traits $name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_type;

/// Reads a type from a JSON string by its `FromStr`.
macro_rules! deserialize_from_str {
    ($name:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use deserialize_from_str;
