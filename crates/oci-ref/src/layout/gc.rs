//! Removing what nothing in a layout references.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci_spec_types::Digest;

use super::disk::Disk;
use super::references::{Contents, reachable};
use super::{Layout, marker};
use crate::files::remove_left;
use crate::{Error, Result};

/// How to collect garbage in a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Whether nothing is removed: the result says what would be.
    pub dry_run: bool,
    /// Blobs that were written within this time are kept, referenced or not. Somebody may be about to store a manifest
    /// that references them; if one of its blobs is removed meanwhile, storing it fails and must be begun again.
    pub min_age: Duration,
}

/// What a garbage collection has removed, or for a dry run what it would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Blobs and manifests.
    pub blobs: u64,
    /// Temporary files that writers have left behind which ended before their time, and parts of blobs that nobody has
    /// gone on with for a day.
    pub temporary: u64,
    /// The bytes of all these.
    pub bytes: u64,
}

impl Layout {
    /// Removes the blobs that nothing references which `index.json` lists, directly or not.
    ///
    /// What a manifest names as its subject is kept with it. Of documents whose type is not known every digest counts
    /// that is written in them. Files that are not named by a digest are left alone, as are temporary files that
    /// somebody writes to. This process and others can read meanwhile; changes of `index.json` wait. Other programs
    /// that know nothing of the lock must not write meanwhile.
    ///
    /// # Errors
    /// `UNSUPPORTED` if the layout shares its blobs with others. If a manifest cannot be read, what it references is
    /// not known, so nothing is removed.
    pub async fn gc(&self, options: GcOptions) -> Result<Collected> {
        self.blocking(move |disk| disk.gc(&options)).await
    }
}

impl Disk {
    fn gc(&self, options: &GcOptions) -> Result<Collected> {
        if let Some(shared) = &self.options().shared_blobs {
            return Err(Error::unsupported(format!(
                "layouts share the blobs in {}, where nothing is removed",
                shared.display()
            )));
        }
        let _lock = marker::lock(self.root())?;
        let kept = reachable(self, &*self.read_index()?)?;
        let mut sweep = Sweep { kept, options, removed: Collected::default() };
        let blobs = self.blobs();
        let swept = sweep.temporary_files(self.root()).and_then(|()| {
            sweep.temporary_files(blobs)?;
            for algorithm in directory(blobs)? {
                let algorithm = algorithm?;
                if algorithm.file_type()?.is_dir() {
                    sweep.blobs(&algorithm)?;
                }
            }
            Ok(())
        });
        swept.map_err(|error| {
            let message = format!("layout {}: garbage cannot be removed", self.root().display());
            Error::io(message, error)
        })?;
        Ok(sweep.removed)
    }
}

struct Sweep<'a> {
    kept: Contents,
    options: &'a GcOptions,
    removed: Collected,
}

impl Sweep<'_> {
    /// Removes the blobs that are not kept, in the directory of an algorithm.
    fn blobs(&mut self, algorithm: &DirEntry) -> io::Result<()> {
        let name = algorithm.file_name();
        for entry in directory(&algorithm.path())? {
            let entry = entry?;
            let digest = format!("{}:{}", name.display(), entry.file_name().display());
            let Ok(digest) = digest.parse::<Digest>() else { continue };
            if self.kept.contains(&digest) || !entry.file_type()?.is_file() {
                continue;
            }
            if let Some(size) = self.remove(&entry, self.options.min_age)? {
                self.removed.blobs += 1;
                self.removed.bytes += size;
            }
        }
        Ok(())
    }

    /// Removes the temporary files in a directory that nobody writes to.
    fn temporary_files(&mut self, path: &Path) -> io::Result<()> {
        let left = remove_left(path, self.options.dry_run)?;
        self.removed.temporary += left.files;
        self.removed.bytes += left.bytes;
        Ok(())
    }

    /// Removes a file if it is old enough, and gives its size. `None` if it stays, or is gone already.
    fn remove(&self, entry: &DirEntry, min_age: Duration) -> io::Result<Option<u64>> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // A time in the future says as little as none.
        let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
        if age < min_age {
            return Ok(None);
        }
        if !self.options.dry_run {
            match fs::remove_file(entry.path()) {
                Ok(()) => {}
                Err(error) if gone(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(found.len()))
    }
}

/// The entries of a directory; none if it is not there.
fn directory(path: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten())
}
