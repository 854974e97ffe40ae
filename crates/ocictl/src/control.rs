//! The control socket: how commands reach the server that is using a data directory.
//!
//! It is the file `control` in that directory, for its owner alone, and for root. A connection is
//! one job: a line with the job, then from the
//! server lines with what happens, then one with the report or the failure. Each line is a JSON document. A job ends
//! when its connection does.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_registry_store::DurableRegistry;
use rustix::process::geteuid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::upkeep::{Event, Job};

const SOCKET: &str = "control";

/// The longest path that is the address of a socket on all systems, in bytes.
const LONGEST: usize = 100;

const ROOT: u32 = 0;

/// The exit code of who may not have a job done.
const NOT_ALLOWED: u8 = 4;

/// A line with a job has no more bytes.
const MAX_JOB: u64 = 64 << 10;

/// A line from a server has no more bytes.
const MAX_LINE: u64 = 1 << 20;

/// How many lines may wait for whoever asked. What comes beyond that is not told; the report counts it.
const WAITING: usize = 10_000;

/// How many jobs run at a time.
const MAX_JOBS: usize = 16;

/// Makes the socket of a data directory, which this process holds. `None` if there cannot be one.
pub(crate) fn bind(data: &Path) -> Option<UnixListener> {
    match try_bind(data) {
        Ok(listener) => Some(listener),
        Err(error) => {
            let path = data.join(SOCKET);
            let path = path.display();
            tracing::warn!(%path, %error, "no control socket: gc, fsck and backup need this server to be stopped");
            None
        }
    }
}

/// Whether a server of a data directory can be asked.
pub(crate) async fn answers(data: &Path) -> bool {
    connect(data).await.is_ok()
}

async fn connect(data: &Path) -> io::Result<UnixStream> {
    let address = Address::of(data, SOCKET)?;
    UnixStream::connect(&address.path).await
}

/// The address of a socket, while this value lives.
struct Address {
    path: PathBuf,
    _directory: Option<File>,
}

impl Address {
    /// The address of a name in a directory. Where its path is too long for one, the directory is
    /// opened, and has a short name as long as it is; Linux alone has such names.
    fn of(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        if path.as_os_str().len() <= LONGEST || !cfg!(target_os = "linux") {
            return Ok(Self { path, _directory: None });
        }
        let directory = File::open(directory)?;
        let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into();
        Ok(Self { path, _directory: Some(directory) })
    }
}

