//! What lies where in a layout: `index.json`, manifests, and blobs by digest.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_spec_types::Digest;
use tempfile::NamedTempFile;

use super::LayoutOptions;
use super::index::Entries;
use super::reach::Facts;
use super::view::{Blobs, DOCUMENT_LIMIT, check_size, no_index, parse_index};
use crate::files::{
    Part, Place, make_directory, name_file, partial, read_limited, remove_left, sync_directory_of,
    temporary, too_large,
};
use crate::{Error, ErrorKind, Manifest, Result};

/// The name of the list of entries.
pub(crate) const INDEX: &str = "index.json";

/// The files of one layout, and what is remembered of them.
pub(super) struct Disk {
    root: PathBuf,
    blobs: PathBuf,
    options: LayoutOptions,
    /// `index.json` as it was read last. It is used again while the file's bytes are the same.
    last_index: Mutex<Option<(Bytes, Arc<Entries>)>>,
    /// What is known of manifests by digest, which never changes.
    facts: Mutex<HashMap<Digest, Arc<Facts>>>,
}

impl Disk {
    pub(super) fn new(root: PathBuf, options: LayoutOptions) -> Self {
        Self {
            blobs: match &options.shared_blobs {
                Some(shared) => shared.clone(),
                None => root.join("blobs"),
            },
            root,
            options,
            last_index: Mutex::default(),
            facts: Mutex::default(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of blobs.
    pub(super) fn blobs(&self) -> &Path {
        &self.blobs
    }

    pub(super) fn options(&self) -> &LayoutOptions {
        &self.options
    }

    /// Reads `index.json`.
    pub(super) fn read_index(&self) -> Result<Arc<Entries>> {
        let bytes =
            read_limited(&self.root.join(INDEX), INDEX, DOCUMENT_LIMIT)?.ok_or_else(no_index)?;
        let mut last = self.last_index.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((known, entries)) = &*last
            && *known == bytes
        {
            return Ok(entries.clone());
        }
        let entries = Arc::new(parse_index(&bytes)?);
        *last = Some((bytes, entries.clone()));
        Ok(entries)
    }

    /// Replaces `index.json`. Only to be called under the lock.
    pub(super) fn write_index(&self, entries: &Entries) -> Result<()> {
        let bytes = entries.to_bytes().map_err(|error| {
            Error::new(ErrorKind::Internal, "index.json cannot be serialised").with_source(error)
        })?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(too_large(INDEX, bytes.len() as u64, DOCUMENT_LIMIT));
        }
        let failed = |error| Error::io("index.json cannot be replaced", error);
        let mut file = temporary(&self.root).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        name_file(file, &self.root.join(INDEX), self.options.sync).map_err(failed)
    }

    /// A digest has neither slashes nor two dots in a row, so this is always below the directory of blobs.
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.algorithm()).join(digest.encoded())
    }

    pub(super) fn failed(&self, digest: &Digest, doing: &str, error: io::Error) -> Error {
        Error::io(format!("{} cannot be {doing}", self.blob_name(digest)), error)
    }

    /// Writes a manifest's bytes under their digest.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        check_size(manifest)?;
        let written = self.temporary_blob().and_then(|mut file| {
            file.write_all(manifest.bytes())?;
            Ok(file)
        });
        let file = written.map_err(|error| self.failed(manifest.digest(), "written", error))?;
        self.name_blob(file, manifest.digest())
    }

    /// Removes a blob's file. `false` if there is none.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.failed(digest, "removed", error)),
        }
        if self.options.sync {
            sync_directory_of(&path).map_err(|error| self.failed(digest, "removed", error))?;
        }
        Ok(true)
    }

    /// Removes the files that writers have left behind which ended before their time. That this
    /// fails does not matter.
    pub(super) fn remove_left(&self) {
        let _ = remove_left(&self.root, false);
        if self.options.shared_blobs.is_none() {
            let _ = remove_left(&self.blobs, false);
        }
    }

    /// Makes the layout's directory, with one for blobs in it: every layout must have that.
    pub(super) fn make_directories(&self) -> Result<()> {
        let directory = self.root.join("blobs");
        make_directory(&directory, self.options.sync).map_err(|error| {
            Error::io(format!("directory {} cannot be made", directory.display()), error)
        })
    }
}

impl Blobs for Disk {
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match fs::metadata(self.blob_path(digest)) {
            Ok(found) if found.is_file() => Ok(Some(found.len())),
            Ok(_) => Err(Error::new(
                ErrorKind::Internal,
                format!("{} is not a regular file", self.blob_name(digest)),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(digest, "read", error)),
        }
    }

    fn blob_part(&self, digest: &Digest) -> Result<Option<Part>> {
        // Asked first, because opening something else than a regular file may block.
        if self.blob_size(digest)?.is_none() {
            return Ok(None);
        }
        match File::open(self.blob_path(digest)).and_then(Part::whole) {
            Ok(part) => Ok(Some(part)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(digest, "read", error)),
        }
    }

    fn document(&self, digest: &Digest) -> Result<Option<Bytes>> {
        read_limited(&self.blob_path(digest), &self.blob_name(digest), DOCUMENT_LIMIT)
    }

    /// Relative to the layout.
    fn blob_name(&self, digest: &Digest) -> String {
        let path = self.blob_path(digest);
        path.strip_prefix(&self.root).unwrap_or(&path).display().to_string()
    }

    fn facts(&self) -> &Mutex<HashMap<Digest, Arc<Facts>>> {
        &self.facts
    }
}

impl Place for Disk {
    fn temporary_blob(&self) -> io::Result<NamedTempFile> {
        make_directory(&self.blobs, self.options.sync)?;
        temporary(&self.blobs)
    }

    fn partial_blob(&self, digest: &Digest) -> io::Result<Option<NamedTempFile>> {
        make_directory(&self.blobs, self.options.sync)?;
        partial(&self.blobs, digest)
    }

    fn name_blob(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        let directory = self.blobs.join(digest.algorithm());
        make_directory(&directory, self.options.sync)
            .and_then(|()| name_file(file, &self.blob_path(digest), self.options.sync))
            .map_err(|error| self.failed(digest, "written", error))
    }
}
