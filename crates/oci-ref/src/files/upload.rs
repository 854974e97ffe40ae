//! A blob that is being written to a directory: a temporary file until its digest has been verified.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec_types::{Algorithm, Digest, Hasher, VerifyError};
use tempfile::NamedTempFile;

use super::blocking;
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
pub(crate) struct Upload {
    place: Arc<dyn Place>,
    /// `None` while it is written to, and after that has failed.
    partial: Option<Partial>,
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
            pending: Vec::new(),
            pending_size: 0,
            offset: 0,
        })
    }

    /// Writes and hashes what has been gathered. If this fails or is cancelled, the upload is over.
    async fn flush(&mut self) -> Result<()> {
        let mut partial = self.partial.take().ok_or_else(|| {
            Error::new(
                ErrorKind::Cancelled,
                "the upload has ended: a write failed or was cancelled",
            )
        })?;
        let pending = std::mem::take(&mut self.pending);
        self.pending_size = 0;
        let write = move || {
            for chunk in pending {
                partial.file.write_all(&chunk).map_err(failed)?;
                partial.hasher.update(&chunk);
            }
            Ok(partial)
        };
        self.partial = Some(blocking(write).await?);
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("a temporary file for a blob cannot be written", error)
}

impl Partial {
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
            self.flush().await?;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<()> {
        self.flush().await?;
        let (partial, place, digest) = (self.partial.take(), self.place.clone(), digest.clone());
        blocking(move || {
            let mut partial = partial.expect("a flush that succeeded leaves a file");
            partial.verify(&digest)?;
            place.name_blob(partial.file, &digest)
        })
        .await
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        let partial = self.partial.take();
        blocking(move || match partial {
            Some(partial) => partial.file.close().map_err(failed),
            None => Ok(()),
        })
        .await
    }
}
