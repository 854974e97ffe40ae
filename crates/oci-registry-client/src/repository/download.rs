//! A blob written to a file, which a later run goes on with where an earlier one was interrupted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Body, ByteRange, ErrorKind, Result, Source, open_locked};
use oci_spec_types::{Descriptor, Verifier};
use tokio::sync::mpsc;

use super::Repository;
use super::blobs::check_size;

/// How many pieces of a body may wait to be written.
const WAITING: usize = 16;

/// How many bytes are read from a file at once.
const READ_SIZE: usize = 256 << 10;

impl Repository {
    /// Writes a blob to a file, verified, and says how many bytes the registry had to send for it.
    ///
    /// It is written beside the file, as `FILE.DIGEST.part` (the digest's first 12 digits), and takes the file's name,
    /// in the place of what had it, when all of it is there and right. What an earlier call left there is gone on with,
    /// in another process too; if the registry gives no parts, or the whole turns out wrong, it begins anew. If the
    /// file has the content already, nothing is sent.
    ///
    /// # Errors
    /// When the blob is not there or not what the descriptor says, a file cannot be written, or another call writes the
    /// same. What has come before an error of the registry stays for the next call.
    pub async fn download(&self, descriptor: &Descriptor, path: impl AsRef<Path>) -> Result<u64> {
        let path = path.as_ref().to_owned();
        let verifier = descriptor.digest.verifier()?;
        if is_there(path.clone(), verifier, descriptor.size).await? {
            return Ok(0);
        }
        let part = Part::open(part_path(&path, descriptor), descriptor.clone()).await?;
        let mut part = self.check_resumption(descriptor, part).await?;
        let (mut received, mut again) = (0, false);
        loop {
            let resumed = part.length;
            if resumed < descriptor.size || descriptor.size == 0 {
                part = match self.receive(descriptor, part, &mut received).await {
                    Ok(part) => part,
                    // A mirror has something else, or the registry no parts. It is not asked twice.
                    Err(error) if begins_anew(&error) && !again => {
                        again = true;
                        let left = Part::open(part_path(&path, descriptor), descriptor.clone());
                        part = left.await?.begin_anew().await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
            }
            match part.finish(path.clone()).await? {
                None => return Ok(received),
                // What an earlier call left may have been damaged since.
                Some((wrong, _)) if resumed > 0 => part = wrong,
                Some((_, error)) => return Err(error),
            }
        }
    }

    /// Begins anew if what is there cannot be gone on with.
    async fn check_resumption(&self, descriptor: &Descriptor, part: Part) -> Result<Part> {
        if part.length == 0 || part.length == descriptor.size {
            return Ok(part);
        }
        match self.ask_blob(&descriptor.digest).await? {
            Some(found)
                if found.ranges && found.size.is_none_or(|size| size == descriptor.size) =>
            {
                Ok(part)
            }
            // If it is not there, or not of that size, the next request tells.
            _ => part.begin_anew().await,
        }
    }

    /// Appends what is missing.
    async fn receive(
        &self,
        descriptor: &Descriptor,
        part: Part,
        received: &mut u64,
    ) -> Result<Part> {
        let range = match part.length {
            0 => ByteRange::All,
            length => ByteRange::From(length),
        };
        let read = self.blob(&descriptor.digest, range).await?;
        check_size(descriptor, read.size)?;
        part.append(read.body, received).await
    }
}

/// What there is of a blob, in a file of its own.
struct Part {
    path: PathBuf,
    file: File,
    /// Of what is in the file.
    verifier: Verifier,
    length: u64,
    descriptor: Descriptor,
    /// It is not a part any more.
    named: bool,
}

impl Drop for Part {
    /// Leaves no part behind that has nothing.
    fn drop(&mut self) {
        if self.length == 0 && !self.named {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Part {
    /// Opens what there is, and hashes it. What is longer than the blob is dropped.
    async fn open(path: PathBuf, descriptor: Descriptor) -> Result<Self> {
        blocking(move || {
            let failed = |error| file_error(&path, error);
            let file = open_part(&path)?;
            if file.metadata().map_err(failed)?.len() > descriptor.size {
                file.set_len(0).map_err(failed)?;
            }
            let mut verifier = descriptor.digest.verifier()?;
            let length = hash(&file, &mut verifier).map_err(failed)?;
            Ok(Self { file, verifier, length, descriptor, path: path.clone(), named: false })
        })
        .await
    }

    async fn begin_anew(mut self) -> Result<Self> {
        self.verifier = self.descriptor.digest.verifier()?;
        self.length = 0;
        blocking(move || {
            let empty = self.file.set_len(0).and_then(|()| self.file.rewind());
            empty.map_err(|error| file_error(&self.path, error))?;
            Ok(self)
        })
        .await
    }

    /// Writes a body at the end, beside the asynchronous threads. What has come before an error stays.
    async fn append(mut self, mut body: Body, received: &mut u64) -> Result<Self> {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let writer = blocking(move || {
            while let Some(piece) = waiting.blocking_recv() {
                self.file.write_all(&piece).map_err(|error| file_error(&self.path, error))?;
                self.verifier.update(&piece);
                self.length += piece.len() as u64;
            }
            Ok(self)
        });
        let reader = async move {
            while let Some(piece) = body.next().await {
                let piece = piece?;
                *received += piece.len() as u64;
                if pieces.send(piece).await.is_err() {
                    // The writer has failed, and says why.
                    break;
                }
            }
            Ok(())
        };
        let (part, read) = futures_util::future::join(writer, reader).await;
        let part = part?;
        read.map(|()| part)
    }

    /// Verifies the whole, and gives it its name; or else what was wrong, with an empty part.
    async fn finish(self, target: PathBuf) -> Result<Option<(Self, oci_ref::Error)>> {
        let (length, expected) = (self.length, self.descriptor.size);
        let wrong = match self.verifier.clone().finish() {
            Ok(_) if length == expected => None,
            Ok(_) => check_size(&self.descriptor, length).err(),
            Err(error) => Some(error.into()),
        };
        if let Some(error) = wrong {
            return Ok(Some((self.begin_anew().await?, error)));
        }
        blocking(move || {
            let mut part = self;
            let named = part.file.sync_all().and_then(|()| std::fs::rename(&part.path, &target));
            named.map_err(|error| file_error(&target, error))?;
            part.named = true;
            Ok(None)
        })
        .await
    }
}

/// Tells whether other content came than was asked for, or nothing of it was given.
fn begins_anew(error: &oci_ref::Error) -> bool {
    let refused = error.find_source::<crate::Error>().is_some_and(|error| error.has_status(416));
    refused || error.is_other_content()
}

/// Opens a file that only one may write, as long as it is open.
fn open_part(path: &Path) -> Result<File> {
    let opened = open_locked(path).map_err(|error| file_error(path, error))?;
    opened.ok_or_else(|| {
        let reason = format!("file {}: it is being written by another", path.display());
        oci_ref::Error::new(ErrorKind::Unavailable, reason)
    })
}

/// Whether a file has the content already.
async fn is_there(path: PathBuf, mut verifier: Verifier, size: u64) -> Result<bool> {
    blocking(move || {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(file_error(&path, error)),
        };
        let failed = |error| file_error(&path, error);
        if file.metadata().map_err(failed)?.len() != size {
            return Ok(false);
        }
        hash(&file, &mut verifier).map_err(failed)?;
        Ok(verifier.finish().is_ok())
    })
    .await
}

/// Hashes all of a file, and says how long it is.
fn hash(mut file: &File, verifier: &mut Verifier) -> io::Result<u64> {
    let (mut buffer, mut length) = (vec![0; READ_SIZE], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                verifier.update(buffer.get(..count).unwrap_or_default());
                length += count as u64;
            }
        }
    }
}

fn part_path(path: &Path, descriptor: &Descriptor) -> PathBuf {
    let digits: String = descriptor.digest.encoded().chars().take(12).collect();
    let mut name = OsString::from(path);
    name.push(format!(".{digits}.part"));
    name.into()
}

fn file_error(path: &Path, error: io::Error) -> oci_ref::Error {
    oci_ref::Error::io(format!("file {}: {error}", path.display()), error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(oci_ref::Error::new(ErrorKind::Cancelled, error.to_string())))
}
