//! Where what lies in a tar archive: it is read once, from header to header, and then never again.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use oci_spec_types::ErrorCode;
use tar::{EntryType, Header};

use super::entry::{Entry, Extension, Kind, compression_of, quoted, read_pax};
use crate::files::Part;
use crate::{Error, ErrorKind, Result};

const BLOCK: u64 = 512;

/// The most headers that are read.
const MAX_HEADERS: usize = 200_000;

/// The most bytes that the names may have together.
const MAX_NAMES: usize = 64 << 20;

/// The most bytes of an extension header.
const MAX_EXTENSION: u64 = 1 << 20;

/// The files in a tar archive, by name.
pub(crate) struct TarIndex {
    archive: Part,
    entries: HashMap<Box<str>, Found>,
}

enum Found {
    File { start: u64, size: u64 },
    Directory,
    Link(Box<str>),
    Other,
}

impl TarIndex {
    /// Opens an archive, and reads its headers.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let at = path.display();
        let failed = |error| Error::io(format!("archive {at} cannot be read"), error);
        match fs::metadata(path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => {
                let message = format!("archive {at} is not a regular file");
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("archive {at} does not exist");
                return Err(Error::new(ErrorCode::NameUnknown, message).with_source(error));
            }
            Err(error) => return Err(failed(error)),
        }
        let archive = File::open(path).and_then(Part::whole).map_err(failed)?;
        Self::read(archive).map_err(|error| {
            let message = format!("archive {at}: {error}");
            error.context(message)
        })
    }

    fn read(archive: Part) -> Result<Self> {
        let mut reader = Reader { archive: &archive, offset: 0, headers: 0 };
        let mut entries = HashMap::new();
        let mut names = 0;
        while let Some((start, entry)) = reader.next()? {
            names += entry.name.len();
            if names > MAX_NAMES {
                return Err(too_much("the names have", MAX_NAMES, "bytes"));
            }
            let found = match entry.kind {
                Kind::File => Found::File { start, size: entry.size },
                Kind::Directory => Found::Directory,
                Kind::Link(target) => {
                    names += target.len();
                    Found::Link(target.into())
                }
                Kind::Other => Found::Other,
            };
            let again = matches!(found, Found::Directory);
            let name: Box<str> = entry.name.into();
            let before = entries.insert(name.clone(), found);
            if !matches!(before, None | Some(Found::Directory)) || (before.is_some() && !again) {
                return Err(invalid(format!(
                    "entry {} occurs twice, and readers differ in which they take",
                    quoted(&name)
                )));
            }
        }
        Ok(Self { archive, entries })
    }

    /// The content of a file. A link is followed once, to a file. `None` if there is nothing of this name.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Part>> {
        let found = match self.entries.get(name) {
            None => return Ok(None),
            Some(Found::Link(target)) => match self.entries.get(target) {
                Some(found @ Found::File { .. }) => found,
                _ => {
                    return Err(invalid(format!(
                        "{} is a link to {}, which is no file in the archive",
                        quoted(name),
                        quoted(target)
                    )));
                }
            },
            Some(found) => found,
        };
        match found {
            Found::File { start, size } => Ok(Some(self.archive.part(*start..start + size))),
            _ => Err(invalid(format!("{} is not a regular file", quoted(name)))),
        }
    }
}

impl fmt::Debug for TarIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarIndex").field("entries", &self.entries.len()).finish()
    }
}

/// The error for an archive that is not as it should be.
pub(crate) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

fn too_much(what: &str, limit: usize, unit: &str) -> Error {
    let message = format!("{what} more than {limit} {unit}");
    Error::new(ErrorKind::TooLarge { limit: limit as u64 }, message)
}

struct Reader<'a> {
    archive: &'a Part,
    /// Where the next header is.
    offset: u64,
    headers: usize,
}

impl Reader<'_> {
    /// The next entry, and where its content starts. `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Entry)>> {
        let mut extension = Extension::default();
        let mut extended = false;
        loop {
            let at = self.offset;
            let here = |problem: String| invalid(format!("at byte {at}: {problem}"));
            let Some(header) = self.header()? else {
                return match extended {
                    true => Err(here("the archive ends after an extension header".to_owned())),
                    false => Ok(None),
                };
            };
            let entry_type = header.entry_type();
            let is_extension = entry_type.is_gnu_longname()
                || entry_type.is_gnu_longlink()
                || entry_type.is_pax_local_extensions()
                || entry_type.is_pax_global_extensions();
            if !is_extension {
                let entry = Entry::read(&header, extension).map_err(here)?;
                let start = self.skip(entry.size)?;
                return Ok(Some((start, entry)));
            }
            let content = self.extension(&header)?;
            let long = || content.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            match entry_type {
                EntryType::GNULongName => extension.name = Some(long()),
                EntryType::GNULongLink => extension.link = Some(long()),
                EntryType::XHeader => read_pax(&content, &mut extension).map_err(here)?,
                _ => {
                    let mut global = Extension::default();
                    read_pax(&content, &mut global).map_err(here)?;
                    if global.name.is_some() || global.link.is_some() || global.size.is_some() {
                        return Err(here(
                            "a global pax header gives all entries one name or size".to_owned(),
                        ));
                    }
                    continue;
                }
            }
            extended = true;
        }
    }

    /// The next header. `None` at the end: a block of zeros, or no more bytes.
    fn header(&mut self) -> Result<Option<Header>> {
        let at = self.offset;
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let failed = |error| Error::io("it cannot be read", error);
        let count = self.archive.read_at(at, block).map_err(failed)?;
        if at == 0
            && let Some(compression) = compression_of(&block[..count])
        {
            return Err(Error::unsupported(format!(
                "it is compressed with {compression}, and must be decompressed first to be read by position"
            )));
        }
        if count == 0 && at > 0 {
            return Ok(None);
        }
        if count < block.len() {
            return Err(invalid(format!("at byte {at}: it ends within a header; it is cut off")));
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(too_much("there are", MAX_HEADERS, "entries"));
        }
        if header.cksum().ok() != Some(checksum(header.as_bytes())) {
            return Err(invalid(format!("at byte {at}: there is no tar header")));
        }
        self.offset += BLOCK;
        Ok(Some(header))
    }

    /// The content of an extension header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let at = self.offset;
        let size = header.entry_size();
        let size = size.map_err(|_| invalid(format!("at byte {at}: a size is no number")))?;
        if size > MAX_EXTENSION {
            let limit = MAX_EXTENSION;
            let message = format!(
                "at byte {at}: an extension header has {size} bytes, more than the limit of {limit}"
            );
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        let start = self.skip(size)?;
        let mut content = vec![0; size as usize];
        let read = self.archive.read_at(start, &mut content);
        read.map_err(|error| Error::io("it cannot be read", error))?;
        Ok(content)
    }

    /// Goes on behind so many bytes of content, and says where these start.
    fn skip(&mut self, size: u64) -> Result<u64> {
        let (start, total) = (self.offset, self.archive.size());
        match start.checked_add(size).filter(|end| *end <= total) {
            Some(end) => {
                // The last entry may not be padded. What comes then is no header.
                self.offset = end.next_multiple_of(BLOCK);
                Ok(start)
            }
            None => Err(invalid(format!(
                "at byte {start}: an entry has {size} bytes, but only {} are left; the archive is cut off",
                total - start
            ))),
        }
    }
}

/// The sum of a header's bytes, its own place in it read as spaces.
fn checksum(block: &[u8; 512]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}
