//! A blob that is being written to a directory: a temporary file until its digest has been verified.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec_types::{Algorithm, Digest, Hasher, VerifyError};
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;

use super::{blocking, ended};
use crate::{Error, ErrorKind, Result, Staged};

/// How many bytes are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Where blobs lie as files.
pub(crate) trait Place: Send + Sync + 'static {
    /// A file for a blob that has no name yet, on the file system where it will be.
    fn temporary_blob(&self) -> io::Result<NamedTempFile>;

    /// Gives a verified blob its name.
    fn name_blob(&self, file: NamedTempFile, digest: &Digest) -> Result<()>;
}

/// A blob that is being written. Dropping it removes the file.
///
/// What has been gathered is written and hashed beside the asynchronous threads while more is gathered: at most twice
/// [`BUFFER`] is held, and what comes at once.
pub(crate) struct Upload {
    place: Arc<dyn Place>,
    /// What has been written; `None` while it is written to, and after that has failed.
    partial: Option<Partial>,
    writing: Option<JoinHandle<Result<Partial>>>,
    /// What has been appended but not yet written.
    pending: Vec<Bytes>,
    pending_size: usize,
    offset: u64,
}

struct Partial {
    file: NamedTempFile,
    hasher: Hasher,
}

impl Upload {
    pub(crate) async fn begin(place: Arc<dyn Place>, algorithm: Algorithm) -> Result<Self> {
        let at = place.clone();
        let file = blocking(move || at.temporary_blob().map_err(failed)).await?;
        Ok(Self {
            place,
            partial: Some(Partial { file, hasher: algorithm.hasher() }),
            writing: None,
            pending: Vec::new(),
            pending_size: 0,
            offset: 0,
        })
    }

    /// Waits until nothing is being written. If that has failed, the upload is over.
    async fn written(&mut self) -> Result<Partial> {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            return ended(written);
        }
        self.partial
            .take()
            .ok_or_else(|| Error::new(ErrorKind::Cancelled, "the upload has ended: a write failed"))
    }

    fn take_pending(&mut self) -> Vec<Bytes> {
        self.pending_size = 0;
        std::mem::take(&mut self.pending)
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("a temporary file for a blob cannot be written", error)
}

impl Partial {
    fn write(&mut self, pieces: Vec<Bytes>) -> Result<()> {
        for piece in pieces {
            self.file.write_all(&piece).map_err(failed)?;
            self.hasher.update(&piece);
        }
        Ok(())
    }

    fn verify(&mut self, digest: &Digest) -> Result<()> {
        if digest.known_algorithm() == Some(self.hasher.algorithm()) {
            let actual = self.hasher.clone().finish();
            if actual != *digest {
                let expected = digest.clone();
                return Err(VerifyError::Mismatch { expected, actual }.into());
            }
            return Ok(());
        }
        // Another algorithm than was announced: what was written is read again.
        let mut verifier = digest.verifier()?;
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(verifier.finish()?),
                count => verifier.update(&buffer[..count]),
            }
        }
    }
}

#[async_trait]
impl Staged for Upload {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn append(&mut self, chunk: Bytes) -> Result<()> {
        self.offset += chunk.len() as u64;
        self.pending_size += chunk.len();
        self.pending.push(chunk);
        if self.pending_size >= BUFFER {
            let mut partial = self.written().await?;
            let pending = self.take_pending();
            self.writing = Some(tokio::task::spawn_blocking(move || {
                partial.write(pending)?;
                Ok(partial)
            }));
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<()> {
        let mut partial = self.written().await?;
        let (pending, place, digest) = (self.take_pending(), self.place.clone(), digest.clone());
        blocking(move || {
            partial.write(pending)?;
            partial.verify(&digest)?;
            place.name_blob(partial.file, &digest)
        })
        .await
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        // That a write failed does not matter any more.
        let Ok(partial) = self.written().await else { return Ok(()) };
        blocking(move || partial.file.close().map_err(failed)).await
    }
}
