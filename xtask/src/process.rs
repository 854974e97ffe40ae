//! Running other programs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A task's result; the message is for people.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// One line of progress.
#[expect(clippy::print_stdout, reason = "tasks speak to people")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The top of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The tool that was given, or else one that is built now. Tasks run it in other directories, too.
pub(crate) fn find_ocictl(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        None => build_ocictl(),
        Some(path) => {
            std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
        }
    }
}

/// Builds the tool as users would have it, and says where it is.
fn build_ocictl() -> Result<PathBuf> {
    say("building ocictl (release)");
    run(cargo().args(["build", "--release", "--locked", "--quiet", "--package", "ocictl"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| workspace().join("target"), |dir| workspace().join(dir));
    Ok(target.join("release").join("ocictl"))
}

/// Runs a program to its end, and gives what it printed. What it says when it fails is in the error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Runs `ocictl` with `--json` beside other tasks, and gives the last document that it printed.
pub(crate) async fn ask(mut ocictl: Command) -> Result<Value> {
    ocictl.arg("--json");
    let ran = tokio::task::spawn_blocking(move || run(&mut ocictl)).await;
    let printed = ran.map_err(|error| error.to_string())??;
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| format!("ocictl printed {printed:?}: {error}"))
}

/// A number of such a document; 0 if it has none of that name.
pub(crate) fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_default()
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// A running `ocictl serve`. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens, as `127.0.0.1:PORT`.
    pub(crate) host: String,
}

impl Server {
    /// Starts the server on a free port, and waits until it says where it listens.
    pub(crate) fn start(ocictl: &Path, data: &Path, extra: &[&str]) -> Result<Self> {
        let mut command = Command::new(ocictl);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(extra);
        Self::spawn(command)
    }

    /// The same with a command that runs the server in the end.
    pub(crate) fn spawn(mut command: Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
                format!("{}: cannot be started: {error}", command.get_program().display())
            })?;
        let stdout = child.stdout.take().ok_or("the server has no standard output")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let host = line.trim_end().strip_prefix("listening on http://").map(str::to_owned);
        let server = Self { child, host: host.clone().unwrap_or_default() };
        match (read, host) {
            (Ok(_), Some(_)) => Ok(server),
            (Err(error), _) => Err(format!("reading what the server prints: {error}")),
            (Ok(_), None) => {
                Err(format!("the server printed {line:?} instead of where it listens"))
            }
        }
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server at once, as a crash would (SIGKILL).
    pub(crate) fn kill(mut self) -> Result {
        self.stop().map_err(|error| format!("killing the server: {error}"))
    }

    /// Waits until it has ended by itself, or by a signal.
    pub(crate) fn wait(mut self) -> Result {
        self.child.wait().map(drop).map_err(|error| format!("waiting for the server: {error}"))
    }

    fn stop(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.stop();
    }
}
