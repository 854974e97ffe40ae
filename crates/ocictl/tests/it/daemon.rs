//! A server as a process, whose output is looked at.

use std::fs;
use std::process::{ChildStderr, ChildStdout, ExitStatus};

use super::*;

/// A server on a free port, killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) host: String,
    pub(crate) stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Runs a server by a shell, which first does something else.
    pub(crate) fn start(
        before: &str,
        data: &Path,
        more: &[&str],
        stderr: impl Into<Stdio>,
    ) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), OCICTL, "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--gc-interval", "0s", "--data"]).arg(data);
        command.args(more).env_remove("OCICTL_LOG").env_remove("NO_COLOR");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("listening on http://").expect(&line).to_owned();
        Self { child, host, stdout }
    }

    pub(crate) fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().unwrap())
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line with a text in it.
pub(crate) fn line_with(lines: &mut impl BufRead, text: &str) -> String {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        if line.contains(text) {
            return line;
        }
        line.clear();
    }
    panic!("there is no line with {text:?}");
}

/// A blob that lies in a file.
pub(crate) fn large() -> Vec<u8> {
    (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Takes the files of all blobs away, so that each read of one is worth a line in the log.
pub(crate) fn damage(data: &Path) {
    for directory in fs::read_dir(data.join("objects")).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}
