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
    /// That of `ocictl serve`, on SQLite and files.
    Durable,
    /// The same with large blobs in memory.
    DurableMemory,
    /// The same with its metadata in PostgreSQL, in `--database`.
    Database,
    /// The same with large blobs in the bucket that `--storage` names, and its metadata in `--database` if there is one.
    Bucket,
    /// All of these, those that need a database or a bucket if there is one.
    All,
}

impl Choice {
    /// The engines. One database serves one of them, since it remembers where blobs lie.
    pub(super) fn engines(self, database: bool, bucket: bool) -> Result<Vec<Engine>> {
        let durable = |database, storage| Engine::Durable { database, storage };
        let (on_database, on_bucket) =
            (durable(true, Storage::Files), durable(database, Storage::Bucket));
        let always =
            [Engine::Memory, durable(false, Storage::Files), durable(false, Storage::Memory)];
        Ok(match self {
            Self::Memory => always[..1].to_vec(),
            Self::Durable => always[1..2].to_vec(),
            Self::DurableMemory => always[2..].to_vec(),
            Self::Database if database => vec![on_database],
            Self::Database => return Err("--engine database needs --database".into()),
            Self::Bucket if bucket => vec![on_bucket],
            Self::Bucket => return Err("--engine bucket needs --storage".into()),
            Self::All if bucket => [&always[..], &[on_bucket]].concat(),
            Self::All if database => [&always[..], &[on_database]].concat(),
            Self::All => always.to_vec(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Memory,
    /// The durable one, with its metadata on a database server or in SQLite.
    Durable {
        database: bool,
        storage: Storage,
    },
}

/// Where the durable engine keeps large blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Files,
    Memory,
    Bucket,
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        let Self::Durable { database, storage } = self else { return "memory" };
        match (database, storage) {
            (false, Storage::Files) => "durable",
            (false, Storage::Memory) => "durable-memory",
            (false, Storage::Bucket) => "durable-bucket",
            (true, Storage::Files) => "database",
            (true, Storage::Memory) => "database-memory",
            (true, Storage::Bucket) => "database-bucket",
        }
    }
}

/// The programs that serve.
pub(super) struct Programs {
    ocictl: PathBuf,
    memory: PathBuf,
    database: Option<String>,
    storage: Option<String>,
}

/// Finds the programs that the targets need, and builds those that are not given.
pub(super) fn programs(
    ocictl: Option<&Path>,
    memory: Option<&Path>,
    database: Option<&str>,
    storage: Option<&str>,
    targets: &[Target],
) -> Result<Programs> {
    let needs = |is_needed: fn(Engine) -> bool| {
        targets.iter().any(|target| matches!(target, Target::Own(engine) if is_needed(*engine)))
    };
    let built = target_directory().join("debug");
    if ocictl.is_none() && needs(|engine| engine != Engine::Memory) {
        say("building ocictl");
        run(cargo().args(["build", "--locked", "--quiet", "--package", "ocictl"]))?;
    }
    if memory.is_none() && needs(|engine| engine == Engine::Memory) {
        say("building the example memory of oci-registry-server");
        let package = ["--package", "oci-registry-server", "--example", "memory"];
        run(cargo().args(["build", "--locked", "--quiet"]).args(package))?;
    }
    Ok(Programs {
        ocictl: ocictl.map_or_else(|| built.join("ocictl"), Path::to_owned),
        memory: memory.map_or_else(|| built.join("examples").join("memory"), Path::to_owned),
        database: database.map(str::to_owned),
        storage: storage.map(str::to_owned),
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
            Engine::Durable { database, storage } => {
                let mut command = Command::new(&programs.ocictl);
                command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
                command.args(sparse.then_some("--references=unchecked"));
                // In the environment, since it can hold a password.
                let url = programs.database.as_deref().filter(|_| database);
                command.env("OCICTL_DATABASE", url.unwrap_or("sqlite:"));
                let bucket = programs.storage.as_deref();
                command.arg("--storage").arg(match storage {
                    Storage::Files => "file:",
                    Storage::Memory => "memory:",
                    Storage::Bucket => bucket.unwrap_or_default(),
                });
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
