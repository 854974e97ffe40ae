//! The file `oci-layout`: it says that a directory is a layout, and of which version. It is made once and never
//! replaced, so it is also what writers lock.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use oci_spec_types::{ErrorCode, check_document};
use serde_json::Value;

use super::disk::{Disk, INDEX};
use crate::files::{read_limited, write_new};
use crate::{Error, ErrorKind, Result};

pub(crate) const MARKER: &str = "oci-layout";
const VERSION: &str = "1.0.0";
pub(crate) const MARKER_LIMIT: u64 = 64 << 10;
pub(crate) const NEW_MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const NEW_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Checks that a directory is a layout of the known version.
pub(super) fn check(root: &Path) -> Result<()> {
    let at = root.display();
    let Some(bytes) = read_limited(&root.join(MARKER), MARKER, MARKER_LIMIT)? else {
        let found = match fs::metadata(root) {
            Ok(found) if found.is_dir() => "the directory has no file oci-layout",
            Ok(_) => "it is not a directory",
            Err(_) => "it does not exist",
        };
        return Err(Error::new(
            ErrorCode::NameUnknown,
            format!("{at} is not an OCI image layout: {found}"),
        ));
    };
    check_content(&bytes, &format!("layout {at}"))
}

/// Checks the content of the file in a layout that errors call `at`.
pub(crate) fn check_content(bytes: &[u8], at: &str) -> Result<()> {
    let broken = |reason: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Invalid, format!("{at}: oci-layout: {reason}"))
    };
    check_document(bytes).map_err(|error| broken(&error))?;
    let marker: Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    match marker.get("imageLayoutVersion") {
        Some(Value::String(found)) if found == VERSION => Ok(()),
        Some(Value::String(found)) => Err(Error::unsupported(format!(
            "{at}: oci-layout: imageLayoutVersion is {:?}, expected {VERSION:?}",
            found.chars().take(64).collect::<String>()
        ))),
        Some(_) => Err(broken(&"imageLayoutVersion is not a text")),
        None => Err(broken(&"imageLayoutVersion is missing")),
    }
}

/// Makes the parts of a layout that are not there, the marker last: whoever sees it sees a whole layout.
pub(super) fn create(disk: &Disk) -> Result<()> {
    let root = disk.root();
    if !root.join(MARKER).exists() {
        disk.make_directories()?;
        write_new(root, INDEX, NEW_INDEX, disk.options().sync)?;
        write_new(root, MARKER, NEW_MARKER, disk.options().sync)?;
    }
    check(root)
}

/// Waits until nobody else holds the layout's lock, in this process or another, and takes it. It is given back when
/// the file is dropped.
pub(super) fn lock(root: &Path) -> Result<File> {
    let open = File::options().read(true).write(true).open(root.join(MARKER));
    let locked = open.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error: io::Error| {
        Error::io(format!("layout {}: oci-layout cannot be locked", root.display()), error)
    })
}
