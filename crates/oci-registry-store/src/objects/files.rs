//! Objects as local files: `objects/<first two digits>/<key>`.
//!
//! A file is written where it stays. It is synced, and so is the directory that names it, before the metadata calls its
//! content stored.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Body, Error, ErrorKind, Result};
use oci_spec_types::Hasher;

use super::read::Reader;
use super::{Finished, Journal, ObjectKey, ObjectWrite, Objects, Suspended};
use crate::blocking;
use crate::buffers::Buffers;
use crate::private;

/// How many bytes are read at a time when there are no large buffers left.
const LITTLE: usize = 16 << 10;

/// Objects in a directory.
pub(crate) struct Files {
    root: PathBuf,
    sync: bool,
    buffers: Buffers,
}

impl Files {
    /// Objects in the directory `root`, which is there, read by way of buffers that others may share. Without `sync`, nothing
    /// is guarded against a power cut. Blocks.
    ///
    /// All the directories below are made at once, so that no upload has to wait for another to make one lasting.
    pub(crate) fn open(root: PathBuf, sync: bool, buffers: &Buffers) -> Result<Self> {
        for number in 0..=u8::MAX {
            let directory = root.join(format!("{number:02x}"));
            private::directory(&directory).map_err(|error| failed("make", &directory, error))?;
        }
        // Also if they were there: whoever made them may have been killed before this.
        if sync {
            sync_directory(&root).map_err(|error| failed("sync", &root, error))?;
        }
        Ok(Self { root, sync, buffers: buffers.or(LITTLE) })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(&key.as_str()[..2]).join(key.as_str())
    }
}

#[async_trait]
impl Objects for Files {
    async fn create(
        &self,
        key: &ObjectKey,
        _journal: Arc<dyn Journal>,
    ) -> Result<Box<dyn ObjectWrite>> {
        let (path, sync) = (self.path(key), self.sync);
        blocking::run(move || {
            let file = private::new_file(&path).map_err(|error| failed("create", &path, error))?;
            Ok(Box::new(FileWriter { file: Arc::new(file), path, offset: 0, sync, named: false })
                as Box<dyn ObjectWrite>)
        })
        .await
    }

    /// The offset says all.
    async fn reopen(
        &self,
        key: &ObjectKey,
        offset: u64,
        _state: Bytes,
    ) -> Result<Box<dyn ObjectWrite>> {
        let (path, sync) = (self.path(key), self.sync);
        blocking::run(move || {
            let open = || {
                let file = private::options().write(true).open(&path)?;
                let length = file.metadata()?.len();
                if length > offset {
                    file.set_len(offset)?;
                }
                Ok((file, length))
            };
            let (file, length) = open().map_err(|error| failed("reopen", &path, error))?;
            if length < offset {
                return Err(too_short(&path, length, offset));
            }
            // Its name was synced together with those bytes.
            Ok(Box::new(FileWriter { file: Arc::new(file), path, offset, sync, named: true })
                as Box<dyn ObjectWrite>)
        })
        .await
    }

    async fn open(&self, key: &ObjectKey, range: Range<u64>) -> Result<Body> {
        let (path, buffers) = (self.path(key), self.buffers.clone());
        blocking::run(move || {
            let open = || {
                let file = File::open(&path)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            };
            let (file, length) = open().map_err(|error| failed("open", &path, error))?;
            if length < range.end {
                return Err(too_short(&path, length, range.end));
            }
            Ok(Reader::begin(file, path, range, buffers)?.into_body())
        })
        .await
    }

    fn must_fork(&self) -> bool {
        true
    }

    async fn delete(&self, key: &ObjectKey, _state: Option<Bytes>) -> Result<()> {
        let (path, sync) = (self.path(key), self.sync);
        blocking::run(move || {
            let delete = || match fs::remove_file(&path) {
                Ok(()) if sync => sync_parent(&path),
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            delete().map_err(|error| failed("delete", &path, error))
        })
        .await
    }

    async fn size(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let path = self.path(key);
        blocking::run(move || match fs::metadata(&path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", &path, error)),
        })
        .await
    }

    async fn list(&self, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectKey>> {
        let (root, after) = (self.root.clone(), after.cloned());
        blocking::run(move || {
            let first =
                after.as_ref().and_then(|key| u8::from_str_radix(&key.as_str()[..2], 16).ok());
            let mut found = Vec::new();
            for number in first.unwrap_or(0)..=u8::MAX {
                let directory = root.join(format!("{number:02x}"));
                let mut keys =
                    keys_in(&directory).map_err(|error| failed("list", &directory, error))?;
                keys.retain(|key| after.as_ref().is_none_or(|after| key > after));
                keys.sort_unstable();
                found.extend(keys);
                if found.len() >= limit {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }
}

/// The objects in one of the directories, which has one part in 256 of all.
fn keys_in(directory: &Path) -> io::Result<Vec<ObjectKey>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(directory)? {
        keys.extend(entry?.file_name().to_str().and_then(ObjectKey::parse));
    }
    Ok(keys)
}

/// Makes the names in a directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {doing} {}", path.display()), error)
}

fn too_short(path: &Path, length: u64, expected: u64) -> Error {
    let message = format!(
        "stored object {} has {length} bytes, expected at least {expected}",
        path.display()
    );
    Error::new(ErrorKind::Internal, message)
}

struct FileWriter {
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
    sync: bool,
    /// Whether the directory that names the file has been synced.
    named: bool,
}

impl FileWriter {
    async fn work<T, F>(&self, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&File, &Path) -> io::Result<T> + Send + 'static,
    {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        blocking::run(move || work(&file, &path).map_err(|error| failed(doing, &path, error))).await
    }

    async fn sync(&mut self) -> Result<()> {
        if !self.sync {
            return Ok(());
        }
        let named = self.named;
        self.work("sync", move |file, path| {
            file.sync_data()?;
            if named { Ok(()) } else { sync_parent(path) }
        })
        .await?;
        self.named = true;
        Ok(())
    }
}

#[async_trait]
impl ObjectWrite for FileWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let (offset, length) = (self.offset, bytes.len() as u64);
        self.work("write", move |file, _| file.write_all_at(&bytes, offset)).await?;
        self.offset += length;
        Ok(())
    }

    /// In one go, which is one switch of threads and not two.
    async fn append_hashed(&mut self, bytes: Bytes, mut hasher: Hasher) -> Result<Hasher> {
        let (offset, length) = (self.offset, bytes.len() as u64);
        let work = move |file: &File, _: &Path| {
            file.write_all_at(&bytes, offset)?;
            hasher.update(&bytes);
            Ok(hasher)
        };
        let hasher = self.work("write", work).await?;
        self.offset += length;
        Ok(hasher)
    }

    async fn finish(&mut self) -> Result<Finished> {
        self.sync().await?;
        Ok(Finished::Surely)
    }

    async fn suspend(&mut self) -> Result<Suspended> {
        self.sync().await?;
        Ok(Suspended::Object(Bytes::new()))
    }

    async fn rewind(&mut self, offset: u64) -> Result<bool> {
        self.work("truncate", move |file, _| file.set_len(offset)).await?;
        self.offset = offset;
        Ok(true)
    }
}
