//! Files and directories for their owner alone: modes 0600 and 0700, whatever the umask.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;

/// Makes a directory with those above it, unless it is there.
pub(crate) fn directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(path)
}

/// Makes a directory, unless it is there. Fails if something else is, such as a link to one.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path)?.is_dir() {
                true => Ok(()),
                false => Err(error),
            }
        }
        done => done,
    }
}

/// Makes a file, to write to it. Fails if there is one.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// Options that open no link, and make files for their owner alone.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // The flags of all systems fit.
    options.mode(FILE).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}
