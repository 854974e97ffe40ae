//! Archives that cannot be read by position, brought into a temporary file: compressed ones, and
//! those that come through a pipe.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::compression_of;
use crate::{Error, ErrorKind, Result};

/// The bytes that are moved at a time.
const CHUNK: usize = 256 << 10;

/// The place of archives that are compressed, or come through a pipe, while they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The directory of the temporary file, which has no name in it: it is gone with the process,
    /// however that ends.
    pub directory: PathBuf,
    /// The most bytes that an archive may have once it is decompressed.
    pub limit: u64,
}

impl Default for SpoolOptions {
    /// The system's directory for temporary files (on Unix `TMPDIR`, or else `/tmp`), 256 GiB.
    fn default() -> Self {
        Self { directory: std::env::temp_dir(), limit: 256 << 30 }
    }
}

/// Brings an archive into a temporary file, decompressed.
pub(super) fn spool(mut archive: impl Read, options: &SpoolOptions) -> Result<File> {
    let unreadable = |error| Error::io("it cannot be read", error);
    let mut start = Vec::new();
    (&mut archive).take(8).read_to_end(&mut start).map_err(unreadable)?;
    let compression = compression_of(&start);
    let content = io::Cursor::new(start).chain(archive);
    let (content, read): (Box<dyn Read>, _) = match compression {
        None => (Box::new(content), "it cannot be read".to_owned()),
        Some(name) => (decoder(name, content)?, format!("it cannot be decompressed as {name}")),
    };
    copy(content, options, &read)
}

fn copy(mut content: impl Read, options: &SpoolOptions, read: &str) -> Result<File> {
    let place = options.directory.display();
    let unwritable =
        |error| Error::io(format!("a temporary file for it in {place} cannot be written"), error);
    let mut file = tempfile::tempfile_in(&options.directory).map_err(unwritable)?;
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => return Ok(file),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(read.to_owned(), error)),
        };
        size += count as u64;
        if size > options.limit {
            let limit = options.limit;
            let message = format!("it has more than {limit} bytes, the most that are unpacked");
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        file.write_all(&buffer[..count]).map_err(unwritable)?;
    }
}

#[cfg(feature = "compression")]
fn decoder<'a>(name: &str, packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    match name {
        "gzip" => Ok(Box::new(flate2::read::MultiGzDecoder::new(packed))),
        "zstd" => {
            let decoder = zstd::stream::read::Decoder::new(packed);
            let failed = |error| Error::io("it cannot be decompressed as zstd", error);
            Ok(Box::new(decoder.map_err(failed)?))
        }
        _ => Err(compressed(name)),
    }
}

#[cfg(not(feature = "compression"))]
fn decoder<'a>(name: &str, _packed: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    Err(compressed(name))
}

/// The error for an archive that is not decompressed here.
pub(super) fn compressed(name: &str) -> Error {
    Error::unsupported(format!("it is compressed with {name}, and must be decompressed first"))
}
