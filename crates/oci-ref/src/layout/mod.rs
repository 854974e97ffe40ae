//! OCI image layouts on a local file system (image-spec, `image-layout.md`): the repository that is a directory.
//!
//! - `marker.rs`: the `oci-layout` file, which says that a directory is one, and carries the lock.
//! - `index.rs`: the entries of `index.json`, and how they change. No I/O.
//! - `disk.rs`: what lies where: `index.json`, manifests, blobs by digest.
//! - `view.rs`: what a layout holds, read from `index.json` and blobs, wherever these lie.
//! - `reach.rs`: what `index.json` lists, directly or through indexes.
//! - `names.rs`: names that need not be tags.
//! - `read.rs`, `write.rs`: [`Source`](crate::Source) and [`Store`](crate::Store).
//! - `references.rs`: every reference to content; `gc.rs` removes the rest, `fsck.rs` checks them,
//!   `pack.rs` gives them for an archive.

mod disk;
mod fsck;
mod gc;
pub(crate) mod index;
pub(crate) mod marker;
mod names;
#[cfg(feature = "tar")]
mod pack;
pub(crate) mod reach;
mod read;
pub(crate) mod references;
pub(crate) mod view;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec_types::{Descriptor, ErrorCode};

use crate::files::blocking;
use crate::{Error, Result};
use disk::Disk;

#[cfg(feature = "tar")]
pub(crate) use disk::INDEX;
pub use fsck::{LayoutCheck, LayoutProblem};
pub use gc::{Collected, GcOptions};
#[cfg(feature = "tar")]
pub(crate) use pack::Packed;

/// How to use a layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutOptions {
    /// Whether a write that has returned survives a power cut: files and directories are synced before they are
    /// named. Without it, what was written shortly before may be lost or empty after one.
    pub sync: bool,
    /// A directory of blobs that several layouts share, used in the place of the layout's own `blobs`. Nothing in it
    /// is ever removed.
    pub shared_blobs: Option<PathBuf>,
    /// Whether to take indexes whose manifests are not all there.
    pub sparse: bool,
}

/// An OCI image layout: a directory with the files `oci-layout` and `index.json`, and blobs named by their digests.
///
/// A manifest is in the layout if `index.json` lists it, or an index that is in the layout does. So a blob that happens
/// to be a manifest is none, and everything that was stored stays reachable until it is deleted: a manifest stored
/// without a tag has an entry without a name until an index that lists it is stored.
///
/// Several processes may write to one layout. Each change of `index.json` reads it anew under an exclusive lock on the
/// file `oci-layout`, and replaces it in one step; readers need no lock. Blobs are written to temporary files and get
/// their names once they have been verified. Of a blob of 1 MiB or more whose digest is known
/// ([`Store::put_blob`](crate::Store::put_blob)), what has come stays for a day when its writer ends, as
/// `.partial-ALGORITHM-HEX` beside the blobs, and the next writer goes on with it.
///
/// Names in `index.json` that are not valid tags are kept, can be [resolved](Self::resolve_name) and
/// [set](Self::set_name), but are not listed as tags. A name that a careless writer gave to several manifests is
/// an error which names them, until it is set anew; each can be read by its digest.
///
/// Clones share what they know of the layout. All methods must run on a tokio runtime.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("layout");
/// use oci_ref::{Layout, Manifest, Precondition, Source, Store};
/// use oci_spec_types::Tag;
///
/// let layout = Layout::create(&path).await?;
/// let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let index = Manifest::parse(index.as_slice().into(), None, None)?;
/// let latest: Tag = "latest".parse().unwrap();
/// layout.put_manifest(&index, &[latest.clone()], &Precondition::None).await?;
///
/// let again = Layout::open(&path).await?;
/// assert_eq!(again.manifest(&latest.into()).await?.bytes(), index.bytes());
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Layout {
    disk: Arc<Disk>,
}

/// An entry of a layout's `index.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutEntry {
    /// Its name (annotation `org.opencontainers.image.ref.name`), which need not be a valid tag.
    pub name: Option<String>,
    /// The entry as it stands there.
    pub descriptor: Descriptor,
}

impl Layout {
    /// Opens the layout in a directory. `NAME_UNKNOWN` if there is none, `UNSUPPORTED` if it has another version than
    /// 1.0.0, `MANIFEST_INVALID` if its `index.json` is broken.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path, LayoutOptions::default()).await
    }

    /// Opens the layout in a directory, with options.
    pub async fn open_with(path: impl Into<PathBuf>, options: LayoutOptions) -> Result<Self> {
        let disk = Arc::new(Disk::new(path.into(), options));
        Self::use_disk(disk, |disk| marker::check(disk.root())).await
    }

    /// Makes a layout without entries in a directory, which is made with its parents if it is not there. A layout
    /// that is there already is opened as it is; temporary files are removed from it that writers left behind which
    /// ended before their time.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self> {
        Self::create_with(path, LayoutOptions::default()).await
    }

    /// Makes a layout, or opens the one that is there, with options.
    pub async fn create_with(path: impl Into<PathBuf>, options: LayoutOptions) -> Result<Self> {
        let disk = Arc::new(Disk::new(path.into(), options));
        let prepare = |disk: &Disk| {
            marker::create(disk)?;
            disk.remove_left();
            Ok(())
        };
        Self::use_disk(disk, prepare).await
    }

    async fn use_disk(
        disk: Arc<Disk>,
        prepare: impl FnOnce(&Disk) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let layout = Self { disk };
        layout
            .blocking(move |disk| {
                prepare(disk)?;
                disk.read_index()
                    .map_err(|error| {
                        let message = format!("layout {}: {error}", disk.root().display());
                        error.context(message)
                    })
                    .map(|_| ())
            })
            .await?;
        Ok(layout)
    }

    /// The layout's directory.
    pub fn path(&self) -> &Path {
        self.disk.root()
    }

    /// All entries of `index.json`, in its order: with names that are no tags, and without names.
    pub async fn entries(&self) -> Result<Vec<LayoutEntry>> {
        let index = self.blocking(Disk::read_index).await?;
        Ok(index.to_entries())
    }

    /// The descriptor of the manifest that has a name, which need not be a valid tag.
    /// `MANIFEST_UNKNOWN` if none has, `Invalid` if several have
    /// ([`choose_entry`](crate::choose_entry) chooses one of their entries).
    pub async fn resolve_name(&self, name: &str) -> Result<Descriptor> {
        let name = name.to_owned();
        let manifest = self
            .blocking(move |disk| view::manifest_by_name(disk, &*disk.read_index()?, &name))
            .await?;
        Ok(manifest.descriptor().clone())
    }

    /// Runs work on files where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = self.disk.clone();
        blocking(move || work(&disk)).await
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layout").field(&self.disk.root()).finish()
    }
}

/// The error for a manifest that is not in the layout.
pub(crate) fn unknown_manifest(message: String) -> Error {
    Error::new(ErrorCode::ManifestUnknown, message)
}
