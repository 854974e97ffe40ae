//! Repository names (distribution-spec, section Pulling manifests).

use std::str::FromStr;

use crate::text::{Reason, parse_error, text_type};

/// Longest name, in bytes.
const MAX_LENGTH: usize = 255;

/// The name of a repository within its registry: components of lower-case letters and digits, joined by `/`;
/// within a component `.`, `_`, `__` or any number of `-` may separate. At most 255 bytes.
///
/// ```
/// # use oci_spec_types::Name;
/// let name: Name = "team/web-app".parse()?;
/// assert_eq!(name.as_str(), "team/web-app");
/// assert!("team/../app".parse::<Name>().is_err());
/// # Ok::<(), oci_spec_types::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

parse_error! {
    /// A text that is not a repository name.
    NameError, "repository name"
}

text_type!(Name);

impl Name {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(input: &str) -> Result<Self, NameError> {
        check(input).map_err(|reason| NameError::new(input, reason))?;
        Ok(Self(input.into()))
    }
}

fn check(input: &str) -> Result<(), Reason> {
    const EXPECTED: &str = "a lower-case letter or digit";
    Reason::check_length(input, MAX_LENGTH)?;
    let bytes = input.as_bytes();
    let mut at = 0;
    loop {
        let start = at;
        at +=
            bytes[at..].iter().take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')).count();
        if at == start {
            return Err(Reason::at(input, at, EXPECTED));
        }
        at += match &bytes[at..] {
            [] => return Ok(()),
            [b'_', b'_', ..] => 2,
            [b'/' | b'.' | b'_', ..] => 1,
            [b'-', ..] => bytes[at..].iter().take_while(|byte| **byte == b'-').count(),
            _ => {
                return Err(Reason::at(input, at, "a lower-case letter, digit or one of /._-"));
            }
        };
    }
}
