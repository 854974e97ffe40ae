//! What of a layout goes into an archive: all that is referenced, in an order that does not tell how it came there.

use oci_spec_types::Digest;

use super::disk::Disk;
use super::references::reachable;
use super::view::Blobs;
use super::{Layout, marker};
use crate::files::Part;
use crate::{Error, ErrorKind, Result};

/// What goes into an archive.
pub(crate) struct Packed<'a> {
    disk: &'a Disk,
    /// The content of `index.json`.
    pub(crate) index: Vec<u8>,
    /// The blobs that are there, sorted.
    pub(crate) blobs: Vec<Digest>,
}

impl Packed<'_> {
    /// A blob's bytes.
    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<Part>> {
        self.disk.blob_part(digest)
    }
}

impl Layout {
    /// Gives what goes into an archive to `write`. Nothing changes meanwhile.
    pub(crate) async fn pack(
        &self,
        write: impl FnOnce(&Packed<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.blocking(move |disk| {
            let _lock = marker::lock(disk.root())?;
            let entries = disk.read_index()?.sorted();
            let mut blobs = Vec::new();
            for digest in reachable(disk, &entries)?.into_sorted() {
                if disk.blob_size(&digest)?.is_some() {
                    blobs.push(digest);
                }
            }
            let index = entries.to_bytes().map_err(|error| {
                Error::new(ErrorKind::Internal, "index.json cannot be serialised")
                    .with_source(error)
            })?;
            write(&Packed { disk, index, blobs })
        })
        .await
    }
}
