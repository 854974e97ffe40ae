//! What `ocictl` is used for, besides serving.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Result, Server, run};

/// How long unreferenced content stays, so that much of it is collected under load.
const GRACE: Duration = Duration::from_secs(4);
const COLLECT: [&str; 4] = ["--gc-interval", "700ms", "--gc-grace", "4s"];
/// The bytes of what was collected, or deleted, go with the next collection, under load.
const DELETE: [&str; 2] = ["--longest-read", "0s"];
/// A pull that pauses for so long outlasts the bytes of a blob that was deleted.
pub(super) const OUTLASTS: Duration = Duration::from_millis(1500);

/// The tool under test, and what it can do.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) ocictl: PathBuf,
    has_fsck: bool,
    /// Whether a server can be told to collect garbage.
    collects: bool,
    /// Whether it can be told how soon their bytes go.
    deletes: bool,
}

impl Tools {
    pub(super) fn of(ocictl: PathBuf) -> Result<Self> {
        let help = run(Command::new(&ocictl).arg("--help"))?;
        let has = |name: &str| help.lines().any(|line| line.trim_start().starts_with(name));
        let serve = run(Command::new(&ocictl).args(["serve", "--help"]))?;
        let collects = serve.contains("--gc-grace");
        let deletes = serve.contains("--longest-read");
        Ok(Self { has_fsck: has("fsck "), collects, deletes, ocictl })
    }

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

    /// What makes a server collect garbage all the time, if it can.
    pub(super) fn collecting(&self) -> Vec<&'static str> {
        let collect = if self.collects { &COLLECT[..] } else { &[] };
        [collect, self.deleting()].concat()
    }

    /// What makes it delete the bytes of deleted blobs at once, if it can.
    pub(super) fn deleting(&self) -> &'static [&'static str] {
        if self.deletes { &DELETE } else { &[] }
    }

    /// How long content stays that nothing references then.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.collects.then_some(GRACE)
    }

    /// What of the tool is used, for the report.
    pub(super) fn said(&self) -> String {
        let said = |has| if has { "yes" } else { "this ocictl has none" };
        format!(
            "fsck: {}; collections: {}; deletions of their bytes: {}",
            said(self.has_fsck),
            said(self.collects),
            said(self.deletes)
        )
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
        if !self.has_fsck {
            return Ok(());
        }
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
