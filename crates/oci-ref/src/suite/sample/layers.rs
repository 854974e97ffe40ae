//! Layers: files as tar archives, compressed or not.

use std::collections::BTreeSet;
use std::io::{self, Write};

use bytes::Bytes;
use oci_spec_types::{Algorithm, Digest, MediaType};
use tar::{Builder, EntryType, Header};

use super::files::File;
use crate::suite::content::Piece;
use crate::{Error, Result};

/// A layer, and what a config says of it.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) piece: Piece,
    /// The digest of the archive before compression.
    pub(super) diff_id: Digest,
    pub(super) created_by: String,
}

/// How a layer is compressed.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Layer {
    pub(super) fn new(archive: Bytes, compression: Compression, created_by: &str) -> Result<Self> {
        Self::with(Algorithm::Sha256, archive, compression, created_by)
    }

    pub(super) fn with(
        algorithm: Algorithm,
        archive: Bytes,
        compression: Compression,
        created_by: &str,
    ) -> Result<Self> {
        let diff_id = algorithm.digest(&archive);
        let (media_type, bytes) = match compression {
            Compression::None => (MediaType::OCI_LAYER, Ok(archive)),
            Compression::Gzip => (MediaType::OCI_LAYER_GZIP, gzip(&archive)),
            Compression::Zstd => (MediaType::OCI_LAYER_ZSTD, zstd(&archive)),
        };
        Ok(Self {
            piece: Piece::with(algorithm, media_type, bytes.map_err(failed)?),
            diff_id,
            created_by: created_by.to_owned(),
        })
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("a layer cannot be made", error)
}

fn gzip(archive: &[u8]) -> io::Result<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(archive)?;
    Ok(encoder.finish()?.into())
}

fn zstd(archive: &[u8]) -> io::Result<Bytes> {
    Ok(zstd::encode_all(archive, 3)?.into())
}

/// An archive of files, with entries for their directories.
pub(super) fn archive_of(files: &[File]) -> Result<Bytes> {
    let write = || {
        let mut archive = Builder::new(Vec::new());
        let mut directories = BTreeSet::new();
        for file in files {
            let parents = file.path.match_indices('/').map(|(end, _)| &file.path[..=end]);
            directories.extend(parents);
        }
        for directory in directories {
            let mut header = header(EntryType::Directory, 0o755, 0);
            archive.append_data(&mut header, directory, io::empty())?;
        }
        for file in files {
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut header = header(EntryType::Regular, mode, file.content.len());
            archive.append_data(&mut header, file.path, &file.content[..])?;
        }
        Ok(archive.into_inner()?.into())
    };
    write().map_err(failed)
}

/// An archive of changes to what lies below: a file that is removed, a link, and a new file.
pub(super) fn archive_of_changes(removed: &str, link: (&str, &str)) -> Result<Bytes> {
    let write = || {
        let mut archive = Builder::new(Vec::new());
        let (directory, name) = removed.rsplit_once('/').unwrap_or(("", removed));
        let whiteout = format!("{directory}/.wh.{name}");
        archive.append_data(&mut header(EntryType::Regular, 0o644, 0), whiteout, io::empty())?;
        let (path, target) = link;
        archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?;
        let text = b"sample\n";
        let mut header = header(EntryType::Regular, 0o644, text.len());
        archive.append_data(&mut header, "etc/hostname", &text[..])?;
        Ok(archive.into_inner()?.into())
    };
    write().map_err(failed)
}

/// An archive of one short text.
pub(super) fn archive_of_text(path: &str, text: &str) -> Result<Bytes> {
    let write = || {
        let mut archive = Builder::new(Vec::new());
        let mut header = header(EntryType::Regular, 0o644, text.len());
        archive.append_data(&mut header, path, text.as_bytes())?;
        Ok(archive.into_inner()?.into())
    };
    write().map_err(failed)
}

/// Owned by root, of no particular time: the same in every run.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}
