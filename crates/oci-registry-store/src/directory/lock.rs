//! The file by which one process at a time uses a data directory.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use oci_ref::{Error, ErrorKind, Result};

use super::failed;
use crate::private;

/// A lock file says no more than this: the word and a number.
const MOST: u64 = 32;

/// Locks the file, and says in it who holds it. What is in it is touched only by whoever has the
/// lock. `shown` is the directory.
pub(super) fn lock(path: &Path, shown: &Path) -> Result<File> {
    let open = || private::options().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open().map_err(|error| failed("write to", shown, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // What it says is only a help.
            let holder = read(&mut file).unwrap_or_default();
            let message = format!(
                "data directory {} is in use by another process ({})",
                shown.display(),
                holder.trim()
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", shown, error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        // In one piece, so that a power cut leaves all of it or nothing.
        file.write_all(format!("process {}", std::process::id()).as_bytes())
    };
    write(&mut file).map_err(|error| failed("write to", shown, error))?;
    Ok(file)
}

/// Tells whether a file can have been written by [`lock`]: many programs have one of that name.
pub(super) fn is_ours(path: &Path) -> io::Result<bool> {
    let mut file = private::options().read(true).open(path)?;
    let said = match read(&mut file) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
        said => said?,
    };
    // A power cut can leave zeros in place of what was written.
    let said = said.trim_matches('\0');
    let number = said.strip_prefix("process ").unwrap_or(said);
    Ok(number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn read(file: &mut File) -> io::Result<String> {
    let mut said = String::new();
    file.take(MOST).read_to_string(&mut said)?;
    Ok(said)
}
