//! What `ocictl` is used for, besides serving.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Result, Server, run};

/// How long unreferenced content stays, so that much of it is collected under load.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// What makes a server collect garbage all the time, and delete the bytes of deleted blobs at once.
pub(super) const COLLECTING: [&str; 6] =
    ["--gc-interval", "500ms", "--gc-grace", "2s", DELETING[0], DELETING[1]];
/// The bytes of what was collected, or deleted, go with the next collection, under load.
pub(super) const DELETING: [&str; 2] = ["--longest-read", "0s"];
/// A pull that pauses for so long outlasts the bytes of a blob that was deleted. The load that goes on beside it outlasts the
/// grace of what nothing references; shorter loads do not, since everything is looked at between them, which renews it.
pub(super) const OUTLASTS: Duration = Duration::from_secs(3);

/// The tool under test.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) ocictl: PathBuf,
}

impl Tools {
    /// The command that serves a directory. What it has to say goes to the end of a log beside the directory.
    pub(super) fn serve(&self, data: &Path, options: &[&str]) -> Result<Command> {
        let path = data.with_extension("log");
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("{}: {error}", path.display()))?;
        let mut command = Command::new(&self.ocictl);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(options);
        command.stderr(log);
        Ok(command)
    }

    /// Starts it, and waits until it says where it listens.
    pub(super) fn start(&self, data: &Path, options: &[&str]) -> Result<Server> {
        let started = Server::spawn(self.serve(data, options)?);
        started.map_err(|error| format!("{error}: {}", self.said_last(data)))
    }

    /// The last line of what the servers of a directory had to say.
    pub(super) fn said_last(&self, data: &Path) -> String {
        let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
        log.lines().next_back().unwrap_or_default().to_owned()
    }

    /// Checks a data directory that no server uses: nothing may be wrong with it.
    pub(super) fn fsck(&self, data: &Path) -> Result {
        self.fsck_at(data, &[], &[])
    }

    /// The same where other options and an environment say where the content lies.
    pub(super) fn fsck_at(
        &self,
        data: &Path,
        options: &[String],
        environment: &[(String, String)],
    ) -> Result {
        let mut command = Command::new(&self.ocictl);
        command.arg("fsck").arg("--data").arg(data).args(options);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let found = run(&mut command);
        found.map(drop).map_err(|error| format!("fsck is not clean: {error}"))
    }
}

/// A seed that was not used before.
pub(super) fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64 % 1_000_000_000)
}

/// What runs the clients, on this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))
}
