//! The files that the sample is made of: what there is of a few that most machines have.

use std::fs;

use bytes::Bytes;

/// The largest file that is taken.
const LIMIT: u64 = 3 << 20;

/// Where files are looked for, and what they are called in the image.
const WANTED: &[(&str, &str)] = &[
    ("/etc/os-release", "etc/os-release"),
    ("/etc/passwd", "etc/passwd"),
    ("/etc/group", "etc/group"),
    ("/etc/services", "etc/services"),
    ("/etc/protocols", "etc/protocols"),
    ("/bin/true", "bin/true"),
    ("/bin/sh", "bin/sh"),
    ("/bin/bash", "bin/bash"),
    ("/usr/bin/env", "usr/bin/env"),
    ("/usr/share/common-licenses/GPL-3", "usr/share/common-licenses/GPL-3"),
    ("/usr/share/common-licenses/Apache-2.0", "usr/share/common-licenses/Apache-2.0"),
    ("/usr/share/zoneinfo/UTC", "usr/share/zoneinfo/UTC"),
];

/// The one file that is there on every machine: this crate's own source.
pub(super) const OWN: &str = "usr/share/doc/oci-ref/lib.rs";

/// A file of the image.
pub(super) struct File {
    /// Its path, without a leading slash.
    pub(super) path: &'static str,
    /// Its content.
    pub(super) content: Bytes,
    /// Whether it is a program.
    pub(super) executable: bool,
}

/// The files, in a fixed order.
pub(super) fn read() -> Vec<File> {
    let own = File {
        path: OWN,
        content: Bytes::from_static(include_bytes!("../../lib.rs")),
        executable: false,
    };
    let found = WANTED.iter().filter_map(|(source, path)| {
        let is_small =
            fs::metadata(source).is_ok_and(|found| found.is_file() && found.len() <= LIMIT);
        let content = is_small.then(|| fs::read(source).ok()).flatten()?;
        Some(File { path, content: content.into(), executable: path.contains("bin/") })
    });
    found.chain([own]).collect()
}
