//! `cargo xtask crash`: whether what was acknowledged survives.
//!
//! Kills: the server is killed at random moments under load, and everything that it acknowledged must be there, exactly.
//! Power cuts: its system calls are recorded, and it must start on every state that a disk may have after a cut.
//! Full disk: it must refuse clearly, keep what it has, and go on when there is room. Soak: a long load must cost
//! neither memory nor descriptors. `docs/durability.md` states what is checked, and under which model of a disk.

mod check;
mod client;
mod content;
mod full_disk;
mod http;
mod kill;
mod load;
mod model;
mod power;
mod shared;
mod soak;
mod tools;

use std::path::PathBuf;

use clap::Args;

use crate::process::{Result, build_ocictl, say};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to test; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,

    /// What decides the load and the moments of kills: the same seed gives the same choices, though not the same timing.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Cut the power instead: record what a server does to the disk, and try the states that a cut may leave.
    #[arg(long)]
    power_cut: bool,

    /// Power cuts of a server that does not sync, as `ocictl serve --no-sync`.
    #[arg(long, requires = "power_cut")]
    no_sync: bool,

    /// Something must be lost: that shows that a loss is found.
    #[arg(long, requires = "power_cut")]
    expect_loss: bool,

    /// Fill the disk instead: a small one that is mounted for this, which needs the right to.
    #[arg(long, conflicts_with = "power_cut")]
    full_disk: bool,

    /// How many pushes are tried on the full disk.
    #[arg(long, value_name = "N", default_value_t = 300, requires = "full_disk")]
    pushes: usize,

    /// The load without kills for so many seconds: memory and descriptors must stay flat.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["power_cut", "full_disk"])]
    soak: Option<u64>,

    /// How many kills.
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: usize,

    /// After this many seconds no kill begins, and no state of a disk is tried any more.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    seconds: u64,

    /// How many servers are under load at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    servers: u16,

    /// How many clients each server has.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    clients: u16,
}

pub(crate) fn run(options: &Options) -> Result {
    let ocictl = match &options.ocictl {
        Some(path) => {
            std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => build_ocictl()?,
    };
    let seed = options.seed.unwrap_or_else(tools::fresh_seed);
    let tools = tools::Tools::of(ocictl)?;
    say(&format!("seed {seed}; {}", tools.said()));
    if options.power_cut {
        return power::run(
            &tools,
            &power::Plan {
                seed,
                seconds: options.seconds,
                no_sync: options.no_sync,
                expect_loss: options.expect_loss,
                servers: options.servers.into(),
            },
        );
    }
    if options.full_disk {
        return full_disk::run(&tools, &full_disk::Plan { seed, pushes: options.pushes });
    }
    if let Some(seconds) = options.soak {
        let clients = options.clients.into();
        return soak::run(&tools, &soak::Plan { seed, seconds, clients });
    }
    kill::run(
        &tools,
        &kill::Plan {
            seed,
            kills: options.kills,
            seconds: options.seconds,
            servers: options.servers.into(),
            clients: options.clients.into(),
        },
    )
}
