//! `cargo xtask interop`: the server and the tool against clients that other people wrote.
//!
//! Every scenario works on real content (files of this machine, packed as layers) and compares byte for byte. A client
//! that is not installed is a failure: a skipped scenario proves nothing.

mod content;
mod scenarios;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::process::{Result, Server, build_ocictl, client, say};

/// What to run, and with which build.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to test; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,
}

/// What a scenario works with.
pub(crate) struct World {
    /// The tool under test.
    pub(crate) ocictl: PathBuf,
    /// An empty directory.
    pub(crate) scratch: tempfile::TempDir,
    /// A layout with sample content, never written to.
    pub(crate) layout: PathBuf,
    /// Where the server's data lies.
    pub(crate) data: PathBuf,
}

impl World {
    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Starts the server on this world's data.
    pub(crate) fn serve(&self) -> Result<Server> {
        Server::start(&self.ocictl, &self.data, &[])
    }

    /// Runs `ocictl`.
    pub(crate) fn ocictl(&self, args: &[&str]) -> Result<String> {
        client(&self.ocictl.to_string_lossy(), args)
    }
}

pub(crate) fn run_all(options: &Options) -> Result {
    for (program, version) in [("skopeo", "--version"), ("umoci", "--version")] {
        let found = client(program, [version])?;
        say(found.lines().next().unwrap_or(program));
    }
    let ocictl = match &options.ocictl {
        Some(path) => path.clone(),
        None => build_ocictl()?,
    };
    for (name, scenario) in scenarios::ALL {
        let start = Instant::now();
        let world = new_world(&ocictl)?;
        if let Err(error) = scenario(&world) {
            let kept = world.scratch.keep();
            return Err(format!("{name}: {error}\nwhat was used is kept in {}", kept.display()));
        }
        say(&format!("ok {name} ({:.1} s)", start.elapsed().as_secs_f64()));
    }
    say(&format!("{} passed, 0 failed", scenarios::ALL.len()));
    Ok(())
}

fn new_world(ocictl: &Path) -> Result<World> {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let layout = scratch.path().join("sample");
    content::write(&layout)?;
    Ok(World { ocictl: ocictl.to_owned(), data: scratch.path().join("data"), layout, scratch })
}
