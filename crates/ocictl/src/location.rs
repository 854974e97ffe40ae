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
    /// In files.
    Files { form: Form, path: PathBuf, entry: Entry },
}

/// The form that files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An OCI image layout in a directory.
    Layout,
    /// The same in a tar archive.
    Archive,
    /// One image or list in a directory, as skopeo writes it.
    Directory,
    /// What `docker save` writes.
    DockerArchive,
}

const FORMS: [(&str, Form); 4] = [
    ("oci:", Form::Layout),
    ("oci-archive:", Form::Archive),
    ("dir:", Form::Directory),
    ("docker-archive:", Form::DockerArchive),
];

/// What of the files is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The only entry; as a destination, an entry without a name.
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
        let found =
            FORMS.iter().find_map(|(prefix, form)| Some((text.strip_prefix(prefix)?, *form)));
        let Some((rest, form)) = found else {
            let start: String = text.chars().take(40).collect();
            return Err(format!(
                "{start:?} names no transport: expected docker://host/name:tag, oci:path:name, oci-archive:path:name, \
                 dir:path or docker-archive:path:name"
            ));
        };
        let (path, entry) = match form {
            Form::Directory => (rest, Entry::Only),
            _ => split_path(rest)?,
        };
        if path.is_empty() {
            return Err("the path is missing: expected, for example, oci:path:name".into());
        }
        Ok(Self::Files { form, path: path.into(), entry })
    }
}

/// A path ends at an `@` before a digest, or else at the first colon.
fn split_path(text: &str) -> Result<(&str, Entry), String> {
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
            Self::Files { form, path, entry } => {
                let prefix =
                    FORMS.iter().find(|(_, known)| known == form).map_or("", |(prefix, _)| prefix);
                write!(f, "{prefix}{}", path.display())?;
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
            "oci-archive:a.tar:name",
            "dir:some/dir:with:colons",
            "docker-archive:a.tar:busybox:1.36",
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
            ("tar:x", "names no transport"),
            ("oci:", "path is missing"),
            ("oci::tag", "path is missing"),
            ("oci:x:", "is empty"),
            ("oci:x@sha256:123", "digest"),
            ("docker://UPPER/x", "UPPER"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
