//! `dir:`, one image or list in a directory, as containers/image writes it.
//!
//! - `files.rs`: what lies where.
//! - `read.rs`, `write.rs`: [`Source`](crate::Source) and [`Store`](crate::Store).

mod files;
mod read;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest};

use crate::Result;
use crate::files::blocking;
use files::Files;

/// How to use a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryOptions {
    /// Whether a write that has returned survives a power cut: files and directories are synced before they are named.
    pub sync: bool,
    /// Whether to take indexes whose manifests are not all there.
    pub sparse: bool,
}

/// One image or list in a directory, as containers/image writes it for `dir:`.
///
/// `manifest.json` is the image or list, the *root*. The manifests of a list are `<hex>.manifest.json`, blobs are
/// `<hex>`, detached signatures `signature-1` and so on for the root, `<hex>.signature-1` for other manifests, and
/// `version` says what this is.
///
/// There are no tags. A manifest that is asked for by a tag, whatever tag, is the root, and none are listed. A manifest
/// that is stored with tags becomes the root; so does one that is stored without, if there is no root yet, or it lists
/// the root: what is copied into an empty directory ends as its root. [`set_root`](Self::set_root) chooses another. What
/// was the root before stays as one of the other manifests. Conditions on tags are not supported.
///
/// Media types are kept only in the manifests, so a manifest is refused that does not tell its own. Writers exclude each
/// other by a lock on `version`, readers need none.
///
/// Parts of blobs stay as in a [`Layout`](crate::Layout), as `.partial-ALGORITHM-HEX`.
///
/// Clones share the directory. All methods must run on a tokio runtime.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("image");
/// use oci_ref::{Directory, Manifest, Precondition, Source, Store};
///
/// let directory = Directory::create(&path).await?;
/// let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let index = Manifest::parse(index.as_slice().into(), None, None)?;
/// directory.put_manifest(&index, &[], &Precondition::None).await?;
///
/// let again = Directory::open(&path).await?;
/// assert_eq!(again.root().await?.digest, *index.digest());
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Directory {
    files: Arc<Files>,
}

impl Directory {
    /// Opens a directory that has a manifest, or the file `version`. `NAME_UNKNOWN` if it has neither, `UNSUPPORTED` if
    /// it is of another version than 1.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path, DirectoryOptions::default()).await
    }

    /// Opens a directory, with options.
    pub async fn open_with(path: impl Into<PathBuf>, options: DirectoryOptions) -> Result<Self> {
        let directory = Self { files: Arc::new(Files::new(path.into(), options)) };
        directory.blocking(Files::check).await?;
        Ok(directory)
    }

    /// Makes a directory without a manifest, with its parents if they are not there. One that is there already is opened
    /// as it is, but for temporary files that writers left behind; other directories must be empty.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self> {
        Self::create_with(path, DirectoryOptions::default()).await
    }

    /// Makes a directory, or opens the one that is there, with options.
    pub async fn create_with(path: impl Into<PathBuf>, options: DirectoryOptions) -> Result<Self> {
        let directory = Self { files: Arc::new(Files::new(path.into(), options)) };
        directory.blocking(Files::create).await?;
        Ok(directory)
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// The descriptor of the root. `MANIFEST_UNKNOWN` if there is none.
    pub async fn root(&self) -> Result<Descriptor> {
        let root = self.blocking(|files| files.root()?.ok_or_else(|| files.no_root())).await?;
        Ok(root.descriptor().clone())
    }

    /// Makes a manifest the root that is in the directory. `MANIFEST_UNKNOWN` if it is not.
    pub async fn set_root(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.blocking(move |files| files.set_root(&digest)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = self.files.clone();
        blocking(move || work(&files)).await
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Directory").field(&self.files.path()).finish()
    }
}
