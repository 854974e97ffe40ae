//! What `ocictl` is used for, besides serving.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Result, run};

/// The tool under test, and what it can do.
pub(super) struct Tools {
    pub(super) ocictl: PathBuf,
    has_fsck: bool,
}

impl Tools {
    pub(super) fn of(ocictl: PathBuf) -> Result<Self> {
        let help = run(Command::new(&ocictl).arg("--help"))?;
        let has = |name: &str| help.lines().any(|line| line.trim_start().starts_with(name));
        Ok(Self { has_fsck: has("fsck "), ocictl })
    }

    pub(super) fn fsck_said(&self) -> &'static str {
        if self.has_fsck { "yes" } else { "this ocictl has none" }
    }

    /// Checks a data directory that no server uses: nothing may be wrong with it.
    pub(super) fn fsck(&self, data: &Path) -> Result {
        if !self.has_fsck {
            return Ok(());
        }
        let found = run(Command::new(&self.ocictl).arg("fsck").arg("--data").arg(data));
        found.map(drop).map_err(|error| format!("fsck is not clean: {error}"))
    }
}

/// A seed that was not used before.
pub(super) fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64 % 1_000_000_000)
}
