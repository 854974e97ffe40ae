//! Names of manifests in image layouts (image-spec, `annotations.md`).

use std::str::FromStr;

use crate::Tag;
use crate::text::{Reason, parse_error, text_type};

/// Longest name, in bytes. The specification has no limit; a reference with a host, a tag and a
/// digest has less.
const MAX_LENGTH: usize = 1024;

/// A name that a manifest has in an image layout, the value of the annotation
/// `org.opencontainers.image.ref.name`: a [`Tag`], or components between slashes, each of letters
/// and digits with one of `-._:@+`, or `--`, between them.
///
/// ```
/// # use oci_spec_types::RefName;
/// for name in ["v1", "busybox:1.36", "registry.example/team/app:v0.0.20"] {
///     assert!(name.parse::<RefName>().is_ok());
/// }
/// assert!("a//b".parse::<RefName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(Box<str>);

parse_error! {
    /// A text that is not a name of a manifest in an image layout.
    RefNameError, "name"
}

text_type!(RefName);

impl RefName {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Tag> for RefName {
    fn from(tag: Tag) -> Self {
        Self(tag.as_str().into())
    }
}

impl FromStr for RefName {
    type Err = RefNameError;

    fn from_str(input: &str) -> Result<Self, RefNameError> {
        // Tags may begin with `_`, and have separators in a row.
        if input.parse::<Tag>().is_err() {
            check(input).map_err(|reason| RefNameError::new(input, reason))?;
        }
        Ok(Self(input.into()))
    }
}

fn check(input: &str) -> Result<(), Reason> {
    Reason::check_length(input, MAX_LENGTH)?;
    let mut after = Some(b'/');
    for (at, byte) in input.bytes().enumerate() {
        let fits = match (after, byte) {
            _ if byte.is_ascii_alphanumeric() => true,
            (None, b'-' | b'.' | b'_' | b':' | b'@' | b'+' | b'/') => true,
            // Two hyphens are one separator, three are none.
            (Some(b'-'), b'-') => input.as_bytes().get(at.wrapping_sub(2)) != Some(&b'-'),
            _ => false,
        };
        if !fits {
            let expected = match after {
                None => "a letter, digit or one of '-._:@+/'",
                Some(_) => "a letter or digit",
            };
            return Err(Reason::at(input, at, expected));
        }
        after = (!byte.is_ascii_alphanumeric()).then_some(byte);
    }
    match after {
        None => Ok(()),
        Some(_) => Err(Reason::Ends { expected: "a letter or digit" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // podman-container-tools/skopeo#1975, #762, #405
    // covers: C13
    #[test]
    fn the_grammar_of_the_annotation() {
        let long = "a".repeat(MAX_LENGTH);
        for good in [
            "a",
            "v1.2_3-4",
            "_tag",
            "a..b",
            "a-.",
            "test1/a",
            "busybox:test1",
            "rancher/hello-world:v0.0.20",
            "docker.io/library/app@sha256:0123",
            "a--b/c+d",
            &long,
        ] {
            assert_eq!(good.parse::<RefName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ":a",
            "a:",
            "a::b",
            "a---b:c",
            "a b",
            "a/b-",
            "a:_b",
            "é",
            "a:\n",
            "../a",
            "a:b\u{202e}",
            "a+-b",
            "-a/b",
            "--a/b",
        ] {
            assert!(bad.parse::<RefName>().is_err(), "{bad:?}");
        }
        assert!(format!("{long}a").parse::<RefName>().is_err());
    }
}
