//! Reading a file chunk by chunk, the next one while the last is being sent.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Body, Error};
use tokio::task::{JoinHandle, spawn_blocking};

use super::pool::Pool;
use crate::blocking;

/// A file of which a part is read.
pub(super) struct Reader {
    file: Arc<File>,
    path: PathBuf,
    pool: Pool,
    rest: Range<u64>,
    next: Next,
}

/// The chunk that is sent next.
enum Next {
    Here(Bytes),
    Coming(JoinHandle<io::Result<Bytes>>),
    None,
}

impl Reader {
    /// Begins to read a range that is there: its first chunk is read at once. Blocks.
    pub(super) fn begin(
        file: File,
        path: PathBuf,
        range: Range<u64>,
        pool: Pool,
    ) -> oci_ref::Result<Self> {
        let mut reader =
            Self { file: Arc::new(file), path, pool, rest: range.clone(), next: Next::None };
        if range.start < range.end {
            let first = read(&reader.file, range, &reader.pool);
            reader.next = Next::Here(first.map_err(|error| reader.failed(error))?);
        }
        Ok(reader)
    }

    /// The bytes. At most two chunks are in memory.
    pub(super) fn into_body(self) -> Body {
        futures_util::stream::unfold(self, |mut reader| async move {
            let chunk = match std::mem::replace(&mut reader.next, Next::None) {
                Next::None => return None,
                Next::Here(chunk) => Ok(chunk),
                Next::Coming(chunk) => match chunk.await {
                    Ok(chunk) => chunk.map_err(|error| reader.failed(error)),
                    Err(error) => Err(blocking::stopped(error)),
                },
            };
            if let Ok(chunk) = &chunk {
                reader.rest.start += chunk.len() as u64;
                reader.read_ahead();
            }
            Some((chunk, reader))
        })
        .boxed()
    }

    fn read_ahead(&mut self) {
        if self.rest.start < self.rest.end {
            let (file, rest, pool) = (Arc::clone(&self.file), self.rest.clone(), self.pool.clone());
            self.next = Next::Coming(spawn_blocking(move || read(&file, rest, &pool)));
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("cannot read {}", self.path.display()), error)
    }
}

/// As much of the begin of a range as a buffer takes.
fn read(file: &File, range: Range<u64>, pool: &Pool) -> io::Result<Bytes> {
    let left = range.end - range.start;
    let mut buffer = pool.take(left);
    let room = buffer.room();
    // At most what there is room for.
    let length = left.min(room.len() as u64) as usize;
    file.read_exact_at(&mut room[..length], range.start)?;
    Ok(buffer.filled(length))
}
