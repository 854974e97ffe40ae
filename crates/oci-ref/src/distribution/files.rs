//! The files of the directory: `blobs` has the content of all repositories, `repositories` has a tree of links for each.
//!
//! ```text
//! blobs/<algorithm>/<first two letters>/<hex>/data
//! repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
//! repositories/<name>/_manifests/tags/<tag>/current/link
//! repositories/<name>/_layers/<algorithm>/<hex>/link
//! ```
//! A `link` is a file with a digest in it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use oci_spec_types::{Digest, ErrorCode, Name, Tag};

use crate::files::{Part, read_limited};
use crate::layout::view::{DOCUMENT_LIMIT, unknown_blob};
use crate::{Error, ErrorKind, Result};

const REPOSITORIES: &str = "repositories";

/// The most that a link may have. The longest digest known has 135 bytes.
const LINK_LIMIT: u64 = 1024;

pub(super) struct Files {
    /// `docker/registry/v2`, without symbolic links in it.
    root: PathBuf,
    /// Blobs that turned out to be damaged, and what is wrong with them, so that they are not read again and again.
    damaged: Mutex<HashMap<Digest, String>>,
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File,
    /// A symbolic link, or something else that has no place here.
    Other,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed =
            |error| Error::io(format!("directory {} cannot be read", path.display()), error);
        let given = fs::canonicalize(path).map_err(failed)?;
        for root in [given.join("docker/registry/v2"), given.clone()] {
            match fs::canonicalize(root.join(REPOSITORIES)) {
                Ok(found) if !found.starts_with(&given) => return Err(leads_out(&root)),
                Ok(_) => {
                    let root = fs::canonicalize(&root).map_err(failed)?;
                    return Ok(Self { root, damaged: Mutex::default() });
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let message = format!(
            "{} is not the storage directory of a distribution registry: there is no docker/registry/v2/repositories in it",
            path.display()
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// The path of something without symbolic links in it; `None` if it is not there.
    fn find(&self, relative: &Path) -> Result<Option<PathBuf>> {
        match fs::canonicalize(self.root.join(relative)) {
            Ok(path) if path.starts_with(&self.root) => Ok(Some(path)),
            Ok(_) => Err(leads_out(relative)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(relative, error)),
        }
    }

    /// The entries of a directory, those of one that is not there being none. A name that is not UTF-8 can be neither
    /// repository, tag nor digest, and is shown as well as it can be.
    pub(super) fn list(&self, relative: &Path) -> Result<Vec<(String, Entry)>> {
        let Some(path) = self.find(relative)? else { return Ok(Vec::new()) };
        let read = || {
            fs::read_dir(path)?
                .map(|entry| {
                    let entry = entry?;
                    let found = entry.file_type()?;
                    let found = match (found.is_dir(), found.is_file()) {
                        (true, _) => Entry::Directory,
                        (_, true) => Entry::File,
                        _ => Entry::Other,
                    };
                    Ok((entry.file_name().to_string_lossy().into_owned(), found))
                })
                .collect::<io::Result<Vec<_>>>()
        };
        read().map_err(|error| unreadable(relative, error))
    }

    /// The digest in a link; `None` if there is no such link.
    pub(super) fn link(&self, relative: &Path) -> Result<Option<Digest>> {
        let Some(path) = self.find(relative)? else { return Ok(None) };
        let name = relative.display().to_string();
        let Some(content) = read_limited(&path, &name, LINK_LIMIT)? else { return Ok(None) };
        let wrong = |cause: String| {
            Error::new(ErrorKind::Internal, format!("{name} should have a digest in it: {cause}"))
        };
        let text = std::str::from_utf8(&content).map_err(|error| wrong(error.to_string()))?;
        text.parse()
            .map(Some)
            .map_err(|error: oci_spec_types::DigestError| wrong(error.to_string()))
    }

    /// What a tag names.
    pub(super) fn tag(&self, name: &Name, tag: &Tag) -> Result<Option<Digest>> {
        self.link(&tags(name).join(tag.as_str()).join("current/link"))
    }

    /// Where the bytes of a manifest lie, if the repository has it. Long ago, manifests were linked as layers are.
    pub(super) fn manifest(&self, name: &Name, digest: &Digest) -> Result<Option<Digest>> {
        match self.link(&link_of(&revisions(name), digest))? {
            Some(found) => Ok(Some(found)),
            None => self.layer(name, digest),
        }
    }

    /// Where the bytes of a blob lie, if the repository has it.
    pub(super) fn layer(&self, name: &Name, digest: &Digest) -> Result<Option<Digest>> {
        self.link(&link_of(&repository(name).join("_layers"), digest))
    }

    /// The bytes of a blob.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Part>> {
        let relative = data_of(digest).ok_or_else(|| unknown_blob(digest))?;
        let Some(path) = self.find(&relative)? else { return Ok(None) };
        let open = || {
            // Asked first, because opening something else than a regular file may block.
            if !fs::metadata(&path)?.is_file() {
                return Err(io::Error::other("it is not a regular file"));
            }
            Part::whole(File::open(&path)?)
        };
        match open() {
            Ok(part) => Ok(Some(part)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(unreadable(&relative, error)),
        }
    }

    /// All bytes of a manifest.
    pub(super) fn document(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let Some(relative) = data_of(digest) else { return Ok(None) };
        match self.find(&relative)? {
            Some(path) => read_limited(&path, &relative.display().to_string(), DOCUMENT_LIMIT),
            None => Ok(None),
        }
    }

    /// Fails if a blob is known to be damaged.
    pub(super) fn check_undamaged(&self, digest: &Digest) -> Result<()> {
        match self.damaged().get(digest) {
            Some(message) => Err(Error::new(ErrorKind::Internal, message.clone())),
            None => Ok(()),
        }
    }

    /// The error for a blob whose bytes are not what they should be, which is remembered.
    pub(super) fn note_damaged(&self, digest: &Digest, stored: &Digest, cause: &Error) -> Error {
        let message = format!("{} is damaged: {cause}", data_name(stored));
        self.damaged().insert(digest.clone(), message.clone());
        Error::new(ErrorKind::Internal, message)
    }

    fn damaged(&self) -> MutexGuard<'_, HashMap<Digest, String>> {
        self.damaged.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A repository's name has neither `..` nor an empty component, so this is always below the root; so it is with tags and
/// digests below.
pub(super) fn repository(name: &Name) -> PathBuf {
    Path::new(REPOSITORIES).join(name.as_str())
}

pub(super) fn revisions(name: &Name) -> PathBuf {
    repository(name).join("_manifests/revisions")
}

pub(super) fn tags(name: &Name) -> PathBuf {
    repository(name).join("_manifests/tags")
}

pub(super) fn link_of(links: &Path, digest: &Digest) -> PathBuf {
    links.join(digest.algorithm()).join(digest.encoded()).join("link")
}

/// `None` for a digest that is too short to have a place.
fn data_of(digest: &Digest) -> Option<PathBuf> {
    let hex = digest.encoded();
    Some(Path::new("blobs").join(digest.algorithm()).join(hex.get(..2)?).join(hex).join("data"))
}

/// How errors name a blob's file.
pub(super) fn data_name(digest: &Digest) -> String {
    data_of(digest).map_or_else(|| digest.to_string(), |path| path.display().to_string())
}

/// Whether something is not there, be it that what should be the directory it is in is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(relative: &Path, error: io::Error) -> Error {
    Error::io(format!("{} cannot be read", relative.display()), error)
}

fn leads_out(path: &Path) -> Error {
    let message = format!(
        "{} leads out of the directory through a symbolic link, which is not followed",
        path.display()
    );
    Error::new(ErrorKind::Invalid, message)
}

/// The error for a repository without manifests.
pub(super) fn unknown_repository(name: &Name) -> Error {
    Error::new(ErrorCode::NameUnknown, format!("repository {name} is not in the directory"))
}
