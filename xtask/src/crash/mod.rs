//! `cargo xtask crash`: whether what was acknowledged survives.
//!
//! Kills: the server is killed at random moments under load, and everything that it acknowledged must be there, exactly; also
//! of replicas, which share a database and a bucket.
//! Power cuts: its system calls are recorded, and it must start on every state that a disk may have after a cut.
//! Full disk: it must refuse clearly, keep what it has, and go on when there is room. Soak: a long load must cost
//! neither memory nor descriptors. `docs/durability.md` states what is checked, and under which model of a disk.

mod check;
mod client;
mod content;
mod full_disk;
mod http;
mod kill;
mod life;
mod load;
mod loss;
mod model;
mod power;
mod pulls;
mod replicas;
mod servers;
mod shared;
mod soak;
mod tally;
mod tools;

use std::path::PathBuf;

use clap::Args;

use crate::process::{Result, find_ocictl, say};

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

    /// Every state is tried, however long it takes.
    #[arg(long, requires = "power_cut", conflicts_with = "seconds")]
    all: bool,

    /// Power cuts of a server that does not sync, as `ocictl serve --no-sync`.
    #[arg(long, requires = "power_cut")]
    no_sync: bool,

    /// Something must be lost: that shows that a loss is found. Of kills something is taken away behind the clients' backs.
    #[arg(long, conflicts_with_all = ["full_disk", "soak"])]
    expect_loss: bool,

    /// Kill replicas: so many servers on one database and one storage, over which the clients are spread.
    #[arg(long, value_name = "N", requires = "database", value_parser = clap::value_parser!(u16).range(2..=8),
        conflicts_with_all = ["power_cut", "full_disk", "soak"])]
    replicas: Option<u16>,

    /// The PostgreSQL server of the replicas: the URL of a database on it, whose user may make others.
    #[arg(long, value_name = "URL", requires = "replicas")]
    database: Option<String>,

    /// The storage of the replicas: `file:` for a directory that they share, or a bucket, with its credentials in the
    /// environment as for `ocictl serve` [default: a bucket of a server that is started for this]
    #[arg(long, value_name = "URL", requires = "replicas")]
    storage: Option<String>,

    /// Fill the disk instead: a small one that is mounted for this, which needs the right to.
    #[arg(long, conflicts_with = "power_cut")]
    full_disk: bool,

    /// How many pushes are tried on the full disk.
    #[arg(long, value_name = "N", default_value_t = 300, requires = "full_disk")]
    pushes: usize,

    /// The load without kills for so many seconds: memory and descriptors must stay flat.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["power_cut", "full_disk"])]
    soak: Option<u64>,

    /// The cache of the server in a soak. One that is larger than memory may grow must be full in the second quarter of the time:
    /// the server's default of 32 takes a run of ten minutes and more.
    #[arg(long, value_name = "MIB", default_value_t = 4, requires = "soak")]
    cache: u32,

    /// How many kills.
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: usize,

    /// After this many seconds no kill begins, and no state of a disk is tried any more. With fewer than half of the kills
    /// that were asked for it is a failure.
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
    let ocictl = find_ocictl(options.ocictl.as_deref())?;
    let seed = options.seed.unwrap_or_else(tools::fresh_seed);
    let tools = tools::Tools { ocictl };
    say(&format!("seed {seed}"));
    if options.power_cut {
        return power::run(
            &tools,
            &power::Plan {
                seed,
                seconds: (!options.all).then_some(options.seconds),
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
        return soak::run(&tools, &soak::Plan { seed, seconds, clients, cache: options.cache });
    }
    if let (Some(replicas), Some(database)) = (options.replicas, &options.database) {
        return replicas::run(
            &tools,
            &replicas::Plan {
                seed,
                kills: options.kills,
                seconds: options.seconds,
                replicas: replicas.into(),
                clients: options.clients.into(),
                database: database.clone(),
                storage: options.storage.clone(),
                expect_loss: options.expect_loss,
            },
        );
    }
    kill::run(
        &tools,
        &kill::Plan {
            seed,
            kills: options.kills,
            seconds: options.seconds,
            servers: options.servers.into(),
            clients: options.clients.into(),
            expect_loss: options.expect_loss,
        },
    )
}
