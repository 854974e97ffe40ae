//! References as the tool's users write them: `docker://…` and `oci:…`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_spec_types::{Digest, Host, Name, Reference};

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

/// A registry, and what comes before the names of repositories in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegistryPlace {
    pub(crate) host: Host,
    pub(crate) prefix: Option<Name>,
}

impl RegistryPlace {
    /// Where a repository is. An error if its name becomes too long.
    pub(crate) fn repository(&self, name: &Name) -> Result<Reference, String> {
        let name = match &self.prefix {
            Some(prefix) => {
                let name = format!("{prefix}/{name}").parse();
                name.map_err(|error: oci_spec_types::NameError| error.to_string())?
            }
            None => name.clone(),
        };
        Ok(Reference::new(self.host.clone(), name))
    }
}

impl FromStr for RegistryPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("docker://")
            .ok_or("expected a registry, as docker://HOST or docker://HOST/PREFIX")?;
        let (host, prefix) = match rest.trim_end_matches('/').split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (rest.trim_end_matches('/'), None),
        };
        let prefix = prefix.map(|prefix| {
            prefix.parse().map_err(|error: oci_spec_types::NameError| {
                format!("{error}; all tags are copied, so there is none here")
            })
        });
        Ok(Self {
            host: host.parse().map_err(|error: oci_spec_types::HostError| error.to_string())?,
            prefix: prefix.transpose()?,
        })
    }
}

impl fmt::Display for RegistryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker://{}", self.host)?;
        match &self.prefix {
            Some(prefix) => write!(f, "/{prefix}"),
            None => Ok(()),
        }
    }
}

/// The path that stands for the standard input in the place of an archive's.
pub(crate) const STDIN: &str = "-";

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

impl Location {
    /// The registry in which this place is, if it is in one.
    pub(crate) fn host(&self) -> Option<&Host> {
        match self {
            Self::Registry(reference) => Some(reference.host()),
            Self::Files { .. } => None,
        }
    }

    /// True if it is an archive that comes from the standard input.
    pub(crate) fn is_stream(&self) -> bool {
        match self {
            Self::Files { form: Form::Archive | Form::DockerArchive, path, .. } => {
                path.as_os_str() == STDIN
            }
            _ => false,
        }
    }

    /// True if it is a `docker-archive:`.
    pub(crate) fn is_docker_archive(&self) -> bool {
        matches!(self, Self::Files { form: Form::DockerArchive, .. })
    }

    /// True if it is an OCI image layout, in a directory or an archive.
    pub(crate) fn is_layout(&self) -> bool {
        matches!(self, Self::Files { form: Form::Layout | Form::Archive, .. })
    }
}

/// Refuses what is a registry alone: it would be taken for a repository of Docker Hub with a tag.
fn refuse_bare_host(reference: &str) -> Result<(), String> {
    if reference.contains(['/', '@']) {
        return Ok(());
    }
    let (name, port) = match reference.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (reference, None),
    };
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let is_host = reference.parse::<Host>().is_ok_and(|host| host.is_loopback())
        || (name.contains('.') && (port.is_none() || is_port));
    match is_host {
        true => Err(format!(
            "{reference} is a registry; the repository is missing: docker://{reference}/NAME:TAG"
        )),
        false => Ok(()),
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(reference) = text.strip_prefix("docker://") {
            refuse_bare_host(reference)?;
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
        let numbered: Location = "docker://busybox:1.36".parse().unwrap();
        assert_eq!(numbered.to_string(), "docker://docker.io/library/busybox:1.36");
    }

    #[test]
    fn a_registry_and_a_prefix() {
        let name = "a/b".parse().unwrap();
        for (text, shown, repository) in [
            ("docker://localhost:5000", "docker://localhost:5000", "localhost:5000/a/b"),
            ("docker://r.example/", "docker://r.example", "r.example/a/b"),
            ("docker://r.example/old/x", "docker://r.example/old/x", "r.example/old/x/a/b"),
        ] {
            let place: RegistryPlace = text.parse().unwrap();
            assert_eq!(place.to_string(), shown);
            assert_eq!(place.repository(&name).unwrap().to_string(), repository);
        }
        for text in [
            "",
            "r.example",
            "oci:x",
            "docker://",
            "docker:///x",
            "docker://r.example/X",
            "docker://r.example/x:tag",
        ] {
            text.parse::<RegistryPlace>().unwrap_err();
        }
        let long: RegistryPlace =
            format!("docker://r.example/{}", "x".repeat(253)).parse().unwrap();
        long.repository(&name).unwrap_err();
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
            ("docker://127.0.0.1:6501", "the repository is missing"),
            ("docker://localhost", "the repository is missing"),
            ("docker://[::1]:5000", "the repository is missing"),
            ("docker://registry.example", "the repository is missing"),
            ("docker://registry.example:5000", "the repository is missing"),
        ] {
            let error = text.parse::<Location>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
