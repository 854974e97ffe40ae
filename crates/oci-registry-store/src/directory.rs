//! The data directory: what lies in it, and that only one process uses it, unless the metadata lies elsewhere.
//!
//! ```text
//! lock               held while an engine is open; says who holds it
//! format             that this is such a directory, and of which version; written last
//! metadata.sqlite    the metadata, and two files beside it that SQLite keeps
//! objects/           bytes
//! control            a socket of the program that serves it, if that makes one
//! ```
//!
//! With the metadata on a database server there is neither a lock nor a database here, and `format` says so: such a directory
//! is not taken for one of the other kind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use oci_ref::{Error, ErrorKind, Result};

use crate::objects::sync_directory;

/// What the file `format` says. The last word is the version.
const FORMAT: &str = "oci-registry-store data directory, format 1\n";

/// The same for a directory whose metadata lies on a database server.
const SHARED_FORMAT: &str = "oci-registry-store objects of a shared database, format 1\n";

const LOCK_FILE: &str = "lock";
const FORMAT_FILE: &str = "format";
const FRESH_FORMAT_FILE: &str = "format.new";
const DATABASE: &str = "metadata.sqlite";
const OBJECTS: &str = "objects";

/// A data directory that nobody else uses while this value lives.
pub(crate) struct DataDirectory {
    path: PathBuf,
    format: &'static str,
    lock: Option<File>,
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        // Closing the file is not enough: a program that this process is starting just now holds it open for a moment, too.
        if let Some(lock) = &self.lock
            && let Err(error) = lock.unlock()
        {
            tracing::warn!(path = %self.path.display(), %error, "a data directory could not be unlocked");
        }
    }
}

