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
//!
//! It is for its owner alone: modes 0700 and 0600. The path to it may go by way of links; in it
//! there are none. Nothing in it is opened for writing before it has been looked at.

mod lock;
mod look;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use oci_ref::{Error, ErrorKind, Result};

use crate::objects::sync_directory;
use crate::private;

/// What the file `format` says. The last word is the version.
const FORMAT: &str = "oci-registry-store data directory, format 1\n";

/// The same for a directory whose metadata lies on a database server.
const SHARED_FORMAT: &str = "oci-registry-store objects of a shared database, format 1\n";

const LOCK_FILE: &str = "lock";
const FORMAT_FILE: &str = "format";
const FRESH_FORMAT_FILE: &str = "format.new";
const OBJECTS: &str = "objects";
const DATABASE: &str = "metadata.sqlite";

/// The database, and the files that SQLite keeps beside it. Until the log is in use, which is set
/// in the database itself, changes go through a journal.
const DATABASE_FILES: [&str; 4] =
    [DATABASE, "metadata.sqlite-journal", "metadata.sqlite-wal", "metadata.sqlite-shm"];

/// A data directory that nobody else uses while this value lives.
pub(crate) struct DataDirectory {
    /// The path as it was named, for errors.
    shown: PathBuf,
    /// The place where it is, behind all links.
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
            tracing::warn!(path = %self.shown.display(), %error, "a data directory could not be unlocked");
        }
    }
}

impl DataDirectory {
    /// Opens a directory, or makes it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut directory = Self::look(path, FORMAT)?;
        let (needed, ours) = ([DATABASE, OBJECTS], OURS);
        if !directory.is_complete(&needed)? {
            look::refuse_foreign(path, &directory.path, &ours)?;
        }
        directory.lock = Some(lock::lock(&directory.path.join(LOCK_FILE), path)?);
        // Whoever had the lock until now may have completed it.
        if directory.is_complete(&needed)? {
            look::narrow(path, &directory.path, &[&ours[..], &[FORMAT_FILE]].concat());
        } else {
            directory.begin()?;
            directory.make_database()?;
        }
        Ok(directory)
    }

    /// Opens a directory for objects alone, which others may use, too, or makes it. Blocks.
    pub(crate) fn open_shared(path: &Path) -> Result<Self> {
        let directory = Self::look(path, SHARED_FORMAT)?;
        if directory.is_complete(&[OBJECTS])? {
            look::narrow(path, &directory.path, &OURS_SHARED);
        } else {
            look::refuse_foreign(path, &directory.path, &OURS_SHARED)?;
            directory.begin()?;
        }
        Ok(directory)
    }

    /// Finds a directory, or makes one. Nothing in it has been changed.
    fn look(path: &Path, format: &'static str) -> Result<Self> {
        make(path)?;
        let root = fs::canonicalize(path).map_err(|error| failed("read", path, error))?;
        look::refuse_planted(path, &root)?;
        Ok(Self { shown: path.to_owned(), path: root, format, lock: None })
    }

    /// Prepares a directory that is empty, or was being prepared when that was cut off.
    fn begin(&self) -> Result<()> {
        look::narrow(&self.shown, &self.path, &[]);
        sync_above(&self.path).map_err(|error| failed("make", &self.shown, error))?;
        private::directory(&self.objects()).map_err(|error| failed("write to", &self.shown, error))
    }

    /// Makes the file of the database, empty, so that SQLite need not, which would make it for
    /// everybody to read. Those that it keeps beside it have the same mode.
    fn make_database(&self) -> Result<()> {
        match private::new_file(&self.database()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("write to", &self.shown, error))
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
        private::directories(path).map_err(|error| failed("make", path, error))?;
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
        let read_error = |error| failed("read", &self.shown, error);
        let found = match fs::read(self.path.join(FORMAT_FILE)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(read_error(error)),
        };
        let shown = self.shown.display();
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
            let is_missing = match fs::metadata(self.path.join(needed)) {
                // SQLite would make a new database of it, and delete the log beside it.
                Ok(found) if found.is_file() && found.len() == 0 => "empty",
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => "missing",
                Err(error) => return Err(read_error(error)),
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
                match fs::remove_file(&fresh) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let mut file = private::new_file(&fresh)?;
                file.write_all(self.format.as_bytes())?;
                file.sync_all()?;
                fs::rename(&fresh, marker)?;
            }
            sync_directory(&self.path)
        };
        complete().map_err(|error| failed("write to", &self.shown, error))
    }

    /// The place where it is, behind all links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(crate) fn objects(&self) -> PathBuf {
        self.path.join(OBJECTS)
    }
}

/// Makes the names of a directory, which is behind no link, and of those above it survive a power
/// cut. Any of them may have been made by this process,
/// or by one that was killed before it came here.
fn sync_above(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    for above in path.ancestors().skip(1) {
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
    private::directories(path).map_err(|error| match fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Error::io(format!("data directory {} is a file", path.display()), error)
        }
        _ => failed("make", path, error),
    })
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("cannot {doing} data directory {}", path.display()), error)
}

/// What a first opening that was cut off can have left.
const OURS: [&str; 6] = [
    LOCK_FILE,
    OBJECTS,
    DATABASE_FILES[0],
    DATABASE_FILES[1],
    DATABASE_FILES[2],
    DATABASE_FILES[3],
];

/// The same where others may be opening it just now.
const OURS_SHARED: [&str; 2] = [FORMAT_FILE, OBJECTS];
