//! Running the programs of other people: found where the user says, away from his settings, and never for ever.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Result;

/// The longest that a program may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Where programs are found.
pub(crate) struct Programs {
    /// Directories that come before those of `PATH`.
    pub(crate) first: Vec<PathBuf>,
}

impl Programs {
    /// The file of a program.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let given = self.first.iter().map(|directory| std::path::absolute(directory).ok());
        // The directories where daemons lie are not on the PATH of every user.
        let system = ["/usr/sbin", "/sbin"].map(|directory| Some(PathBuf::from(directory)));
        given
            .chain(std::env::split_paths(&path).map(Some))
            .chain(system)
            .flatten()
            .map(|directory| directory.join(program))
            .find(|file| file.is_file())
    }

    /// A program that keeps its settings and its state in `home`.
    pub(crate) fn command(&self, program: &str, home: &Path) -> Result<Command> {
        let file = self.find(program).ok_or_else(|| format!("{program} is not installed"))?;
        let mut command = Command::new(file);
        apart(&mut command, home);
        Ok(command)
    }
}

/// Keeps a program from the user's settings, credentials and proxies.
pub(crate) fn apart(command: &mut Command, home: &Path) {
    command.env("HOME", home).current_dir(home);
    for (name, directory) in [
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_DATA_HOME", "data"),
        ("XDG_RUNTIME_DIR", "run"),
    ] {
        command.env(name, home.join(directory));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        command.env(name, "127.0.0.1");
    }
    for name in ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
        command.env_remove(name);
    }
}

/// Runs a program to its end, and gives what it printed. What it says when it fails is in the error. It is killed when
/// it takes too long.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: cannot be started: {error}"))?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let end = Instant::now() + limit;
    let printed = wait_for(&stdout, end).and_then(|out| Ok((out, wait_for(&stderr, end)?)));
    let (stdout, stderr) = match printed {
        Ok(printed) => printed,
        Err(_) => {
            let _ = stop(&mut child);
            return Err(format!("{name}: killed after {limit:?}"));
        }
    };
    // It has closed what it prints to: it is ending.
    let status = child.wait().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(stdout) } else { Err(format!("{name}: {status}\n{stdout}{stderr}")) }
}

/// Ends a program at once.
pub(crate) fn stop(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.kill()?;
    child.wait()
}

fn wait_for(
    text: &Receiver<String>,
    end: Instant,
) -> std::result::Result<String, RecvTimeoutError> {
    text.recv_timeout(end.saturating_duration_since(Instant::now()))
}

fn read_all(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error is what there is.
            let _ = from.read_to_end(&mut bytes);
        }
        // Nobody listens any more when the program took too long.
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_kept() {
        let say = |script: &str| run(Command::new("sh").args(["-c", script]), LIMIT);
        assert_eq!(say("echo out; echo err >&2"), Ok("out\n".into()));
        let error = say("echo out; echo err >&2; exit 3").unwrap_err();
        assert_eq!(error, "sh -c echo out; echo err >&2; exit 3: exit status: 3\nout\nerr\n");
    }

    #[test]
    fn what_takes_too_long_is_killed() {
        let begin = Instant::now();
        let error = run(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error, "sleep 600: killed after 50ms");
        assert!(begin.elapsed() < LIMIT, "it was waited for");
    }
}