impl DataDirectory {
    /// Opens a directory, or makes it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        make(path)?;
        let lock = Some(lock(path)?);
        let directory = Self { path: path.to_owned(), format: FORMAT, lock };
        if !directory.is_complete(&[DATABASE, OBJECTS])? {
            refuse_foreign(path, &OURS)?;
            sync_above(path).map_err(|error| failed("make", path, error))?;
            directory.make_objects()?;
        }
        Ok(directory)
    }

    /// Opens a directory for objects alone, which others may use, too, or makes it. Blocks.
    pub(crate) fn open_shared(path: &Path) -> Result<Self> {
        make(path)?;
        let directory = Self { path: path.to_owned(), format: SHARED_FORMAT, lock: None };
        if !directory.is_complete(&[OBJECTS])? {
            refuse_foreign(path, &OURS_SHARED)?;
            sync_above(path).map_err(|error| failed("make", path, error))?;
            directory.make_objects()?;
        }
        Ok(directory)
    }

    fn make_objects(&self) -> Result<()> {
        match fs::create_dir(self.objects()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("write to", &self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Opens a directory that was made before, and makes none. Blocks.
    pub(crate) fn open_existing(path: &Path) -> Result<Self> {
        if !path.join(FORMAT_FILE).exists() {
            let message =
                format!("{} is not a data directory: it has no file {FORMAT_FILE}", path.display());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Self::open(path)
    }

    /// Makes a directory that is to be filled, or takes an empty one. Blocks.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| failed("make", path, error))?;
        let mut entries = fs::read_dir(path).map_err(|error| failed("read", path, error))?;
        if let Some(entry) = entries.next() {
            let name = entry.map_err(|error| failed("read", path, error))?.file_name();
            let message = format!(
                "{} is not empty: it has {} in it; give an empty or a new directory",
                path.display(),
                name.display()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Self::open(path)
    }

    /// Whether it has been used before. Then what it needs must be there: nothing would remain of what the database named.
    fn is_complete(&self, needed: &[&str]) -> Result<bool> {
        let path = &self.path;
        let found = match fs::read(path.join(FORMAT_FILE)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("read", path, error)),
        };
        let shown = path.display();
        if found != self.format.as_bytes() {
            let what = match found.as_slice() {
                other if other == SHARED_FORMAT.as_bytes() => {
                    "its metadata lies on a database server: name that"
                }
                other if other == FORMAT.as_bytes() => {
                    "its metadata lies in it: use it without a database server"
                }
                _ => "use the program that wrote it, of the same version or a newer one",
            };
            let found = String::from_utf8_lossy(&found[..found.len().min(80)]).trim().to_owned();
            let message = format!(
                "data directory {shown} has format {found:?}, expected {:?}: {what}",
                self.format.trim()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        for needed in needed {
            let is_missing = match fs::metadata(path.join(needed)) {
                // SQLite would make a new database of it, and delete the log beside it.
                Ok(found) if found.is_file() && found.len() == 0 => "empty",
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => "missing",
                Err(error) => return Err(failed("read", path, error)),
            };
            let message = format!(
                "data directory {shown} is damaged: {needed} is {is_missing}; restore it from a backup"
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(true)
    }

    /// Marks it as complete, now that the database is there, and makes that survive a power cut. Blocks.
    pub(crate) fn complete(&self) -> Result<()> {
        // Of several that share it, each has its own.
        let fresh_name = match self.lock {
            Some(_) => FRESH_FORMAT_FILE.to_owned(),
            None => format!("{FRESH_FORMAT_FILE}-{}", hex::encode(crate::random::bytes::<8>()?)),
        };
        let complete = || {
            let marker = self.path.join(FORMAT_FILE);
            if !marker.exists() {
                // Written beside and renamed, so that a crash leaves no half of it.
                let fresh = self.path.join(fresh_name);
                let mut file = File::create(&fresh)?;
                file.write_all(self.format.as_bytes())?;
                file.sync_all()?;
                fs::rename(&fresh, marker)?;
            }
            sync_directory(&self.path)
        };
        complete().map_err(|error| failed("write to", &self.path, error))
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join(OBJECTS)
    }
}

/// Makes the names of a directory and of those above it survive a power cut. Any of them may have been made by this process,
/// or by one that was killed before it came here.
fn sync_above(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    for above in fs::canonicalize(path)?.ancestors().skip(1) {
        match sync_directory(above) {
            // Then nothing was made in it.
            Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => {}
            // A kind of directory that lasts in no case, or always.
            Err(error) if error.kind() == InvalidInput => {}
            done => done?,
        }
    }
    Ok(())
}

/// Makes a directory with those above it, unless it is there.
fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Error::io(format!("data directory {} is a file", path.display()), error)
        }
        _ => failed("make", path, error),
    })
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {doing} data directory {}", path.display()), error)
}

fn lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file =
        options.open(path.join(LOCK_FILE)).map_err(|error| failed("write to", path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // What it says is only a help.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            let message = format!(
                "data directory {} is in use by another process ({})",
                path.display(),
                holder.trim()
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        write!(file, "process {}", std::process::id())
    };
    write(&mut file).map_err(|error| failed("write to", path, error))?;
    Ok(file)
}

/// What a first opening that was cut off can have left.
const OURS: [&str; 6] = [
    LOCK_FILE,
    OBJECTS,
    DATABASE,
    // Until the log is in use, which is set in the database itself, changes go through a journal.
    "metadata.sqlite-journal",
    "metadata.sqlite-wal",
    "metadata.sqlite-shm",
];

/// The same where others may be opening it just now.
const OURS_SHARED: [&str; 2] = [FORMAT_FILE, OBJECTS];

/// A directory without a marker must be empty, so that nobody's files are taken for ours.
fn refuse_foreign(path: &Path, ours: &[&str]) -> Result<()> {
    for entry in fs::read_dir(path).map_err(|error| failed("read", path, error))? {
        let name = entry.map_err(|error| failed("read", path, error))?.file_name();
        let fresh = name.to_string_lossy().starts_with(FRESH_FORMAT_FILE);
        if name != "lost+found" && !fresh && !ours.iter().any(|ours| name == *ours) {
            let message = format!(
                "{} is not a data directory: it has {} in it, and no file named {FORMAT_FILE}; give an empty or a new directory",
                path.display(),
                name.display()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}
