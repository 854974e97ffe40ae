//! Writing `oci-archive:`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec_types::{Algorithm, Descriptor, Digest, RefName, Tag};

use super::TarWriter;
use super::staging::{Staging, source_of_staging};
use crate::layout::marker::{MARKER, NEW_MARKER};
use crate::layout::{INDEX, Packed};
use crate::{Capabilities, Manifest, Precondition, Reopen, Result, Staged, Store};

/// How to write an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciArchiveOptions {
    /// Whether an archive that has been finished survives a power cut: it is synced before it is named.
    pub sync: bool,
    /// Whether to take indexes whose manifests are not all there.
    pub sparse: bool,
}

/// An OCI image layout that becomes a tar archive.
///
/// What is stored is gathered in a layout beside the archive, and read from there. [`finish`](Self::finish) writes the
/// archive. The same content gives the same bytes, in whatever order it was stored: entries are sorted, belong to root,
/// and are of no particular time; only what is referenced is written. Nothing is seen under the archive's name before it
/// is whole. Without `finish` there is no archive: dropping the last clone removes what was gathered.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("image.tar");
/// use oci_ref::{Manifest, OciArchive, OciArchiveWriter, Precondition, Source, Store};
/// use oci_spec_types::Tag;
///
/// let archive = OciArchiveWriter::create(&path).await?;
/// let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let index = Manifest::parse(index.as_slice().into(), None, None)?;
/// let latest: Tag = "latest".parse().unwrap();
/// archive.put_manifest(&index, &[latest.clone()], &Precondition::None).await?;
/// archive.finish().await?;
///
/// let archive = OciArchive::open(&path).await?;
/// assert_eq!(archive.manifest(&latest.into()).await?.bytes(), index.bytes());
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct OciArchiveWriter {
    staging: Arc<Staging>,
}

impl OciArchiveWriter {
    /// Begins an archive. Its directory must be there. A file of its name stays as it is until the archive is finished,
    /// and is then replaced.
    pub async fn create(path: impl Into<PathBuf>) -> Result<Self> {
        Self::create_with(path, OciArchiveOptions::default()).await
    }

    /// Begins an archive, with options.
    pub async fn create_with(path: impl Into<PathBuf>, options: OciArchiveOptions) -> Result<Self> {
        let staging = Staging::create(path.into(), options.sync, options.sparse).await?;
        Ok(Self { staging })
    }

    /// Gives a manifest that has been stored a name, which need not be a tag, as
    /// [`Layout::set_name`](crate::Layout::set_name) does.
    pub async fn set_name(
        &self,
        name: &RefName,
        digest: &Digest,
        when: &Precondition,
    ) -> Result<()> {
        self.staging.layout.set_name(name, digest, when).await
    }

    /// Writes the archive, with what has been stored so far, and names it in one step.
    pub async fn finish(&self) -> Result<()> {
        let staging = self.staging.clone();
        self.staging.layout.pack(move |packed| write(&staging, packed)).await
    }
}

fn write(staging: &Staging, packed: &Packed<'_>) -> Result<()> {
    let failed = |error| staging.failed(error);
    let mut tar = TarWriter::begin(staging.directory()).map_err(failed)?;
    tar.directory("blobs/").map_err(failed)?;
    let mut algorithm = None;
    for digest in &packed.blobs {
        if algorithm != Some(digest.algorithm()) {
            algorithm = Some(digest.algorithm());
            tar.directory(&format!("blobs/{}/", digest.algorithm())).map_err(failed)?;
        }
        let name = format!("blobs/{}/{}", digest.algorithm(), digest.encoded());
        if let Some(part) = packed.open(digest)? {
            tar.file(&name, part.size(), part.reader()).map_err(failed)?;
        }
    }
    tar.file(INDEX, packed.index.len() as u64, &packed.index[..]).map_err(failed)?;
    tar.file(MARKER, NEW_MARKER.len() as u64, NEW_MARKER).map_err(failed)?;
    tar.finish(&staging.path, staging.sync).map_err(failed)
}

impl fmt::Debug for OciArchiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OciArchiveWriter").field(&self.staging.path).finish()
    }
}

source_of_staging!(OciArchiveWriter);

#[async_trait]
impl Store for OciArchiveWriter {
    fn capabilities(&self) -> Capabilities {
        self.staging.layout.capabilities()
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        self.staging.layout.put_blob(descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.staging.layout.stage(algorithm).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        self.staging.layout.put_manifest(manifest, tags, when).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.staging.layout.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.staging.layout.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.staging.layout.delete_blob(digest).await
    }
}
