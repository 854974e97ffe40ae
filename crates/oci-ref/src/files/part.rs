//! A part of a file, read by position: readers of one file do not disturb each other.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;

use super::blocking;
use crate::{BlobRead, Body, ByteRange, Error, ErrorKind, Result};

/// How many bytes are read at a time.
const CHUNK: u64 = 256 << 10;

/// A part of a file, or all of it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    start: u64,
    size: u64,
}

impl Part {
    /// All of a file, as long as it is now.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), start: 0, size })
    }

    /// How many bytes it has.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A part of this part, which must lie within it.
    #[cfg(feature = "tar")]
    pub(crate) fn part(&self, range: Range<u64>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= self.size);
        Self {
            file: self.file.clone(),
            start: self.start + range.start,
            size: range.end - range.start,
        }
    }

    /// True if both are the same bytes of one file.
    #[cfg(feature = "tar")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file) && (self.start, self.size) == (other.start, other.size)
    }

    /// Reads at an offset, as much as is there and fits.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(offset);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut done = 0;
        while done < wanted {
            let at = self.start + offset + done as u64;
            match read_at(&self.file, &mut buffer[done..wanted], at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// All bytes, if they are no more than `limit`.
    #[cfg(feature = "tar")]
    pub(crate) fn read_all(&self, name: &str, limit: u64) -> Result<Bytes> {
        if self.size > limit {
            return Err(super::too_large(name, self.size, limit));
        }
        next_chunk(self, 0..self.size, self.size, name)
    }

    /// The bytes from start to end, to be read one after the other.
    pub(crate) fn reader(&self) -> PartReader {
        PartReader { part: self.clone(), offset: 0 }
    }

    /// Opens it as a blob, which errors call `what`; the file is called `name`.
    pub(crate) fn open(self, range: ByteRange, what: &str, name: String) -> Result<BlobRead> {
        let size = self.size;
        let range = range.within(size).ok_or_else(|| {
            Error::new(
                ErrorKind::RangeInvalid { size },
                format!("{what} has {size} bytes, none in {range:?}"),
            )
        })?;
        Ok(BlobRead { size, body: chunks(self, range.clone(), name), range })
    }
}

/// Reads a part from its start to its end.
pub(crate) struct PartReader {
    part: Part,
    offset: u64,
}

impl io::Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The bytes of a range.
fn chunks(part: Part, range: Range<u64>, name: String) -> Body {
    let state = Some((part, range));
    futures_util::stream::unfold(state, move |state| {
        let name = name.clone();
        async move {
            let (part, range) = state?;
            if range.is_empty() {
                return None;
            }
            let read = {
                let (part, range) = (part.clone(), range.clone());
                blocking(move || next_chunk(&part, range, CHUNK, &name)).await
            };
            match read {
                Ok(chunk) => {
                    let rest = range.start + chunk.len() as u64..range.end;
                    Some((Ok(chunk), Some((part, rest))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

/// The first bytes of a range, at most `limit`.
fn next_chunk(part: &Part, range: Range<u64>, limit: u64, name: &str) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let mut chunk = vec![0; usize::try_from(wanted.min(limit)).unwrap_or(usize::MAX)];
    let count = part
        .read_at(range.start, &mut chunk)
        .map_err(|error| Error::io(format!("{name} cannot be read"), error))?;
    if count < chunk.len() {
        let missing = wanted - count as u64;
        let message =
            format!("{name} ends {missing} bytes early: it was changed while it was read");
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok(chunk.into())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
