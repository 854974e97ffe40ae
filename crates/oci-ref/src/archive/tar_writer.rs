//! Tar archives written deterministically: the same files give the same bytes.
//!
//! Every entry belongs to root, is of no particular time, and has the mode that such an entry usually has. Headers are
//! ustar; a name or a size that does not fit takes the extension of GNU, which all readers know.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use crate::files::{name_file, temporary};

const BLOCK: u64 = 512;

/// The longest name and the largest size of a ustar header.
const MAX_NAME: usize = 100;
const MAX_SIZE: u64 = 0o777_7777_7777;

/// An archive that is being written. Dropping it removes it.
pub(crate) struct TarWriter {
    file: NamedTempFile,
}

/// A file in an archive whose content is being written.
pub(crate) struct OpenFile {
    header: u64,
    name: String,
    size: u64,
}

impl TarWriter {
    /// Begins an archive that will have a name in this directory.
    pub(crate) fn begin(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: temporary(directory)? })
    }

    /// Writes a directory, whose name ends with a slash.
    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.file.write_all(&headers(name, EntryType::Directory, 0))
    }

    /// Writes a file.
    pub(crate) fn file(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        self.file.write_all(&headers(name, EntryType::Regular, size))?;
        let copied = io::copy(&mut content.take(size), &mut self.file)?;
        if copied < size {
            let message = format!("{name} ends after {copied} of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.pad(size)
    }

    /// Begins a file whose size is not known yet. Its name has at most 100 bytes.
    pub(crate) fn open_file(&mut self, name: &str) -> io::Result<OpenFile> {
        debug_assert!(name.len() <= MAX_NAME);
        let header = self.file.as_file_mut().stream_position()?;
        self.file.write_all(&[0; BLOCK as usize])?;
        Ok(OpenFile { header, name: name.to_owned(), size: 0 })
    }

    /// Writes more content of the file that was begun.
    pub(crate) fn append(&mut self, file: &mut OpenFile, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        file.size += content.len() as u64;
        Ok(())
    }

    /// Ends the file that was begun.
    pub(crate) fn close_file(&mut self, file: OpenFile) -> io::Result<()> {
        self.pad(file.size)?;
        self.file.seek(SeekFrom::Start(file.header))?;
        self.file.write_all(&headers(&file.name, EntryType::Regular, file.size))?;
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    /// Ends the archive, and gives it its name in the place of any file that has it.
    pub(crate) fn finish(mut self, path: &Path, sync: bool) -> io::Result<()> {
        self.file.write_all(&[0; 2 * BLOCK as usize])?;
        name_file(self.file, path, sync)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        self.file.write_all(&[0; BLOCK as usize][..padding as usize])
    }
}

/// The headers of an entry. One block, unless the name is long.
fn headers(name: &str, kind: EntryType, size: u64) -> Vec<u8> {
    let mut blocks = Vec::new();
    if name.len() > MAX_NAME {
        let mut content = name.as_bytes().to_vec();
        content.push(0);
        let long = header("././@LongLink", EntryType::GNULongName, content.len() as u64);
        blocks.extend_from_slice(long.as_bytes());
        content.resize(content.len().next_multiple_of(BLOCK as usize), 0);
        blocks.extend(content);
    }
    blocks.extend_from_slice(header(name, kind, size).as_bytes());
    blocks
}

fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let fits = name.len() <= MAX_NAME && size <= MAX_SIZE && kind != EntryType::GNULongName;
    let mut header = if fits { Header::new_ustar() } else { Header::new_gnu() };
    let start = &name.as_bytes()[..name.len().min(MAX_NAME)];
    header.as_old_mut().name[..start.len()].copy_from_slice(start);
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}
