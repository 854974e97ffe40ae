//! `cargo xtask interop`: the server and the tool against clients that other people wrote.
//!
//! Every scenario works on real content (files of this machine, packed as layers) and compares byte for byte where the
//! client keeps the bytes. A client that is not installed is a failure: a skipped scenario proves nothing. Only the
//! clients that `.ci/install-clients` cannot install are left out when they are missing, and that is said.

mod buildah;
mod client;
mod content;
mod crane;
mod ctr;
mod driver;
mod helm;
mod oras;
mod oras_py;
mod podman;
pub(crate) mod program;
mod regctl;
mod registries;
mod skopeo;
mod skopeo_files;
mod umoci;
mod world;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::interop::client::{Client, OPTIONAL, REQUIRED};
use crate::interop::program::Programs;
use crate::interop::world::World;
use crate::process::{Result, find_ocictl, say};

/// What to run, and with which build.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to test; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,
    /// Only this client; may be given several times. It must be there.
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// Where clients are looked for before PATH; may be given several times.
    #[arg(long, value_name = "DIR")]
    client_dir: Vec<PathBuf>,
    /// Runs our client against this registry, and nothing else: HOST or HOST:PORT. May be given several times.
    #[arg(long, value_name = "HOST")]
    registry: Vec<String>,
}

pub(crate) fn run_all(options: &Options) -> Result {
    if !options.registry.is_empty() {
        for host in &options.registry {
            say(&format!("== our client at {host}"));
            driver::run(driver::Registry { host: host.clone(), user: None })?;
        }
        return Ok(());
    }
    let programs = Programs { first: options.client_dir.clone() };
    let clients = choose(&options.client, &programs)?;
    check_installed(&clients, &programs)?;
    let ocictl = find_ocictl(options.ocictl.as_deref())?;
    let mut passed = 0;
    let mut failed = 0;
    for client in clients {
        say(&format!("== {}: {}", client.name, client.versions(&programs)?.join(", ")));
        for (name, scenario) in client.scenarios {
            let start = Instant::now();
            let done = try_one(&ocictl, &programs, *scenario);
            let seconds = start.elapsed().as_secs_f64();
            match done {
                Ok(()) => {
                    passed += 1;
                    say(&format!("ok {}: {name} ({seconds:.1} s)", client.name));
                }
                Err(error) => {
                    failed += 1;
                    say(&format!("FAILED {}: {name} ({seconds:.1} s): {error}", client.name));
                }
            }
        }
        if !client.not_covered.is_empty() {
            say(&format!("   not covered: {}", client.not_covered));
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 { Ok(()) } else { Err("not all scenarios passed".into()) }
}

/// The clients to run: those that are named, else all that must be there, and of the others those that are.
fn choose(named: &[String], programs: &Programs) -> Result<Vec<&'static Client>> {
    let optional = || OPTIONAL.iter().map(|(client, _)| client);
    if named.is_empty() {
        let mut clients: Vec<_> = REQUIRED.iter().collect();
        for (client, reason) in OPTIONAL {
            if client.missing(programs).is_empty() {
                clients.push(client);
            } else {
                say(&format!("== {}: not run, it is not installed: {reason}", client.name));
            }
        }
        return Ok(clients);
    }
    let find = |name: &String| {
        let mut all = REQUIRED.iter().chain(optional());
        all.find(|client| client.name == name).ok_or_else(|| {
            let names: Vec<_> = REQUIRED.iter().chain(optional()).map(|c| c.name).collect();
            format!("there is no client {name}; there are {}", names.join(", "))
        })
    };
    named.iter().map(find).collect()
}

fn check_installed(clients: &[&Client], programs: &Programs) -> Result {
    let missing: Vec<_> = clients.iter().flat_map(|client| client.missing(programs)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not installed: {}. `.ci/install-clients` installs what can be, and prints a directory: put it on PATH or \
         give it as --client-dir",
        missing.join(", ")
    ))
}

fn try_one(ocictl: &Path, programs: &Programs, scenario: client::Scenario) -> Result {
    let world = World::new(ocictl, programs)?;
    scenario(&world).map_err(|error| {
        let kept = world.scratch.keep();
        format!("{error}\nwhat was used is kept in {}", kept.display())
    })
}
