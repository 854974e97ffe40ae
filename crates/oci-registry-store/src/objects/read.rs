//! Reading a file chunk by chunk.
//!
//! What the system has in memory is copied by the task that sends it, without a switch of threads for each chunk. Only what has to
//! be waited for is read elsewhere, the next chunk while the last is being sent.

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

use crate::blocking;
use crate::buffers::Buffers;

/// A file of which a part is read.
pub(super) struct Reader {
    file: Arc<File>,
    path: PathBuf,
    buffers: Buffers,
    rest: Range<u64>,
    next: Next,
}

/// The chunk that is sent next.
enum Next {
    /// Nobody has looked for it.
    Unread,
    Here(Chunk),
    Coming(JoinHandle<io::Result<Chunk>>),
}

/// Some bytes of a file.
struct Chunk {
    bytes: Bytes,
    /// Whether they may have been waited for, so that it is better to ask early for the next ones.
    waited: bool,
}

impl Reader {
    /// Begins to read a range that is there: its first chunk is read at once. Blocks.
    pub(super) fn begin(
        file: File,
        path: PathBuf,
        range: Range<u64>,
        buffers: Buffers,
    ) -> oci_ref::Result<Self> {
        let mut reader =
            Self { file: Arc::new(file), path, buffers, rest: range.clone(), next: Next::Unread };
        if range.start < range.end {
            let first = read(&reader.file, range, &reader.buffers);
            reader.next = Next::Here(first.map_err(|error| reader.failed(error))?);
        }
        Ok(reader)
    }

    /// The bytes. At most two chunks are in memory.
    pub(super) fn into_body(self) -> Body {
        futures_util::stream::unfold(self, |mut reader| async move {
            if reader.rest.start >= reader.rest.end {
                return None;
            }
            let chunk = reader.chunk().await;
            Some((chunk, reader))
        })
        .boxed()
    }

    async fn chunk(&mut self) -> oci_ref::Result<Bytes> {
        let coming = match std::mem::replace(&mut self.next, Next::Unread) {
            Next::Here(chunk) => return Ok(self.take(chunk)),
            Next::Coming(chunk) => chunk,
            Next::Unread => match read_cached(&self.file, &self.rest, &self.buffers) {
                Some(chunk) => return Ok(self.take(chunk)),
                None => self.ask(),
            },
        };
        let chunk = coming.await.map_err(blocking::stopped)?;
        let chunk = chunk.map_err(|error| self.failed(error))?;
        Ok(self.take(chunk))
    }

    /// Goes on to what is behind a chunk.
    fn take(&mut self, chunk: Chunk) -> Bytes {
        self.rest.start += chunk.bytes.len() as u64;
        if chunk.waited && self.rest.start < self.rest.end {
            self.next = Next::Coming(self.ask());
        }
        chunk.bytes
    }

    fn ask(&self) -> JoinHandle<io::Result<Chunk>> {
        let (file, rest, buffers) =
            (Arc::clone(&self.file), self.rest.clone(), self.buffers.clone());
        spawn_blocking(move || read(&file, rest, &buffers))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("cannot read {}", self.path.display()), error)
    }
}

/// As much of the begin of a range as a buffer takes. Blocks.
fn read(file: &File, range: Range<u64>, buffers: &Buffers) -> io::Result<Chunk> {
    if let Some(chunk) = read_cached(file, &range, buffers) {
        return Ok(chunk);
    }
    let left = range.end - range.start;
    let mut buffer = buffers.take(left);
    let room = buffer.room();
    // At most what there is room for.
    let length = left.min(room.len() as u64) as usize;
    file.read_exact_at(&mut room[..length], range.start)?;
    Ok(Chunk { bytes: buffer.filled(length), waited: true })
}

/// What the system has in memory of the begin of a range, as far as a buffer takes it. `None` if it has nothing, or cannot tell.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, range: &Range<u64>, buffers: &Buffers) -> Option<Chunk> {
    use rustix::io::{ReadWriteFlags, preadv2};

    let left = range.end - range.start;
    let mut buffer = buffers.take(left);
    let room = buffer.room();
    // At most what there is room for.
    let length = left.min(room.len() as u64) as usize;
    let parts = &mut [io::IoSliceMut::new(&mut room[..length])];
    // An error is met again by whoever reads it in the other way.
    match preadv2(file, parts, range.start, ReadWriteFlags::NOWAIT) {
        Ok(count) if count > 0 => Some(Chunk { bytes: buffer.filled(count), waited: false }),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &Range<u64>, _: &Buffers) -> Option<Chunk> {
    None
}
