//! `cargo xtask bench`: our server and its peers under the same load, in the same run.
//!
//! The figures are for comparing within a run: load and servers share the machine, so an absolute rate says little.
//! Every scenario runs on each target in turn before the next begins, so that a machine that slows down slows all.

mod clients;
mod crowd;
mod delay;
mod floor;
mod http;
mod lists;
mod load;
mod report;
mod scenarios;
mod stats;
mod target;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::process::{Result, say};
use report::Row;

/// What to measure, and beside whom.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to measure; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,

    /// A registry that runs already, to measure beside ours: NAME=http://HOST:PORT. May be repeated.
    #[arg(long, value_name = "NAME=URL")]
    peer: Vec<String>,

    /// How long each scenario runs on each target, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,

    /// How many connections ask for small content at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,

    /// Only the scenarios whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Answer before content is synced, as `ocictl serve --no-sync`.
    #[arg(long)]
    no_sync: bool,

    /// Measure `ocictl copy` beside skopeo and crane instead, at our server.
    #[arg(long)]
    clients: bool,

    /// How often each client does each thing; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,

    /// Where skopeo and crane are looked for before PATH; may be given several times.
    #[arg(long, value_name = "DIR")]
    client_dir: Vec<PathBuf>,

    /// Where to write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result {
    if !(options.seconds > 0.0 && options.seconds <= 3600.0) {
        return Err(format!(
            "--seconds {}: expected more than 0 and at most 3600",
            options.seconds
        ));
    }
    let ocictl = match &options.ocictl {
        Some(path) => path.clone(),
        None => crate::process::build_ocictl()?,
    };
    if options.clients {
        let rounds = usize::from(options.rounds);
        return clients::run(&ocictl, &options.client_dir, rounds, options.filter.as_deref());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))?;
    let content = scenarios::Content::new();
    let running = target::start_all(&ocictl, options.no_sync, &options.peer, &content)?;
    let mut rows = Vec::new();
    for scenario in scenarios::ALL {
        if options.filter.as_ref().is_some_and(|filter| !scenario.name.contains(filter.as_str())) {
            continue;
        }
        for target in &running.targets {
            if !scenario.runs_on(target) {
                continue;
            }
            runtime
                .block_on(scenario.store(target, &content))
                .map_err(|error| format!("{}: storing what is read: {error}", target.name))?;
            let crowd = match scenario.crowd {
                true => Some(
                    runtime
                        .block_on(crowd::Crowd::gather(target, &content))
                        .map_err(|error| format!("{}: gathering a crowd: {error}", target.name))?,
                ),
                false => None,
            };
            let load = load::Load {
                connections: scenario.connections(options.connections),
                duration: Duration::from_secs_f64(options.seconds),
            };
            let before = stats::Usage::of(target.pid);
            let measured = runtime
                .block_on(load.run(target, scenario, &content))
                .map_err(|error| format!("{} on {}: {error}", scenario.name, target.name))?;
            let usage = stats::Usage::of(target.pid);
            drop(crowd);
            let row = Row::new(scenario, target, &measured, before, usage);
            say(&row.line());
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Err("no scenario has such a name".into());
    }
    say(&report::table(&rows));
    if let Some(path) = &options.json {
        report::write_json(path, &rows)?;
        say(&format!("figures in {}", path.display()));
    }
    Ok(())
}
