//! What a scenario works with: a directory of its own, a server, and programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::interop::content;
use crate::interop::program::{self, LIMIT, Programs};
use crate::process::{Result, Server};

/// What a scenario works with.
pub(crate) struct World<'a> {
    /// The programs.
    pub(crate) programs: &'a Programs,
    /// The tool under test.
    ocictl: &'a Path,
    /// An empty directory.
    pub(crate) scratch: tempfile::TempDir,
    /// A layout with sample content, never written to.
    pub(crate) layout: PathBuf,
}

impl<'a> World<'a> {
    /// An empty world with sample content.
    pub(crate) fn new(ocictl: &'a Path, programs: &'a Programs) -> Result<Self> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let world = Self { programs, ocictl, layout: scratch.path().join("sample"), scratch };
        content::write(&world.layout)?;
        world.directory("home")?;
        // Some programs want it there.
        world.directory("home/run")?;
        Ok(world)
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The same as text, as programs take it.
    pub(crate) fn text(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// Makes a directory.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path(name);
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(text(&path))
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Starts the server on this world's data.
    pub(crate) fn serve(&self) -> Result<Server> {
        Server::start(self.ocictl, &self.path("server"), &[])
    }

    /// Runs a client.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.programs.command(program, &self.path("home"))?;
        program::run(command.args(args), LIMIT)
    }

    /// Runs `ocictl`.
    pub(crate) fn ocictl(&self, args: &[&str]) -> Result<String> {
        program::run(self.ocictl_command().args(args), LIMIT)
    }

    /// `ocictl`, to be given arguments.
    pub(crate) fn ocictl_command(&self) -> Command {
        let mut command = Command::new(self.ocictl);
        program::apart(&mut command, &self.path("home"));
        command
    }

    /// Copies an entry of the sample into a registry with `ocictl`.
    pub(crate) fn put(&self, name: &str, reference: &str) -> Result {
        let source = format!("oci:{}:{name}", text(&self.layout));
        self.ocictl(&["copy", &source, &format!("docker://{reference}")]).map(|_| ())
    }

    /// Copies what a registry has into a layout with `ocictl`.
    pub(crate) fn get(&self, reference: &str, layout: &str, name: &str) -> Result {
        let target = format!("oci:{}:{name}", self.text(layout));
        self.ocictl(&["copy", &format!("docker://{reference}"), &target]).map(|_| ())
    }

    /// The digest of an image's config.
    pub(crate) fn config(&self, reference: &str) -> Result<String> {
        let raw = self.ocictl(&["inspect", "--raw", reference])?;
        let image: serde_json::Value =
            serde_json::from_str(&raw).map_err(|error| format!("{reference}: {error}"))?;
        let digest = image["config"]["digest"].as_str();
        digest.map(str::to_owned).ok_or_else(|| format!("{reference} has no config: {raw}"))
    }

    /// Checks that a registry has an entry of the sample, byte for byte, and gives how many pieces of content it is.
    pub(crate) fn check(&self, reference: &str, name: &str) -> Result<usize> {
        let back = tempfile::tempdir_in(self.scratch.path())
            .map_err(|error| format!("making a scratch directory: {error}"))?;
        let target = format!("oci:{}:{name}", text(&back.path().join("layout")));
        self.ocictl(&["copy", &format!("docker://{reference}"), &target])?;
        content::same(&self.layout, &back.path().join("layout"), name)
    }

    /// Checks that a registry does not have something.
    pub(crate) fn check_gone(&self, reference: &str) -> Result {
        match self.ocictl(&["inspect", &format!("docker://{reference}")]) {
            Err(error) if error.contains("exit status: 3") => Ok(()),
            Err(error) => Err(format!("expected not found (3): {error}")),
            Ok(shown) => Err(format!("{reference} was deleted, but is still there: {shown}")),
        }
    }
}

/// A path as text, as programs take it.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Checks the lines of a program that prints a list.
pub(crate) fn expect_lines(what: &str, printed: &str, expected: &[&str]) -> Result {
    let mut lines: Vec<&str> = printed.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.sort_unstable();
    if lines == expected {
        return Ok(());
    }
    Err(format!("{what} printed {lines:?}, expected {expected:?}"))
}

/// Checks that a program printed something.
pub(crate) fn expect(what: &str, printed: &str, expected: &str) -> Result {
    if printed.contains(expected) {
        return Ok(());
    }
    Err(format!("{what} printed {printed:?}, expected {expected:?}"))
}
