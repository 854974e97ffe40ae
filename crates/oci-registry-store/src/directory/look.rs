//! Checks that a directory can be taken for ours: looked at before anything in it is opened for
//! writing.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use oci_ref::{Error, ErrorKind, Result};
use rustix::process::geteuid;

use super::{DATABASE_FILES, FORMAT_FILE, FRESH_FORMAT_FILE, LOCK_FILE, OBJECTS, failed, lock};
use crate::private;

const ROOT: u32 = 0;

/// The permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Refuses a directory of another user, and one in which something of ours is a link, of another
/// kind than it should be, or another user's. `root` is where the directory truly is, which may lie
/// behind links: whoever named it meant that.
///
/// What belongs to root is taken: the top of a volume often does, and root could do anything to it
/// all the same.
pub(super) fn refuse_planted(shown: &Path, root: &Path) -> Result<()> {
    let refuse = |what: String| {
        let message = format!("data directory {} {what}", shown.display());
        Err(Error::new(ErrorKind::Invalid, message))
    };
    let own = geteuid().as_raw();
    let strange = |found: &Metadata| (![ROOT, own].contains(&found.uid())).then(|| found.uid());
    let found = fs::metadata(root).map_err(|error| failed("read", shown, error))?;
    if let Some(owner) = strange(&found) {
        return refuse(format!(
            "belongs to user {owner}, and this process runs as user {own}: run it as that user, or \
             give it the directory"
        ));
    }
    let files = DATABASE_FILES.iter().copied().chain([LOCK_FILE, FORMAT_FILE]);
    let all = files.map(|name| (name, false)).chain([(OBJECTS, true)]);
    for (name, is_directory) in all {
        let found = match fs::symlink_metadata(root.join(name)) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", shown, error)),
        };
        if found.is_symlink() {
            return refuse(format!(
                "has a link in it, {name}: it must lie in the directory itself"
            ));
        }
        if found.is_dir() != is_directory || !is_directory && !found.is_file() {
            let expected = if is_directory { "a directory" } else { "a file" };
            return refuse(format!("has {name} in it, which is not {expected}"));
        }
        if let Some(owner) = strange(&found) {
            return refuse(format!(
                "has {name} in it of user {owner}, and this process runs as user {own}: one user \
                 owns all of it"
            ));
        }
    }
    Ok(())
}

/// A directory without a marker must be empty but for what a first opening that was cut off has
/// left, so that nobody's files are taken for ours.
pub(super) fn refuse_foreign(shown: &Path, root: &Path, ours: &[&str]) -> Result<()> {
    for entry in fs::read_dir(root).map_err(|error| failed("read", shown, error))? {
        let name = entry.map_err(|error| failed("read", shown, error))?.file_name();
        let fresh = name.to_string_lossy().starts_with(FRESH_FORMAT_FILE);
        let is_ours = name == "lost+found" || fresh || ours.iter().any(|ours| name == *ours);
        let is_ours = match name == LOCK_FILE && is_ours {
            true => lock::is_ours(&root.join(LOCK_FILE))
                .map_err(|error| failed("read", shown, error))?,
            false => is_ours,
        };
        if !is_ours {
            let message = format!(
                "{} is not a data directory: it has {} in it, and no file named {FORMAT_FILE}; \
                 give an empty or a new directory",
                shown.display(),
                name.display()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}

/// Takes from everybody but the owner what they may do in a directory and with what is named in it:
/// an older version may have made it, or somebody by hand. What cannot be changed is told: there
/// are file systems without permissions, and volumes that belong to root. SQLite must not have
/// opened its files: it would lose its locks.
pub(super) fn narrow(shown: &Path, root: &Path, names: &[&str]) {
    let mut open = Vec::new();
    let mut narrowed = false;
    let paths = names.iter().map(|name| root.join(name));
    for path in std::iter::once(root.to_owned()).chain(paths) {
        match narrow_one(&path) {
            Ok(changed) => narrowed |= changed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => open.push(format!("{}: {error}", path.display())),
        }
    }
    let path = shown.display();
    if narrowed {
        tracing::info!(%path, "the data directory was open to other users, and is its owner's alone now");
    }
    if !open.is_empty() {
        tracing::warn!(%path, ?open, "other users may be able to read the data directory, or to write to it");
    }
}

/// Takes it from others, and tells whether they had it until now.
fn narrow_one(path: &Path) -> io::Result<bool> {
    let file: File = private::options().read(true).open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(false);
    }
    file.set_permissions(Permissions::from_mode(mode & !OTHERS))?;
    // Some file systems take the change, and do not keep it.
    match file.metadata()?.mode() & OTHERS {
        0 => Ok(true),
        left => Err(io::Error::other(format!("its mode stays {left:03o} for others"))),
    }
}
