//! What is to be in an archive, gathered in a layout beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::files::{TEMPORARY, blocking, directory_of};
use crate::{Error, Layout, LayoutOptions, Result, open_locked};

/// The file whose lock says that somebody gathers an archive.
const LOCK: &str = "lock";

/// A layout in a temporary directory beside the file that an archive will be.
pub(crate) struct Staging {
    /// The layout.
    pub(crate) layout: Layout,
    /// The file that the archive will be.
    pub(crate) path: PathBuf,
    /// Whether the archive is synced before it is named.
    pub(crate) sync: bool,
    directory: TempDir,
    _lock: Option<File>,
}

impl Staging {
    /// Makes it. What writers of the same archive have left behind which ended before their time
    /// is removed.
    pub(crate) async fn create(path: PathBuf, sync: bool, sparse: bool) -> Result<Arc<Self>> {
        let beside = path.clone();
        let make = move || {
            begin(&beside).map_err(|error| {
                let message = format!("archive {} cannot be begun", beside.display());
                Error::io(message, error)
            })
        };
        let (directory, lock) = blocking(make).await?;
        let options = LayoutOptions { sparse, ..LayoutOptions::default() };
        let layout = Layout::create_with(directory.path().join("layout"), options).await?;
        Ok(Arc::new(Self { layout, path, sync, directory, _lock: lock }))
    }

    /// The directory in which the archive is written before it has its name.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The error for an archive that cannot be written.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("archive {} cannot be written", self.path.display()), error)
    }
}

/// Makes the directory for an archive.
fn begin(path: &Path) -> io::Result<(TempDir, Option<File>)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Names have at most 255 bytes.
    let name: String = name.chars().take(50).collect();
    let prefix = format!("{TEMPORARY}{name}.");
    remove_left(path, prefix.as_bytes());
    loop {
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(directory_of(path))?;
        match open_locked(&directory.path().join(LOCK)) {
            Ok(Some(lock)) => return Ok((directory, Some(lock))),
            // Before it was locked, somebody has taken it for one that was left behind.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Where files cannot be locked, nobody removes what was left behind.
            Err(_) => return Ok((directory, None)),
        }
    }
}

/// Removes the directories that earlier writers of an archive have left behind. That this fails
/// does not matter.
fn remove_left(path: &Path, prefix: &[u8]) {
    let Ok(entries) = fs::read_dir(directory_of(path)) else { return };
    for entry in entries.flatten() {
        let is_directory = entry.file_type().is_ok_and(|found| found.is_dir());
        if is_directory
            && entry.file_name().as_encoded_bytes().starts_with(prefix)
            && let Ok(Some(_lock)) = open_locked(&entry.path().join(LOCK))
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Reads what is gathered for an archive.
macro_rules! source_of_staging {
    ($writer:ty) => {
        #[async_trait::async_trait]
        impl $crate::Source for $writer {
            async fn resolve(
                &self,
                target: &$crate::Target,
            ) -> $crate::Result<oci_spec_types::Descriptor> {
                self.staging.layout.resolve(target).await
            }

            async fn manifest(&self, target: &$crate::Target) -> $crate::Result<$crate::Manifest> {
                self.staging.layout.manifest(target).await
            }

            async fn blob_size(
                &self,
                digest: &oci_spec_types::Digest,
            ) -> $crate::Result<Option<u64>> {
                self.staging.layout.blob_size(digest).await
            }

            async fn blob(
                &self,
                digest: &oci_spec_types::Digest,
                range: $crate::ByteRange,
            ) -> $crate::Result<$crate::BlobRead> {
                self.staging.layout.blob(digest, range).await
            }

            async fn tags(
                &self,
                after: Option<&$crate::Cursor>,
                limit: usize,
            ) -> $crate::Result<$crate::Page<oci_spec_types::Tag>> {
                self.staging.layout.tags(after, limit).await
            }

            async fn referrers(
                &self,
                subject: &oci_spec_types::Digest,
                artifact_type: Option<&str>,
                after: Option<&$crate::Cursor>,
                limit: usize,
            ) -> $crate::Result<$crate::Referrers> {
                self.staging.layout.referrers(subject, artifact_type, after, limit).await
            }
        }
    };
}
pub(crate) use source_of_staging;
