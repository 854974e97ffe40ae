//! The clients, and what each needs.

use crate::interop::program::{self, LIMIT, Programs};
use crate::interop::world::World;
use crate::interop::{
    buildah, crane, ctr, helm, oras, oras_py, podman, regctl, registries, skopeo, umoci,
};
use crate::process::Result;

/// Something that is tried with a client.
pub(crate) type Scenario = fn(&World<'_>) -> Result;

/// A client that other people wrote.
pub(crate) struct Client {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// Its programs, and the arguments that make each say its version.
    pub(crate) programs: &'static [(&'static str, &'static [&'static str])],
    /// What is tried.
    pub(crate) scenarios: &'static [(&'static str, Scenario)],
    /// What of push, pull, list, delete and attach is not tried, and why.
    pub(crate) not_covered: &'static str,
}

/// The clients that `.ci/install-clients` installs. One that is missing is a failure.
pub(crate) const REQUIRED: &[Client] = &[
    skopeo::CLIENT,
    umoci::CLIENT,
    buildah::CLIENT,
    podman::CLIENT,
    ctr::CLIENT,
    crane::CLIENT,
    regctl::CLIENT,
    helm::CLIENT,
    oras_py::CLIENT,
    registries::OURS,
    registries::DISTRIBUTION,
];

/// The clients that a user brings himself, and why `.ci/install-clients` does not install them.
pub(crate) const OPTIONAL: &[(Client, &str)] = &[(
    oras::CLIENT,
    "its Go module cannot be fetched and verified wherever the gate runs; a binary of your own is found on PATH or by \
     --client-dir",
)];

impl Client {
    /// Its programs that are not installed.
    pub(crate) fn missing(&self, programs: &Programs) -> Vec<&'static str> {
        let names = self.programs.iter().map(|(name, _)| *name);
        names.filter(|name| programs.find(name).is_none()).collect()
    }

    /// What its programs say of themselves.
    pub(crate) fn versions(&self, programs: &Programs) -> Result<Vec<String>> {
        let home = tempfile::tempdir().map_err(|error| format!("making a home: {error}"))?;
        let version = |(name, args): &(&str, &[&str])| {
            let mut command = programs.command(name, home.path())?;
            let printed = program::run(command.args(*args), LIMIT)?;
            let line = printed.lines().next().unwrap_or_default().trim();
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            Ok(if line.starts_with(name) { line } else { format!("{name} {line}") })
        };
        self.programs.iter().map(version).collect()
    }
}
