//! Where what lies in a tar archive: it is read once, from header to header, and then never again.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use oci_spec_types::ErrorCode;
use tar::{EntryType, Header};

use super::entry::{Entry, Extension, Kind, compression_of, quoted, read_pax};
use super::spool::{SpoolOptions, compressed, spool};
use crate::files::Part;
use crate::{Error, ErrorKind, Result};

const BLOCK: u64 = 512;

/// The bytes of two files that are compared at a time.
const CHUNK: usize = 64 << 10;

/// The most headers that are read.
const MAX_HEADERS: usize = 200_000;

/// The most links that are followed one after the other.
const MAX_LINKS: usize = 16;

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
    /// Opens an archive, and reads its headers. One that is compressed is decompressed first.
    pub(crate) fn open(path: &Path, options: &SpoolOptions) -> Result<Self> {
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
        let file = File::open(path).map_err(failed)?;
        Self::of_file(file, options).map_err(|error| about(path, error))
    }

    fn of_file(file: File, options: &SpoolOptions) -> Result<Self> {
        let unreadable = |error| Error::io("it cannot be read", error);
        let archive = Part::whole(file).map_err(unreadable)?;
        let mut start = [0; 8];
        let count = archive.read_at(0, &mut start).map_err(unreadable)?;
        match compression_of(&start[..count]) {
            None => Self::read(archive),
            Some(_) => Self::spooled(archive.reader(), options),
        }
    }

    /// Reads an archive that comes in one piece, such as through a pipe. Errors call it `name`.
    pub(crate) fn read_from(
        archive: impl io::Read,
        name: &Path,
        options: &SpoolOptions,
    ) -> Result<Self> {
        Self::spooled(archive, options).map_err(|error| about(name, error))
    }

    fn spooled(archive: impl io::Read, options: &SpoolOptions) -> Result<Self> {
        let file = spool(archive, options)?;
        Self::read(Part::whole(file).map_err(|error| Error::io("it cannot be read", error))?)
    }

    fn read(archive: Part) -> Result<Self> {
        let mut reader = Reader { archive: &archive, offset: 0, headers: 0 };
        let mut entries: HashMap<Box<str>, Found> = HashMap::new();
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
            match entries.entry(entry.name.into()) {
                hash_map::Entry::Vacant(place) => {
                    place.insert(found);
                }
                hash_map::Entry::Occupied(first) => {
                    if !is_same(&archive, first.get(), &found)? {
                        return Err(invalid(format!(
                            "entry {} occurs twice and is not the same, and readers differ in \
                             which they take",
                            quoted(first.key())
                        )));
                    }
                }
            }
        }
        Ok(Self { archive, entries })
    }

    /// The content of a file. Links are followed to a file in the archive. `None` if there is
    /// nothing of this name.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Part>> {
        let Some(mut found) = self.entries.get(name) else { return Ok(None) };
        let mut last = None;
        for _ in 0..=MAX_LINKS {
            let target = match (found, last) {
                (Found::File { start, size }, _) => {
                    return Ok(Some(self.archive.part(*start..start + size)));
                }
                (Found::Link(target), _) => target,
                (_, None) => {
                    return Err(invalid(format!("{} is not a regular file", quoted(name))));
                }
                (_, Some(target)) => return Err(no_file(name, target)),
            };
            found = self.entries.get(target).ok_or_else(|| no_file(name, target))?;
            last = Some(target);
        }
        let message = format!("{} is a link through more than {MAX_LINKS} others", quoted(name));
        Err(invalid(message))
    }
}

/// The error for a link that leads to no file.
fn no_file(name: &str, target: &str) -> Error {
    invalid(format!(
        "{} is a link to {}, which is no file in the archive",
        quoted(name),
        quoted(target)
    ))
}

/// Tells whether two entries of one name are the same, whichever of them a reader takes.
fn is_same(archive: &Part, one: &Found, other: &Found) -> Result<bool> {
    match (one, other) {
        (Found::Directory, Found::Directory) => Ok(true),
        (Found::Link(one), Found::Link(other)) => Ok(one == other),
        (Found::File { start: one, size }, Found::File { start: other, size: other_size }) => {
            let part = |start: &u64| archive.part(*start..start + size);
            Ok(size == other_size && has_same_bytes(&part(one), &part(other))?)
        }
        _ => Ok(false),
    }
}

fn has_same_bytes(one: &Part, other: &Part) -> Result<bool> {
    let failed = |error| Error::io("it cannot be read", error);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0;
    while offset < one.size() {
        let count = one.read_at(offset, &mut left).map_err(failed)?;
        let same = other.read_at(offset, &mut right).map_err(failed)?;
        if count == 0 || left[..count] != right[..same] {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}

/// An error about an archive, which it names.
fn about(name: &Path, error: Error) -> Error {
    let message = format!("archive {}: {error}", name.display());
    error.context(message)
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
            return Err(compressed(compression));
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
