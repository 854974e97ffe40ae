//! Lookaside storage: the place of a registry's detached signatures by the configuration of
//! containers (`containers-registries.d(5)`).
//!
//! They are not read: they are only told of, so that nobody takes them for copied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use oci_spec_types::{Host, Reference};
use yaml_rust2::{Yaml, YamlLoader};

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The place of an image's signatures, if the configuration names one: the user's, or else the
/// system's.
pub(crate) fn of(reference: &Reference) -> Result<Option<String>, String> {
    let user = std::env::home_dir().map(|home| home.join(".config/containers/registries.d"));
    let system = PathBuf::from("/etc/containers/registries.d");
    let directory = user.filter(|user| user.is_dir()).unwrap_or(system);
    Ok(Places::read(&directory)?.of(reference))
}

/// The places that the files of a directory name.
#[derive(Debug, Default)]
struct Places {
    /// By what begins the references of images.
    docker: BTreeMap<String, String>,
    default: Option<String>,
}

impl Places {
    fn read(directory: &Path) -> Result<Self, String> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            format!("{} cannot be read: {error}", path.display())
        };
        let mut files = match fs::read_dir(directory) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
                .map_err(|error| failed(directory, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(directory, &error)),
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        let mut places = Self::default();
        for path in files {
            let text = read(&path).map_err(|error| failed(&path, &error))?;
            places.add(&text).map_err(|error| failed(&path, &error))?;
        }
        Ok(places)
    }

    /// Adds what a file says. What another has said stays.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let documents = YamlLoader::load_from_str(text).map_err(|error| error.to_string())?;
        for document in documents {
            if let Some(place) = place(&document["default-docker"]) {
                self.default.get_or_insert(place);
            }
            for (scope, section) in document["docker"].as_hash().into_iter().flatten() {
                if let (Some(scope), Some(place)) = (scope.as_str(), place(section)) {
                    self.docker.entry(scope.to_owned()).or_insert(place);
                }
            }
        }
        Ok(())
    }

    fn of(&self, reference: &Reference) -> Option<String> {
        let found = scopes(reference).find_map(|scope| self.docker.get(&scope));
        found.or(self.default.as_ref()).cloned()
    }
}

fn read(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > LIMIT {
        let message = format!("it has {size} bytes, more than {LIMIT}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    fs::read_to_string(path)
}

/// The storage that a section names to read from, by today's key or the older one.
fn place(section: &Yaml) -> Option<String> {
    let named = |key: &str| section[key].as_str().filter(|place| !place.is_empty());
    named("lookaside").or(named("sigstore")).map(str::to_owned)
}

/// The scopes of sections that hold for a reference, the closest first.
fn scopes(reference: &Reference) -> impl Iterator<Item = String> {
    let (host, name) = (reference.host(), reference.name().as_str());
    let repository = format!("{host}/{name}");
    let mut scopes: Vec<String> = vec![reference.to_string()];
    scopes.extend(reference.tag().map(|tag| format!("{repository}:{tag}")));
    let mut rest = repository.as_str();
    loop {
        scopes.push(rest.to_owned());
        match rest.rsplit_once('/') {
            Some((parent, _)) => rest = parent,
            None => break,
        }
    }
    scopes.extend(wildcards(host));
    scopes.into_iter()
}

/// The wildcards of the domains in which a host is: `*.example.com`.
fn wildcards(host: &Host) -> Vec<String> {
    let mut rest = host.as_str();
    let mut found = Vec::new();
    while let Some((_, domain)) = rest.split_once('.') {
        found.push(format!("*.{domain}"));
        rest = domain;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After the examples of `containers-registries.d(5)`.
    // covers: C11
    #[test]
    fn the_closest_section_that_names_a_place_counts() {
        let mut places = Places::default();
        for text in [
            "# nothing\n",
            "docker:\n  r.example:\n    sigstore: https://older\n    sigstore-staging: file:///s\n  \
             r.example/team:\n    lookaside: https://team\n    sigstore: https://not-this\n  \
             r.example/team/app:\n    lookaside-staging: file:///only-to-write\n  \
             r.example/team/app:1:\n    lookaside: https://tag\n  '*.wild.example':\n    \
             lookaside: https://wild\n",
            "docker:\n  r.example:\n    lookaside: https://later\n  odd: 1\n",
        ] {
            places.add(text).unwrap();
        }
        for (reference, place) in [
            ("r.example/other:1", Some("https://older")),
            ("r.example/team/app:2", Some("https://team")),
            ("r.example/team/app:1", Some("https://tag")),
            ("r.example/teams/app:1", Some("https://older")),
            ("a.b.wild.example/app:1", Some("https://wild")),
            ("wild.example/app:1", None),
            ("r.example:5000/team/app:1", None),
        ] {
            let found = places.of(&reference.parse().unwrap());
            assert_eq!(found.as_deref(), place, "{reference}");
        }
        places.add("default-docker:\n  lookaside: https://default\n").unwrap();
        let found = places.of(&"else.example/app:1".parse().unwrap());
        assert_eq!(found.as_deref(), Some("https://default"));
        for odd in ["- a list", "docker: text", "default-docker: [1]", ""] {
            let mut places = Places::default();
            places.add(odd).unwrap();
            assert_eq!(places.of(&"r.example/app:1".parse().unwrap()), None, "{odd}");
        }
        Places::default().add("docker: [").unwrap_err();
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::read(&directory.path().join("none")).unwrap();
        assert!(places.docker.is_empty());
        fs::write(directory.path().join("a.yaml"), "docker: [").unwrap();
        fs::write(directory.path().join("b.yml"), "docker: [").unwrap();
        let error = Places::read(directory.path()).unwrap_err();
        assert!(error.contains("a.yaml cannot be read"), "{error}");
        fs::write(directory.path().join("a.yaml"), " ".repeat(2 << 20)).unwrap();
        let error = Places::read(directory.path()).unwrap_err();
        assert!(error.contains("2097152 bytes"), "{error}");
    }
}
