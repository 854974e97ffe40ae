//! Reading `docker-archive:`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Digest, Reference, Tag};

use super::file::Stored;
use super::images::{Found, Images};
use crate::archive::{SpoolOptions, TarIndex};
use crate::files::blocking;
use crate::layers::unpacking_to;
use crate::layout::unknown_manifest;
use crate::layout::view::{tags_page, unknown_blob};
use crate::platform::ambiguous;
use crate::{
    BlobRead, ByteRange, Cursor, Error, ErrorKind, Manifest, Page, Referrers, Result, Source,
    Target,
};

/// The images that `docker save` has written to a tar archive, read without unpacking it.
///
/// Both forms are read: with `<id>/layer.tar` and `<hex>.json`, and with an OCI layout beside `manifest.json`. An image
/// whose manifest is in such a layout, with all its blobs, is presented by that manifest. Of others the archive has no
/// manifest, so they are presented as Docker schema 2 images that are made of the config and the layers: uncompressed
/// layers by their diff IDs, so that reading them verifies these.
///
/// Checks that the archive says alike what it says of an image several times: `manifest.json`, the
/// config's diff IDs and a manifest of the layout have the same layers, or opening it fails with
/// what differs. Only where a manifest of the layout has no layers at all, as Docker 25.0.0 writes
/// it, `manifest.json` counts. A compressed layer that is read as a whole must unpack to its diff
/// ID (with the feature `compression`), or its last bytes are an error in their place.
///
/// An image's names are in [`images`](Self::images), and resolved by [`resolve_name`](Self::resolve_name). By a tag an
/// image is found if the tag is in no other image's names. What is said of entries and of
/// compressed archives at [`OciArchive`](crate::OciArchive) holds here too. There are no referrers.
///
/// Clones share the open file. All methods must run on a tokio runtime.
#[derive(Clone)]
pub struct DockerArchive {
    path: Arc<PathBuf>,
    images: Arc<Images>,
}

/// An image in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerArchiveImage {
    /// Its names as they stand there, such as `busybox:1.36` or `docker.io/library/busybox:1.36`.
    pub names: Vec<String>,
    /// Its manifest.
    pub descriptor: Descriptor,
}

impl DockerArchive {
    /// Opens an archive. `NAME_UNKNOWN` if there is no such file, `UNSUPPORTED` if it is compressed in a way that is not
    /// known here. What cannot be read as such an archive is an error that says where.
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
            Images::of(tar).map_err(|error| {
                let message = format!("archive {}: {error}", at.display());
                error.context(message)
            })
        };
        Ok(Self { path, images: Arc::new(blocking(open).await?) })
    }

    /// All images, in the order in which they are listed.
    pub fn images(&self) -> Vec<DockerArchiveImage> {
        self.images.images.iter().map(image).collect()
    }

    /// The images with a name, which may be in Docker's short form. Several, where whoever wrote
    /// the archive did not look.
    pub fn images_named(&self, name: &str) -> Vec<DockerArchiveImage> {
        let wanted = Reference::parse_familiar(name).ok();
        let is_it = |found: &&Found| {
            found.names.iter().any(|own| {
                own == name || (wanted.is_some() && Reference::parse_familiar(own).ok() == wanted)
            })
        };
        self.images.images.iter().filter(is_it).map(image).collect()
    }

    /// The descriptor of the image with a name, which may be in Docker's short form.
    /// `MANIFEST_UNKNOWN` if none has it, `Invalid` if several have it
    /// ([`choose_entry`](crate::choose_entry) chooses one).
    pub fn resolve_name(&self, name: &str) -> Result<Descriptor> {
        let mut found = self.images_named(name);
        match found.len() {
            0 => Err(unknown_manifest(format!(
                "{name:?} is not the name of an image in archive {}",
                self.path.display()
            ))),
            1 => Ok(found.remove(0).descriptor),
            _ => {
                let found: Vec<_> = found.iter().map(|image| &image.descriptor).collect();
                Err(ambiguous(&format!("{name:?} in archive {}", self.path.display()), &found))
            }
        }
    }

    fn by_tag(&self, tag: &Tag) -> Result<&Manifest> {
        let mut found = self
            .images
            .images
            .iter()
            .filter(|found| found.names.iter().any(|name| tag_of(name).as_ref() == Some(tag)));
        match (found.next(), found.next()) {
            (Some(image), None) => Ok(&image.manifest),
            (None, _) => Err(unknown_manifest(format!("tag {tag} is not known"))),
            (Some(one), Some(other)) => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "tag {tag} names several images, {} and {}: choose by the whole name or by \
                     digest",
                    one.shown(),
                    other.shown()
                ),
            )),
        }
    }

    fn by_digest(&self, digest: &Digest) -> Result<&Manifest> {
        let is_it = |found: &&Found| found.manifest.digest() == digest;
        let found = self.images.images.iter().find(is_it);
        let found =
            found.ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known")))?;
        Ok(&found.manifest)
    }
}

/// An image as users of the archive see it.
fn image(found: &Found) -> DockerArchiveImage {
    let descriptor = found.manifest.descriptor().clone();
    DockerArchiveImage { names: found.names.clone(), descriptor }
}

/// The tag in an image's name.
fn tag_of(name: &str) -> Option<Tag> {
    Reference::parse_familiar(name).ok()?.tag().cloned()
}

impl fmt::Debug for DockerArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DockerArchive").field(&self.path).finish()
    }
}

#[async_trait]
impl Source for DockerArchive {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let found = match target {
            Target::Tag(tag) => self.by_tag(tag)?,
            Target::Digest(digest) | Target::Pinned(_, digest) => self.by_digest(digest)?,
        };
        Ok(found.clone())
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.images.blobs.get(digest).map(|blob| blob.part.size()))
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let Stored { part, unpacks } =
            self.images.blobs.get(digest).cloned().ok_or_else(|| unknown_blob(digest))?;
        let archive = format!("archive {}", self.path.display());
        let read = part.open(range, &format!("blob {digest}"), archive)?;
        match unpacks.filter(|_| read.range == (0..read.size)) {
            Some((compression, diff_id)) => {
                let body = unpacking_to(read.body, digest, compression, &diff_id)?;
                Ok(BlobRead { body, ..read })
            }
            None => Ok(read),
        }
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let names = self.images.images.iter().flat_map(|found| &found.names);
        tags_page(names.filter_map(|name| tag_of(name)), after, limit)
    }

    async fn referrers(
        &self,
        _subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        _limit: usize,
    ) -> Result<Referrers> {
        after.map(Cursor::name).transpose()?;
        Ok(Referrers { page: Page::last(Vec::new()), filtered: artifact_type.is_some() })
    }
}
