//! A blob that is being written to a directory: a temporary file until its digest has been verified.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec_types::{Algorithm, Descriptor, Digest, Hasher, VerifyError};
use tempfile::NamedTempFile;

use super::blocking;
use crate::blob::append_exactly;
use crate::{Error, ErrorKind, Reopen, Result, Staged};

/// How many bytes are gathered before they are written.
const BUFFER: usize = 256 << 10;

/// The size of the smallest blob of which a part is worth keeping, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

/// Where blobs lie as files.
pub(crate) trait Place: Send + Sync + 'static {
    /// A file for a blob that has no name yet, on the file system where it will be.
    fn temporary_blob(&self) -> io::Result<NamedTempFile>;

    /// The file with what there is of a blob. `None` if somebody else writes to it.
    fn partial_blob(&self, digest: &Digest) -> io::Result<Option<NamedTempFile>>;

    /// Gives a verified blob its name.
    fn name_blob(&self, file: NamedTempFile, digest: &Digest) -> Result<()>;
}

/// Writes a blob whose digest and size are known. Of a large one what has come stays when that
/// breaks off, unless it is wrong, and the next call goes on with it, in another process too.
pub(crate) async fn put_blob(
    place: &Arc<impl Place>,
    descriptor: &Descriptor,
    content: &dyn Reopen,
) -> Result<()> {
    // An algorithm that is not known is refused here.
    descriptor.digest.verifier()?;
    let place: Arc<dyn Place> = place.clone();
    if descriptor.size >= WORTH_KEEPING
        && let Some(upload) = Upload::resume(place.clone(), descriptor).await?
    {
        let resumed = upload.offset > 0;
        match upload.complete(descriptor, content).await {
            // What an earlier call left may have been damaged since.
            Err(error) if resumed && is_wrong(&error) => {}
            done => return done,
        }
        if let Some(upload) = Upload::resume(place.clone(), descriptor).await? {
            return upload.complete(descriptor, content).await;
        }
    }
    let algorithm = descriptor.digest.known_algorithm().unwrap_or_default();
    Box::new(Upload::begin(place, algorithm).await?).put(descriptor, content).await
}

/// Tells whether the part of a blob that is there is of no use.
fn is_wrong(error: &Error) -> bool {
    error.is_other_content() || matches!(error.kind(), ErrorKind::RangeInvalid { .. })
}

/// A blob that is being written. Dropping it removes the file, unless it is one that is gone on
/// with.
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

    /// Goes on with what there is of a blob. `None` if somebody else writes it.
    async fn resume(place: Arc<dyn Place>, descriptor: &Descriptor) -> Result<Option<Self>> {
        let (at, descriptor) = (place.clone(), descriptor.clone());
        let opened = blocking(move || {
            let Some(mut file) = at.partial_blob(&descriptor.digest).map_err(failed)? else {
                return Ok(None);
            };
            let found = file.as_file().metadata().map_err(failed)?.len();
            if found > descriptor.size {
                file.as_file().set_len(0).map_err(failed)?;
            }
            let algorithm = descriptor.digest.known_algorithm().unwrap_or_default();
            let mut hasher = algorithm.hasher();
            let offset = hash(file.as_file_mut(), |bytes| hasher.update(bytes)).map_err(failed)?;
            Ok(Some((Partial { file, hasher }, offset)))
        });
        Ok(opened.await?.map(|(partial, offset)| Self {
            place,
            partial: Some(partial),
            pending: Vec::new(),
            pending_size: 0,
            offset,
        }))
    }

    /// Writes what is missing, and commits it. What has come stays if that breaks off.
    async fn complete(mut self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        if self.offset < descriptor.size
            && let Err(error) = append_exactly(&mut self, descriptor, content).await
        {
            // The first error is the one that tells.
            let _ = match is_wrong(&error) {
                true => Box::new(self).cancel().await,
                false => self.flush().await,
            };
            return Err(error);
        }
        Box::new(self).commit(&descriptor.digest).await
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
        hash(self.file.as_file_mut(), |bytes| verifier.update(bytes)).map_err(failed)?;
        Ok(verifier.finish()?)
    }
}

impl Drop for Upload {
    /// Leaves no file behind that has nothing.
    fn drop(&mut self) {
        if let Some(partial) = &mut self.partial
            && partial.file.as_file().metadata().is_ok_and(|found| found.len() == 0)
        {
            partial.file.disable_cleanup(false);
        }
    }
}

/// Hashes all of a file, and says how many bytes it has.
fn hash(file: &mut File, mut update: impl FnMut(&[u8])) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let (mut buffer, mut length) = (vec![0; BUFFER], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                update(&buffer[..count]);
                length += count as u64;
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
            if let Err(error) = partial.verify(&digest) {
                let _ = partial.file.close();
                return Err(error);
            }
            partial.file.disable_cleanup(false);
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
