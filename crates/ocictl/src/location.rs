//! References as the tool's users write them: `docker://…` and `oci:…`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec_types::{Digest, Reference};

/// A place that holds an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In a registry.
    Registry(Reference),
    /// In an OCI image layout.
    Layout { path: PathBuf, entry: Entry },
}

/// What of a layout is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Its only entry; as a destination, an entry without a name.
    Only,
    /// The entry with this name.
    Named(String),
    /// The manifest with this digest.
    Digest(Digest),
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(reference) = text.strip_prefix("docker://") {
            return match Reference::parse_familiar(reference) {
                Ok(reference) => Ok(Self::Registry(reference)),
                Err(error) => Err(error.to_string()),
            };
        }
        let Some(rest) = text.strip_prefix("oci:") else {
            let start: String = text.chars().take(40).collect();
            return Err(format!(
                "{start:?} names no transport: expected docker://host/name:tag or oci:path:name"
            ));
        };
        let (path, entry) = split_layout(rest)?;
        if path.is_empty() {
            return Err("the path of the layout is missing: expected oci:path[:name]".into());
        }
        Ok(Self::Layout { path: path.into(), entry })
    }
}

/// The path of a layout ends at an `@` before a digest, or else at the first colon.
fn split_layout(text: &str) -> Result<(&str, Entry), String> {
    if let Some((path, digest)) = text.rsplit_once('@')
        && digest.contains(':')
        && !digest.contains('/')
    {
        let digest: Digest = digest.parse().map_err(|error| format!("{error}"))?;
        return Ok((path, Entry::Digest(digest)));
    }
    match text.split_once(':') {
        Some((_, "")) => Err("the name after the last colon is empty".into()),
        Some((path, name)) => Ok((path, Entry::Named(name.to_owned()))),
        None => Ok((text, Entry::Only)),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "docker://{reference}"),
            Self::Layout { path, entry } => {
                write!(f, "oci:{}", path.display())?;
                match entry {
                    Entry::Only => Ok(()),
                    Entry::Named(name) => write!(f, ":{name}"),
                    Entry::Digest(digest) => write!(f, "@{digest}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_they_are_written() {
        let hex = "a".repeat(64);
        let by_digest = format!("oci:some/dir@sha256:{hex}");
        for text in [
            "docker://localhost:5000/a/b:1",
            "docker://[::1]:5000/a/b:1",
            "oci:some/dir",
            "oci:/some/dir:name",
            "oci:some/dir:host.example/name:tag",
            &by_digest,
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), text);
        }
        let familiar: Location = "docker://busybox".parse().unwrap();
        assert_eq!(familiar.to_string(), "docker://docker.io/library/busybox:latest");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("", "names no transport"),
            ("busybox", "names no transport"),
            ("dir:x", "names no transport"),
            ("oci:", "path of the layout is missing"),
            ("oci::tag", "path of the layout is missing"),
            ("oci:x:", "is empty"),
            ("oci:x@sha256:123", "digest"),
            ("docker://UPPER/x", "UPPER"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