/// Serves the socket.
pub(crate) async fn listen(listener: UnixListener, registry: DurableRegistry) -> Infallible {
    let mut jobs = JoinSet::new();
    loop {
        while jobs.len() >= MAX_JOBS {
            jobs.join_next().await;
        }
        while jobs.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                jobs.spawn(async move {
                    if let Err(error) = answer(stream, registry).await {
                        tracing::debug!(%error, "a control connection broke");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a control connection failed");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

/// Makes the socket in a directory that nobody else can enter, whatever the umask and whoever may
/// enter the data directory, and gives it its place and name when it has its mode. One that a
/// server left there that was killed is replaced.
fn try_bind(data: &Path) -> io::Result<UnixListener> {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    // Servers that share a database may share the directory.
    let made = data.join(format!("{SOCKET}-{}-{}", std::process::id(), since.as_nanos()));
    DirBuilder::new().mode(0o700).create(&made)?;
    let bind = || {
        let listener = UnixListener::bind(Address::of(&made, SOCKET)?.path)?;
        fs::set_permissions(made.join(SOCKET), Permissions::from_mode(0o600))?;
        fs::rename(made.join(SOCKET), data.join(SOCKET))?;
        Ok(listener)
    };
    let bound = bind();
    // If it is not empty, not all of that was done.
    let removed = fs::remove_dir(&made).or_else(|_| fs::remove_dir_all(&made));
    bound.and_then(|listener| removed.map(|()| listener))
}

/// The user at the other end, if it is none who may have jobs done. The modes of the socket and of
/// the directory say the same where they hold.
fn stranger(stream: &UnixStream) -> io::Result<Option<u32>> {
    let peer = stream.peer_cred()?.uid();
    Ok((![ROOT, geteuid().as_raw()].contains(&peer)).then_some(peer))
}

/// Does what one connection asks for.
async fn answer(stream: UnixStream, registry: DurableRegistry) -> io::Result<()> {
    let stranger = stranger(&stream)?;
    let (reader, mut writer) = stream.into_split();
    if let Some(peer) = stranger {
        tracing::warn!(user = peer, "a control connection was refused");
        let message = format!("user {peer} may not ask this server: its own user and root may");
        return write(&mut writer, &failed(&Failure::told(message, NOT_ALLOWED))).await;
    }
    let mut reader = BufReader::new(reader.take(MAX_JOB));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let job = serde_json::from_str(&line).ok().as_ref().and_then(Job::from_json);
    let Some(job) = job else {
        let failed =
            failed(&Failure::new("the server does not know this job: it is of another version"));
        return write(&mut writer, &failed).await;
    };
    let (events, mut waiting) = mpsc::channel(WAITING);
    let tell = move |event| {
        let _ = events.try_send(event);
    };
    let work = async {
        match job.run(registry, tell).await {
            Ok(report) => json!({"done": report}),
            Err(failure) => failed(&failure),
        }
    };
    let pass_on = async move {
        while let Some(event) = waiting.recv().await {
            let line = match event {
                Event::Progress(line) => json!({"progress": line}),
                Event::Problem(problem) => json!({"problem": problem}),
            };
            write(&mut writer, &line).await?;
        }
        io::Result::Ok(writer)
    };
    let both = async {
        let (last, passed) = futures_util::future::join(work, pass_on).await;
        write(&mut passed?, &last).await
    };
    // Whoever asked says nothing more, so that a read ends when they go.
    let mut nothing = [0; 1];
    tokio::select! {
        done = both => done,
        _ = reader.read(&mut nothing) => Ok(()),
    }
}

fn failed(failure: &Failure) -> Value {
    let (message, code) = failure.tell();
    json!({"failed": {"message": message, "code": code}})
}

async fn write(writer: &mut (impl tokio::io::AsyncWrite + Unpin), line: &Value) -> io::Result<()> {
    writer.write_all(format!("{line}\n").as_bytes()).await
}

/// Has the server that is using a data directory do a job, and gives its report.
pub(crate) async fn ask(
    data: &Path,
    job: &Job,
    show: &(dyn Fn(&Event) -> Result<(), Failure> + Sync),
) -> Result<Value, Failure> {
    let stream = connect(data).await.map_err(|error| {
        let path = data.join(SOCKET);
        let message = format!(
            "another process is using {}, and cannot be asked by {}",
            data.display(),
            path.display()
        );
        let hint = match error.kind() {
            io::ErrorKind::InvalidInput => {
                "the path is too long for a socket: name the directory by a shorter one, or stop the server first"
            }
            io::ErrorKind::PermissionDenied => "run this as the user whom the server runs as",
            _ => "if it is no server, wait until it is done; else stop it first",
        };
        Failure::told(message, 5).because(error).hint(hint)
    })?;
    let lost = |error: io::Error| Failure::new("talking to the running server").because(error);
    let (reader, mut writer) = stream.into_split();
    // A server that refuses does not wait for the job, and says why.
    let sent = write(&mut writer, &job.to_json()?).await;
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        (&mut reader).take(MAX_LINE).read_line(&mut line).await.map_err(lost)?;
        if line.is_empty() {
            sent.map_err(lost)?;
            return Err(Failure::told("the running server has gone before the end", 5));
        }
        let line: Value = serde_json::from_str(&line)
            .map_err(|error| Failure::new("understanding the running server").because(error))?;
        if let Some(report) = line.get("done") {
            return Ok(report.clone());
        } else if let Some(failed) = line.get("failed") {
            let message = failed["message"].as_str().unwrap_or("the running server failed");
            let code = failed["code"].as_u64().and_then(|code| u8::try_from(code).ok());
            return Err(Failure::told(message, code.unwrap_or(1)));
        } else if let Some(text) = line["progress"].as_str() {
            show(&Event::Progress(text.to_owned()))?;
        } else if let Some(problem) = line.get("problem") {
            show(&Event::Problem(problem.clone()))?;
        }
    }
}
