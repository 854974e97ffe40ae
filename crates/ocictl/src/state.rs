//! State that a run leaves to the next one: the uploads that it could not finish.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use oci_ref::open_locked;
use oci_registry_client::{UploadMemory, UploadRecord};
use oci_spec_types::{Digest, Host, Name};

/// The time for which an upload is remembered. Few registries keep one as long.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest record, in bytes.
const MAX_RECORD: u64 = 16 << 10;

/// Options about what is remembered.
#[derive(Clone, Debug, Args)]
pub(crate) struct StateArgs {
    /// Remember unfinished uploads in this directory, so that the same command goes on with them
    /// [default: $XDG_STATE_HOME/ocictl or ~/.local/state/ocictl]
    #[arg(long, value_name = "DIR", env = "OCICTL_STATE_DIR")]
    state_dir: Option<PathBuf>,

    /// Remember no unfinished uploads.
    #[arg(long)]
    no_state: bool,
}

impl StateArgs {
    /// Returns the memory for uploads, if there is to be one and a place for it.
    pub(crate) fn uploads(&self) -> Option<Uploads> {
        Some(Uploads::new(self.directory()?.join("uploads")))
    }

    /// Returns the directory of what is remembered, if there is to be one and a place for it.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let usual = || {
            let home = || absolute("HOME").map(|home| home.join(".local/state"));
            absolute("XDG_STATE_HOME").or_else(home).map(|base| base.join("ocictl"))
        };
        self.state_dir.clone().or_else(usual).filter(|_| !self.no_state)
    }
}

/// Uploads that are remembered in a directory, a file for each. The file has the address at which
/// the upload goes on, which may allow everybody to write to it; hence only the owner reads it.
#[derive(Clone, Debug)]
pub(crate) struct Uploads {
    directory: PathBuf,
}

impl Uploads {
    /// Uses a directory, which is made when there is something to remember. What is too old is
    /// removed from it.
    fn new(directory: PathBuf) -> Self {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if let Ok(Some(file)) = open_existing(&path)
                && is_old(&file)
            {
                let _ = fs::remove_file(&path);
            }
        }
        Self { directory }
    }

    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let Some(file) = open_locked(path)? else { return Ok(None) };
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Some(file))
    }
}

fn open_existing(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path)?.is_file() {
        true => open_locked(path),
        false => Ok(None),
    }
}

/// Tells whether a record was written too long ago. A time in the future says as little as none.
fn is_old(file: &File) -> bool {
    let modified = file.metadata().and_then(|found| found.modified()).ok();
    let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > KEPT)
}

impl UploadMemory for Uploads {
    fn record(
        &self,
        host: &Host,
        repository: &Name,
        digest: &Digest,
    ) -> Option<Box<dyn UploadRecord>> {
        let name = Digest::sha256(format!("{host}/{repository}@{digest}").as_bytes());
        let path = self.directory.join(name.encoded());
        match self.open(&path) {
            Ok(file) => Some(Box::new(Record { path, file: file? })),
            Err(error) => {
                let at = self.directory.display();
                tracing::debug!(%error, "unfinished uploads are not remembered in {at}");
                None
            }
        }
    }
}

/// A line with the address, in a file that nobody else writes meanwhile.
struct Record {
    path: PathBuf,
    file: File,
}

impl Record {
    fn read(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(MAX_RECORD).read_to_string(&mut text).ok()?;
        // A line without its end was not written to its end.
        text.strip_suffix('\n').map(str::to_owned)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl UploadRecord for Record {
    fn address(&mut self) -> Option<String> {
        if is_old(&self.file) {
            return None;
        }
        self.read()
    }

    fn keep(&mut self, address: &str) -> bool {
        let line = format!("{address}\n");
        line.len() as u64 <= MAX_RECORD && self.write(&line).is_ok()
    }

    fn forget(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl Drop for Record {
    /// Leaves no file behind that has nothing.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|found| found.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> (Host, Name, Digest) {
        let host = "r.example".parse().unwrap();
        (host, "a/b".parse().unwrap(), Digest::sha256(b"content"))
    }

    #[test]
    fn what_is_kept_is_found_by_the_next_run_and_by_nobody_else() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().join("state/uploads");
        let (host, name, digest) = parts();
        let open = || Uploads::new(at.clone()).record(&host, &name, &digest);
        let mut record = open().unwrap();
        assert_eq!(record.address(), None);
        assert!(record.keep("https://r.example/a-long-one"));
        assert!(record.keep("https://r.example/1?state=x"));
        assert!(open().is_none(), "one writer at a time");
        let other = "other".parse().unwrap();
        assert_eq!(
            Uploads::new(at.clone()).record(&host, &other, &digest).unwrap().address(),
            None
        );
        drop(record);

        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let files: Vec<_> = fs::read_dir(&at).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
        assert_eq!((mode(&at), mode(at.parent().unwrap())), (0o700, 0o700));

        let mut record = open().unwrap();
        assert_eq!(record.address().as_deref(), Some("https://r.example/1?state=x"));
        record.forget();
        assert_eq!(record.address(), None);
        drop(record);
        assert!(!files[0].exists());
    }

    #[test]
    fn what_is_old_or_broken_is_not_found() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().join("uploads");
        let (host, name, digest) = parts();
        let uploads = Uploads::new(at.clone());
        assert!(uploads.record(&host, &name, &digest).unwrap().keep("https://r.example/1"));
        let file = fs::read_dir(&at).unwrap().next().unwrap().unwrap().path();
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(uploads.record(&host, &name, &digest).unwrap().address(), None);
        Uploads::new(at);
        assert!(!file.exists());

        let mut record = uploads.record(&host, &name, &digest).unwrap();
        fs::write(&file, "https://r.exam").unwrap();
        assert_eq!(record.address(), None, "it was not written to its end");
        assert!(!record.keep(&"x".repeat(20_000)));
    }
}
