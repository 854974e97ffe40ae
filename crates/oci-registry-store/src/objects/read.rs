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
    path: Arc<PathBuf>,
    pool: Pool,
    rest: Range<u64>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Reader {
    /// A reader of a range that is there.
    pub(super) fn new(file: File, path: PathBuf, range: Range<u64>, pool: Pool) -> Self {
        Self { file: Arc::new(file), path: Arc::new(path), pool, rest: range, ahead: None }
    }

    /// The bytes. At most two chunks are in memory.
    pub(super) fn into_body(mut self) -> Body {
        self.read_ahead();
        futures_util::stream::unfold(self, |mut reader| async move {
            let chunk = reader.ahead.take()?.await;
            let chunk = match chunk {
                Ok(Ok(chunk)) => {
                    reader.rest.start += chunk.len() as u64;
                    reader.read_ahead();
                    Ok(chunk)
                }
                Ok(Err(error)) => {
                    Err(Error::io(format!("cannot read {}", reader.path.display()), error))
                }
                Err(error) => Err(blocking::stopped(error)),
            };
            Some((chunk, reader))
        })
        .boxed()
    }

    fn read_ahead(&mut self) {
        let Range { start, end } = self.rest;
        if start == end {
            return;
        }
        let (file, pool) = (Arc::clone(&self.file), self.pool.clone());
        self.ahead = Some(spawn_blocking(move || {
            let mut buffer = pool.take(end - start);
            let room = buffer.room();
            // At most what there is room for.
            let length = (end - start).min(room.len() as u64) as usize;
            file.read_exact_at(&mut room[..length], start)?;
            Ok(buffer.filled(length))
        }));
    }
}
