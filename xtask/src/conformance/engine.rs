//! Our own server, with each of its engines.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::Target;
use crate::process::{Result, cargo, run, say, workspace};

/// Which engines to check.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Choice {
    /// What `oci-registry-server` brings along.
    Memory,
    /// That of `ocictl serve`.
    Durable,
    /// One after the other.
    All,
}

impl Choice {
    pub(super) fn engines(self) -> Vec<Engine> {
        match self {
            Self::Memory => vec![Engine::Memory],
            Self::Durable => vec![Engine::Durable],
            Self::All => vec![Engine::Memory, Engine::Durable],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Memory,
    Durable,
    /// The durable one with its metadata on a database server.
    Database,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Durable => "durable",
            Self::Database => "database",
        }
    }
}

/// The programs that serve.
pub(super) struct Programs {
    ocictl: PathBuf,
    memory: PathBuf,
    database: Option<String>,
}

/// Finds the programs that the targets need, and builds those that are not given.
pub(super) fn programs(
    ocictl: Option<&Path>,
    memory: Option<&Path>,
    database: Option<&str>,
    targets: &[Target],
) -> Result<Programs> {
    let needs = |wanted| {
        targets.iter().any(|target| matches!(target, Target::Own(engine) if *engine == wanted))
    };
    let built = target_directory().join("debug");
    if ocictl.is_none() && (needs(Engine::Durable) || needs(Engine::Database)) {
        say("building ocictl");
        run(cargo().args(["build", "--locked", "--quiet", "--package", "ocictl"]))?;
    }
    if memory.is_none() && needs(Engine::Memory) {
        say("building the example memory of oci-registry-server");
        let package = ["--package", "oci-registry-server", "--example", "memory"];
        run(cargo().args(["build", "--locked", "--quiet"]).args(package))?;
    }
    Ok(Programs {
        ocictl: ocictl.map_or_else(|| built.join("ocictl"), Path::to_owned),
        memory: memory.map_or_else(|| built.join("examples").join("memory"), Path::to_owned),
        database: database.map(str::to_owned),
    })
}

/// Where cargo builds.
pub(super) fn target_directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| workspace().join("target"), |directory| workspace().join(directory))
}

/// A server that runs. It is killed when it is dropped, and its data goes with it.
pub(super) struct Running {
    child: Child,
    _data: tempfile::TempDir,
    /// Where it listens, as `127.0.0.1:PORT`.
    pub(super) host: String,
}

/// A server that does not say where it listens within this time does not start.
const START_LIMIT: Duration = Duration::from_secs(60);
const LISTENS: &str = "listening on ";

impl Running {
    /// Starts a server on a free port and empty data, and waits until it says where it listens. What it says goes to
    /// a log. `sparse`: it takes manifests whose references are not all there, if it can be asked to.
    pub(super) fn start(
        engine: Engine,
        programs: &Programs,
        log: &Path,
        sparse: bool,
    ) -> Result<Self> {
        let data = tempfile::tempdir();
        let data = data.map_err(|error| format!("making a directory for data: {error}"))?;
        let mut command = match engine {
            Engine::Memory => {
                let mut command = Command::new(&programs.memory);
                command.arg("127.0.0.1:0").args(sparse.then_some("--sparse"));
                command
            }
            Engine::Durable | Engine::Database => {
                let mut command = Command::new(&programs.ocictl);
                command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
                command.args(sparse.then_some("--references=unchecked"));
                // In the environment, since it can hold a password.
                let database = programs.database.as_deref().filter(|_| engine == Engine::Database);
                command.env("OCICTL_DATABASE", database.unwrap_or("sqlite:"));
                command
            }
        };
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| format!("{name}: cannot be started: {error}");
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let log_file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let child = command.spawn().map_err(failed)?;
        // Else this process would keep the pipe open after the server's end.
        drop(command);
        let mut running = Self { child, _data: data, host: String::new() };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || keep_log(reader, log_file, &sender));
        running.host = receiver.recv_timeout(START_LIMIT).map_err(|_| {
            format!("{name} does not say where it listens; what it says is in {}", log.display())
        })?;
        Ok(running)
    }
}

/// Writes what the server prints to a log, and tells where it listens.
fn keep_log(reader: impl Read, mut log: File, address: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while matches!(reader.read_line(&mut line), Ok(1..)) {
        // The log is a help for people; the checks do not depend on it.
        let _ = log.write_all(line.as_bytes());
        if let Some(found) = line.trim_end().strip_prefix(LISTENS) {
            let _ = address.send(found.trim_start_matches("http://").to_owned());
            break;
        }
        line.clear();
    }
    let _ = std::io::copy(&mut reader, &mut log);
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
