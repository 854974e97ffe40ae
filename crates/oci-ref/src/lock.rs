//! Files that one writer has for itself as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// Opens a file to read and write it, and makes it if it is not there; nobody else gets it this way
/// until it is closed, in this process or another. `None` if somebody has it now.
///
/// The lock is one of the system (advisory), and ends with the process. Who had the file before may
/// have renamed or removed it meanwhile: what is given is the file that lies at the path.
///
/// # Errors
/// When the file cannot be opened, or the file system has no locks.
pub fn open_locked(path: &Path) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Tells whether an open file is the one at a path.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    match (file.metadata().map(identity), std::fs::metadata(path).map(identity)) {
        (Ok(open), Ok(found)) => open == found,
        _ => false,
    }
}

/// Open files cannot be renamed or removed elsewhere.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, _: &Path) -> bool {
    true
}
