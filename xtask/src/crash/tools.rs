//! What `ocictl` is used for, besides serving.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Result, Server, run};

/// How long unreferenced content stays, so that much of it is collected under load.
const GRACE: Duration = Duration::from_secs(4);
const COLLECT: [&str; 4] = ["--gc-interval", "700ms", "--gc-grace", "4s"];

/// The tool under test, and what it can do.
pub(super) struct Tools {
    pub(super) ocictl: PathBuf,
    has_fsck: bool,
    /// Whether a server can be told to collect garbage.
    collects: bool,
}

impl Tools {
    pub(super) fn of(ocictl: PathBuf) -> Result<Self> {
        let help = run(Command::new(&ocictl).arg("--help"))?;
        let has = |name: &str| help.lines().any(|line| line.trim_start().starts_with(name));
        let serve = run(Command::new(&ocictl).args(["serve", "--help"]))?;
        let collects = serve.contains("--gc-grace");
        Ok(Self { has_fsck: has("fsck "), collects, ocictl })
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
        Server::spawn(self.serve(data, options)?).map_err(|error| {
            let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
            format!("{error}: {}", log.lines().next_back().unwrap_or_default())
        })
    }

    /// What makes a server collect garbage all the time, if it can.
    pub(super) fn collecting(&self) -> &'static [&'static str] {
        if self.collects { &COLLECT } else { &[] }
    }

    /// How long content stays that nothing references then.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.collects.then_some(GRACE)
    }

    /// What of the tool is used, for the report.
    pub(super) fn said(&self) -> String {
        let said = |has| if has { "yes" } else { "this ocictl has none" };
        format!("fsck: {}; collections: {}", said(self.has_fsck), said(self.collects))
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

/// What runs the clients, on this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))
}
