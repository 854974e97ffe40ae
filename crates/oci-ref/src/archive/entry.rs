//! The entries of a tar archive: ustar, with the extensions of GNU and of pax for long names and sizes (POSIX.1-2017,
//! `pax`). No I/O.

use tar::{EntryType, Header};

/// The longest name, in bytes.
const MAX_NAME: usize = 4096;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file with content.
    File,
    /// A directory.
    Directory,
    /// A link to a name in the archive.
    Link(String),
    /// Something else without content.
    Other,
}

/// What extension headers say of the entry that follows.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) name: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

/// An entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name without `./` in front and without a slash at the end; empty for the archive's root.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) size: u64,
}

/// Why an entry is refused: a sentence about it.
pub(super) type Refused = String;

impl Entry {
    /// Reads a header, with what extension headers have said.
    pub(super) fn read(header: &Header, extension: Extension) -> Result<Self, Refused> {
        let raw = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = clean(&raw, None)?;
        let at = |problem: &str| format!("entry {:?} {problem}", shown(&raw));
        let entry_type = header.entry_type();
        let size = match extension.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| at("has a size that is no number"))?,
        };
        let kind = match entry_type {
            // In archives older than ustar, directories are files whose names end so.
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Link | EntryType::Symlink => {
                let target =
                    extension.link.or_else(|| Some(header.link_name_bytes()?.into_owned()));
                let target = target.ok_or_else(|| at("is a link to nothing"))?;
                // A symbolic link is relative to its own directory, a hard link to the archive's root.
                let base = name.rsplit_once('/').map_or("", |(base, _)| base);
                let base = (entry_type == EntryType::Symlink).then_some(base);
                let target = clean(&target, base);
                Kind::Link(target.map_err(|error| at(&format!("is a link whose {error}")))?)
            }
            EntryType::GNUSparse => {
                return Err(at("is a sparse file, which is not supported: pack it without holes"));
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => Kind::Other,
            other => {
                let code = char::from(other.as_byte()).escape_default();
                return Err(at(&format!("is of type \"{code}\", which is not supported")));
            }
        };
        if kind != Kind::File && size > 0 {
            return Err(at(&format!("has a size of {size} bytes, but is no file")));
        }
        Ok(Self { name, kind, size })
    }
}

/// A name as it is looked up. It must stay within the archive: what unpacks archives must not be led outside, and what
/// does not must not find other files than what does. Only a symbolic link has a directory that it may go up from.
pub(crate) fn clean(raw: &[u8], base: Option<&str>) -> Result<String, Refused> {
    let refuse = |problem: &str| Err(format!("name {:?} {problem}", shown(raw)));
    if raw.len() > MAX_NAME {
        return refuse("is longer than 4096 bytes");
    }
    let Ok(text) = std::str::from_utf8(raw) else { return refuse("is not UTF-8") };
    if text.starts_with('/') {
        return refuse("is absolute");
    }
    if text.contains('\0') {
        return refuse("contains a zero byte");
    }
    let mut parts: Vec<&str> = base.unwrap_or_default().split('/').collect();
    parts.retain(|part| !part.is_empty());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if base.is_none() || parts.pop().is_none() {
                    return refuse("leads out of its directory");
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// A name as an error shows it: on one line, and not longer than that.
pub(crate) fn quoted(name: &str) -> String {
    format!("{:?}", shown(name.as_bytes()))
}

/// As much of a name as an error needs.
fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(100).collect()
}

/// Reads the records of a pax header.
pub(super) fn read_pax(records: &[u8], extension: &mut Extension) -> Result<(), Refused> {
    let broken = || "a pax header is not well formed".to_owned();
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = std::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok());
        let length: usize = length.ok_or_else(broken)?;
        let record = rest.get(space + 1..length).ok_or_else(broken)?;
        let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.name = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                extension.size = Some(size.ok_or_else(broken)?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err("a sparse file is not supported: pack it without holes".to_owned());
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// What is compressed, if these first bytes of a file say so.
pub(crate) fn compression_of(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
        (b"BZh", "bzip2"),
    ];
    known.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, name)| *name)
}
