//! Files of writers that ended before their time.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{PARTIAL, TEMPORARY};
use crate::lock::is_at;

/// The time for which a part of a blob is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Files that were left behind, and have been removed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// The number of files.
    pub(crate) files: u64,
    /// The bytes that they had.
    pub(crate) bytes: u64,
}

/// Removes the temporary files in a directory that nobody has any more, and parts of blobs that
/// nobody has gone on with for a day. If `dry_run`, only says what there is. Whoever writes one
/// holds its lock; where files cannot be locked, none is removed.
pub(crate) fn remove_left(directory: &Path, dry_run: bool) -> io::Result<Left> {
    let mut left = Left::default();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left),
        Err(error) => return Err(error),
    };
    for entry in entries {
        match look(&entry?, dry_run) {
            Ok(Some(bytes)) => {
                left.files += 1;
                left.bytes += bytes;
            }
            Ok(None) => {}
            // Its writer has just named or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

/// Removes a file that was left behind, and gives its size.
fn look(entry: &DirEntry, dry_run: bool) -> io::Result<Option<u64>> {
    let name = entry.file_name();
    let begins = |with: &str| name.as_encoded_bytes().starts_with(with.as_bytes());
    let kept = match (begins(TEMPORARY), begins(PARTIAL)) {
        (true, _) => Duration::ZERO,
        (_, true) => KEPT,
        _ => return Ok(None),
    };
    if !entry.file_type()?.is_file() {
        return Ok(None);
    }
    let path = entry.path();
    let file = File::open(&path)?;
    if file.try_lock().is_err() || !is_at(&file, &path) {
        return Ok(None);
    }
    let found = file.metadata()?;
    // A time in the future says as little as none.
    let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
    if age < kept {
        return Ok(None);
    }
    if !dry_run {
        fs::remove_file(&path)?;
    }
    Ok(Some(found.len()))
}
