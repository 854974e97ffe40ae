//! Reading `oci-archive:`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Digest, Tag};

use super::{SpoolOptions, TarIndex, TarLayout};
use crate::files::blocking;
use crate::layout::view::{self, Blobs};
use crate::layout::{LayoutEntry, reach};
use crate::{BlobRead, ByteRange, Cursor, Manifest, Page, Referrers, Result, Source, Target};

/// An OCI image layout in a tar archive, read without unpacking it.
///
/// The archive's headers are read once, when it is opened; then blobs are read where they lie. What is in it follows
/// the rules of a [`Layout`](crate::Layout). An archive that is compressed with gzip or zstd is decompressed into a
/// temporary file first (with the feature `compression`; [`SpoolOptions`] says where). Refused are archives that readers
/// could understand differently or that lead outside when they are unpacked: with absolute names, with `..` in names,
/// with a name twice for different content, with sparse files, or cut off. Links are followed to a file in the archive,
/// through up to 16 others.
///
/// Clones share the open file. All methods must run on a tokio runtime.
#[derive(Clone)]
pub struct OciArchive {
    path: Arc<PathBuf>,
    layout: Arc<TarLayout>,
}

impl OciArchive {
    /// Opens an archive. `NAME_UNKNOWN` if there is no such file, `UNSUPPORTED` if it is compressed in a way that is not
    /// known here or the layout in it has another version than 1.0.0. What cannot be read as an archive with a layout is
    /// an error that says where.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(path, SpoolOptions::default()).await
    }

    /// Opens an archive, with options for what is compressed.
    pub async fn open_with(path: impl Into<PathBuf>, options: SpoolOptions) -> Result<Self> {
        Self::of(path.into(), move |path| TarIndex::open(path, &options)).await
    }

    /// Reads an archive that comes in one piece, such as through a pipe, by way of a temporary file. Errors call it
    /// `name`. The reader may block.
    pub async fn read_from(
        archive: impl io::Read + Send + 'static,
        name: impl Into<PathBuf>,
        options: SpoolOptions,
    ) -> Result<Self> {
        Self::of(name.into(), move |name| TarIndex::read_from(archive, name, &options)).await
    }

    async fn of(
        path: PathBuf,
        open: impl FnOnce(&Path) -> Result<TarIndex> + Send + 'static,
    ) -> Result<Self> {
        let path = Arc::new(path);
        let at = path.clone();
        let open = move || {
            let tar = Arc::new(open(&at)?);
            TarLayout::of(tar).map_err(|error| {
                let message = format!("archive {}: {error}", at.display());
                error.context(message)
            })
        };
        Ok(Self { path, layout: Arc::new(blocking(open).await?) })
    }

    /// All entries of `index.json`, in its order: with names that are no tags, and without names.
    pub fn entries(&self) -> Vec<LayoutEntry> {
        self.layout.index().to_entries()
    }

    /// The descriptor of the manifest that has a name, which need not be a valid tag.
    /// `MANIFEST_UNKNOWN` if none has, `Invalid` if several have
    /// ([`choose_entry`](crate::choose_entry) chooses one of their entries).
    pub async fn resolve_name(&self, name: &str) -> Result<Descriptor> {
        let name = name.to_owned();
        let find = move |layout: &TarLayout| {
            Ok(view::manifest_by_name(layout, layout.index(), &name)?.descriptor().clone())
        };
        self.blocking(find).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&TarLayout) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let layout = self.layout.clone();
        blocking(move || work(&layout)).await
    }
}

impl fmt::Debug for OciArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OciArchive").field(&self.path).finish()
    }
}

#[async_trait]
impl Source for OciArchive {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let target = target.clone();
        self.blocking(move |layout| view::manifest(layout, layout.index(), &target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.layout.blob_size(digest)
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        view::blob(&*self.layout, digest, range)
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        view::tags(self.layout.index(), after, limit)
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let subject = subject.clone();
        let find = move |layout: &TarLayout| reach::referrers(layout, layout.index(), &subject);
        let found = self.blocking(find).await?;
        view::referrers_page(found.into_values(), artifact_type, after, limit)
    }
}
