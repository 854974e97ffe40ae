//! The storage directory of a distribution registry (`registry:2`, `registry:3`), read.
//!
//! - `files.rs`: what lies where, and that nothing outside the directory is read.
//! - `list.rs`: which repositories there are, and what each holds.
//! - `read.rs`: a repository as [`Source`](crate::Source).

mod files;
mod list;
mod read;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec_types::Name;

use crate::Result;
use crate::files::blocking;
use files::Files;

pub use list::{DistributionContents, DistributionRepositories};

/// The storage directory of a distribution registry, as its file system driver writes it, to read from.
///
/// It is the registry's `rootdirectory`, which has `docker/registry/v2` in it. A registry need not be stopped to read from its
/// directory, as long as it does not collect garbage meanwhile; what is pushed later may or may not be seen.
///
/// Nothing in the directory is trusted: a manifest is verified when it is read, a blob while it is, names are checked
/// before they become paths, and a symbolic link that leads out of the directory is not followed. Clones share what they
/// know.
///
/// ```no_run
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use oci_ref::{CopyOptions, DistributionDirectory, Memory, copy};
/// use oci_spec_types::Tag;
///
/// let directory = DistributionDirectory::open("/var/lib/registry").await?;
/// let latest: Tag = "latest".parse().unwrap();
/// for name in directory.repositories().await?.names {
///     let from = Arc::new(directory.repository(&name));
///     let options = CopyOptions { tags: vec![latest.clone()], ..CopyOptions::default() };
///     copy(from, &latest.clone().into(), Arc::new(Memory::new()), options).await?;
/// }
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct DistributionDirectory {
    files: Arc<Files>,
}

/// A repository in the storage directory of a distribution registry.
///
/// What it gives is what that registry would give: a manifest or blob that is stored, but not linked into the repository,
/// is not there. A blob that is read from its beginning to its end is verified; the error for one that is damaged
/// ([`Internal`](crate::ErrorKind::Internal)) names its file. Docker schema 1 manifests are an error
/// ([`ManifestError::Schema1`](crate::ManifestError::Schema1)). Tags whose names are not allowed are not listed.
///
/// Distribution keeps no list of referrers, so each question for them reads all manifests of the repository.
#[derive(Clone)]
pub struct DistributionRepository {
    files: Arc<Files>,
    name: Name,
}

impl DistributionDirectory {
    /// Opens a storage directory: one that has `docker/registry/v2/repositories` in it, or that `v2` itself.
    /// [`Invalid`](crate::ErrorKind::Invalid) if it is neither.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let files = blocking(move || Files::open(&path)).await?;
        Ok(Self { files: Arc::new(files) })
    }

    /// The repositories that hold manifests, by name.
    pub async fn repositories(&self) -> Result<DistributionRepositories> {
        let files = self.files.clone();
        blocking(move || list::repositories(&files)).await
    }

    /// A repository. Whether it is there shows when it is read.
    pub fn repository(&self, name: &Name) -> DistributionRepository {
        DistributionRepository { files: self.files.clone(), name: name.clone() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.files.path()
    }
}

impl DistributionRepository {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// All its manifests, with their tags.
    pub async fn contents(&self) -> Result<DistributionContents> {
        self.blocking(list::contents).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files, &Name) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Self { files, name } = self.clone();
        blocking(move || work(&files, &name)).await
    }
}

impl fmt::Debug for DistributionDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DistributionDirectory").field(&self.path()).finish()
    }
}

impl fmt::Debug for DistributionRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DistributionRepository").field(&self.name).finish()
    }
}
