//! Files: read with a size limit, made under a temporary name, replaced in one step, synced with their directories.
//!
//! - `part.rs`: a part of a file, read by position.
//! - `left.rs`: what writers have left behind.
//! - `upload.rs`: a blob that is being written to a temporary file, or to one that is gone on with.

mod left;
mod part;
mod upload;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use oci_spec_types::Digest;
use tempfile::{NamedTempFile, TempPath};

use crate::lock::{is_at, open_locked};
use crate::{Error, ErrorKind, Result};

pub(crate) use left::remove_left;
pub(crate) use part::{Part, PartReader};
pub(crate) use upload::{Place, Upload, put_blob};

/// The beginning of the names of files that are being written.
pub(crate) const TEMPORARY: &str = ".writing-";

/// The beginning of the names of parts of blobs, which stay when their writer ends.
pub(crate) const PARTIAL: &str = ".partial-";

pub(crate) fn too_large(name: &str, found: u64, limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge { limit },
        format!("{name} has {found} bytes, more than the limit of {limit}"),
    )
}

/// Reads a file of at most `limit` bytes; `None` if it is not there.
pub(crate) fn read_limited(path: &Path, name: &str, limit: u64) -> Result<Option<Bytes>> {
    let read = || {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > limit => Err(Error::new(
            ErrorKind::TooLarge { limit },
            format!("{name} has more than {limit} bytes"),
        )),
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("{name} cannot be read"), error)),
    }
}

/// Makes a file with some content, unless there is one of its name.
pub(crate) fn write_new(directory: &Path, name: &str, content: &[u8], sync: bool) -> Result<()> {
    let path = directory.join(name);
    let write = || {
        let mut file = temporary(directory)?;
        file.write_all(content)?;
        if sync {
            file.as_file().sync_all()?;
        }
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(failed) => return Err(failed.error),
        }
        if sync { sync_directory_of(&path) } else { Ok(()) }
    };
    write().map_err(|error| Error::io(format!("{} cannot be made", path.display()), error))
}

/// A file without a name that lasts. Its lock says that somebody is writing it.
pub(crate) fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        // As for any other file; the process's mask applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    loop {
        let file = builder.tempfile_in(directory)?;
        // Where files cannot be locked, nobody removes what was left behind.
        let _ = file.as_file().lock();
        // Before it was locked here, somebody may have taken it for one that was left behind.
        if is_at(file.as_file(), file.path()) {
            return Ok(file);
        }
    }
}

/// The file with what there is of a blob, which stays when its writer ends, so that another can go
/// on with it. `None` if somebody writes to it now, or files cannot be locked.
pub(crate) fn partial(directory: &Path, digest: &Digest) -> io::Result<Option<NamedTempFile>> {
    let path = directory.join(format!("{PARTIAL}{}-{}", digest.algorithm(), digest.encoded()));
    let file = match open_locked(&path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let _ = fs::remove_file(&path);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut file = NamedTempFile::from_parts(file, TempPath::try_from_path(path)?);
    file.disable_cleanup(true);
    Ok(Some(file))
}

/// Gives a file its name, in the place of any file that has it.
pub(crate) fn name_file(file: NamedTempFile, path: &Path, sync: bool) -> io::Result<()> {
    if sync {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if sync { sync_directory_of(path) } else { Ok(()) }
}

/// Makes a directory and its parents.
pub(crate) fn make_directory(path: &Path, sync: bool) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent, sync)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(error),
    }
    if sync { sync_directory_of(path) } else { Ok(()) }
}

/// Makes the names in a path's directory last.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory_of(path))?.sync_all()?;
    }
    Ok(())
}

/// The directory that a path is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Runs work on files where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Internal, "work on files panicked").with_source(error))
        }
    }
}
