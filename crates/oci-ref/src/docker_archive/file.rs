//! The files in an archive: a layer as `manifest.json` names it, and where a blob lies with what it
//! must unpack to.

use std::io::Read;

use oci_spec_types::{Algorithm, Digest};

use crate::archive::{compression_of, quoted};
use crate::files::Part;
use crate::{Compression, Error, Result};

/// A layer that `manifest.json` names.
pub(super) struct LayerFile<'a> {
    pub(super) path: &'a str,
    pub(super) part: Part,
    /// The compression that its content begins with, whatever its media type; or the name of one
    /// that no layer type is for.
    pub(super) compression: Result<Compression, &'static str>,
}

impl<'a> LayerFile<'a> {
    pub(super) fn of(path: &'a str, part: Part) -> Result<Self> {
        let mut start = [0; 8];
        let count = part.read_at(0, &mut start).map_err(|error| unreadable(path, error))?;
        let compression = match compression_of(&start[..count]) {
            None => Ok(Compression::None),
            Some("gzip") => Ok(Compression::Gzip),
            Some("zstd") => Ok(Compression::Zstd),
            Some(other) => Err(other),
        };
        Ok(Self { path, part, compression })
    }

    /// The digest of its content, which is read for that.
    pub(super) fn hash(&self, algorithm: Algorithm) -> Result<Digest> {
        let mut hasher = algorithm.hasher();
        let mut reader = self.part.reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer).map_err(|error| unreadable(self.path, error))? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

/// A blob of an image in the archive.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) part: Part,
    /// The compression of a layer and the digest of what it unpacks to, where its own digest does
    /// not say it.
    pub(super) unpacks: Option<(Compression, Digest)>,
}

impl Stored {
    /// A blob whose digest says all of it.
    pub(super) fn plain(part: Part) -> Self {
        Self { part, unpacks: None }
    }

    /// A layer with its digest and its diff ID.
    pub(super) fn layer(file: &LayerFile<'_>, digest: &Digest, diff_id: Digest) -> Self {
        let can_be_checked = *digest != diff_id && diff_id.known_algorithm().is_some();
        let compression = file.compression.ok().filter(|_| can_be_checked);
        let unpacks = compression.map(|compression| (compression, diff_id));
        Self { part: file.part.clone(), unpacks }
    }
}

fn unreadable(path: &str, error: std::io::Error) -> Error {
    Error::io(format!("{} cannot be read", quoted(path)), error)
}
