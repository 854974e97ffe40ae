//! Which repositories there are, and what each holds.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec_types::{Digest, Name, Tag};

use super::files::{Entry, Files, link_of, repository, revisions, tags, unknown_repository};
use crate::Result;

/// The repositories in a storage directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DistributionRepositories {
    /// Their names, in order.
    pub names: Vec<Name>,
    /// What is there and is no repository: what it is, and why it cannot be one.
    pub problems: Vec<String>,
}

/// What a repository in a storage directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DistributionContents {
    /// All manifests, each with the tags that name it.
    pub manifests: BTreeMap<Digest, Vec<Tag>>,
    /// What is there and cannot be read, such as a tag of a manifest that is not there.
    pub problems: Vec<String>,
}

/// Finds the directories that have `_manifests` in them.
pub(super) fn repositories(files: &Files) -> Result<DistributionRepositories> {
    let mut found = DistributionRepositories::default();
    let mut waiting: Vec<Option<Name>> = vec![None];
    while let Some(parent) = waiting.pop() {
        let place = match &parent {
            Some(name) => repository(name),
            None => Path::new("repositories").to_owned(),
        };
        let entries = match files.list(&place) {
            Ok(entries) => entries,
            // One directory that cannot be read is no reason not to read the others.
            Err(error) if parent.is_some() => {
                found.problems.push(error.chain());
                continue;
            }
            Err(error) => return Err(error),
        };
        for (entry, kind) in entries {
            match &parent {
                Some(name) if entry == "_manifests" => found.names.push(name.clone()),
                // Layers and uploads; nothing else begins so, not even a repository.
                _ if entry.starts_with('_') => {}
                _ => match name_of(parent.as_ref(), &entry, kind) {
                    Ok(name) => waiting.push(Some(name)),
                    Err(why) => {
                        found.problems.push(format!("{}: {why}", place.join(entry).escape()))
                    }
                },
            }
        }
    }
    found.names.sort_unstable();
    found.problems.sort_unstable();
    Ok(found)
}

/// The name of what may be a repository, or above some. Names are bounded, so that directories cannot be too deep.
fn name_of(parent: Option<&Name>, entry: &str, kind: Entry) -> Result<Name, String> {
    if kind != Entry::Directory {
        return Err("not a directory".into());
    }
    let name = match parent {
        Some(parent) => format!("{parent}/{entry}"),
        None => entry.to_owned(),
    };
    name.parse().map_err(|error: oci_spec_types::NameError| error.to_string())
}

pub(super) fn contents(files: &Files, name: &Name) -> Result<DistributionContents> {
    let mut found = DistributionContents::default();
    let algorithms = files.list(&revisions(name))?;
    let tagged = files.list(&tags(name))?;
    if algorithms.is_empty() && tagged.is_empty() && files.list(&repository(name))?.is_empty() {
        return Err(unknown_repository(name));
    }
    for (algorithm, _) in algorithms {
        let place = revisions(name).join(&algorithm);
        let entries = match files.list(&place) {
            Ok(entries) => entries,
            Err(error) => {
                found.problems.push(error.chain());
                continue;
            }
        };
        for (encoded, _) in entries {
            let digest = match format!("{algorithm}:{encoded}").parse::<Digest>() {
                Ok(digest) => digest,
                Err(error) => {
                    found.problems.push(format!("{}: {error}", place.join(encoded).escape()));
                    continue;
                }
            };
            match files.link(&link_of(&revisions(name), &digest)) {
                Ok(Some(_)) => {
                    found.manifests.insert(digest, Vec::new());
                }
                // Deleted: the link goes, its directory stays.
                Ok(None) => {}
                Err(error) => found.problems.push(error.chain()),
            }
        }
    }
    for (entry, _) in tagged {
        if let Err(problem) = add_tag(files, name, &entry, &mut found.manifests) {
            found.problems.push(problem);
        }
    }
    found.problems.sort_unstable();
    Ok(found)
}

fn add_tag(
    files: &Files,
    name: &Name,
    entry: &str,
    manifests: &mut BTreeMap<Digest, Vec<Tag>>,
) -> Result<(), String> {
    let tag: Tag =
        entry.parse().map_err(|error| format!("{}: {error}", tags(name).join(entry).escape()))?;
    let Some(digest) = files.tag(name, &tag).map_err(|error| error.chain())? else {
        // Deleted, or being made.
        return Ok(());
    };
    if let Some(known) = manifests.get_mut(&digest) {
        known.push(tag);
        known.sort_unstable();
        return Ok(());
    }
    match files.manifest(name, &digest).map_err(|error| error.chain())? {
        Some(_) => {
            manifests.insert(digest, vec![tag]);
            Ok(())
        }
        None => Err(format!("tag {tag} names {digest}, which is not in the repository")),
    }
}

/// Whoever filled the directory chose the names in it, and a terminal may take them for more than text.
trait Escape {
    fn escape(&self) -> String;
}

impl Escape for Path {
    fn escape(&self) -> String {
        self.display().to_string().escape_debug().to_string()
    }
}
