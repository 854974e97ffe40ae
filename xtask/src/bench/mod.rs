//! `cargo xtask bench`: our server and its peers under the same load, in the same run.
//!
//! The figures are for comparing within a run: load and servers share the machine, so an absolute rate says little.
//! Every scenario runs on each target in turn before the next begins, so that a machine that slows down slows all.

pub(crate) mod aims;
mod client_aims;
mod clients;
pub(crate) mod content;
mod crowd;
mod delay;
mod filled;
mod floor;
pub(crate) mod http;
mod lists;
pub(crate) mod load;
mod machine;
mod report;
mod scenarios;
mod settle;
pub(crate) mod stats;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::process::{Result, find_ocictl, say};
use aims::Figures;
use content::Content;
use load::{Load, Measured};
use machine::Machine;
use report::{Row, Used};
use scenarios::Scenario;
use stats::{Usage, Watch};
use target::{Kind, Running, Target};

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

    /// An empty PostgreSQL database, postgres://user@host/name, to measure a second server of ours on. Its content is left there.
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// How many manifests a server has that is started again after a crash, and asked for pages.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    manifests: u32,

    /// Measure `ocictl copy` beside skopeo and crane instead, at our server.
    #[arg(long)]
    clients: bool,

    /// How often each client does each thing; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,

    /// Write to all free memory once before each turn that writes much: where a hypervisor takes back what is free, whoever
    /// writes first would else pay for it. Takes some seconds each time, and nearly all memory.
    #[arg(long)]
    touch_memory: bool,

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
    let ocictl = find_ocictl(options.ocictl.as_deref())?;
    if options.clients {
        let rounds = usize::from(options.rounds);
        let clients = clients::Clients::find(&ocictl, &options.client_dir);
        return clients.run(rounds, options.filter.as_deref(), options.touch_memory);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))?;
    runtime.block_on(servers(&ocictl, options))
}

async fn servers(ocictl: &Path, options: &Options) -> Result {
    let wanted: Vec<&'static Scenario> = scenarios::ALL
        .iter()
        .filter(|scenario| {
            options.filter.as_ref().is_none_or(|filter| scenario.name.contains(filter.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        return Err("no scenario has such a name".into());
    }
    let content = Content::new();
    let mut running =
        Running::start(ocictl, options.database.as_deref(), &options.peer, &content).await?;
    let (mut rows, mut machine) = (Vec::new(), None);
    for scenario in wanted {
        if scenario.needs_many() && !running.targets.iter().any(|target| scenario.runs_on(target)) {
            rows.push(fill(ocictl, options.manifests as usize, &mut running).await?);
        }
        if scenario.name == scenarios::PUSH_LARGE {
            settle(scenario, options)?;
            machine = Some(Machine::measure(running.scratch.path(), &content.large.bytes)?);
        }
        for target in running.targets.iter().filter(|target| scenario.runs_on(target)) {
            settle(scenario, options)?;
            match measure(scenario, target, options, &content).await {
                Ok(row) => {
                    say(&row.line());
                    rows.push(row);
                }
                // What others cannot do says nothing about ours.
                Err(error) if target.kind == Kind::Peer => {
                    say(&format!("{}: {}: {error}", scenario.name, target.name));
                }
                Err(error) => {
                    return Err(format!("{} on {}: {error}", scenario.name, target.name));
                }
            }
        }
    }
    let figures = Figures { rows: &rows, machine };
    say(&report::table(&rows));
    say(&figures.table());
    if let Some(path) = &options.json {
        report::write_json(path, &figures)?;
        say(&format!("figures in {}", path.display()));
    }
    Ok(())
}

/// Lets nothing that was done before be paid for by a scenario that writes.
fn settle(scenario: &Scenario, options: &Options) -> Result {
    if scenario.writes() {
        settle::disk();
        if options.touch_memory && scenario.large {
            settle::memory()?;
        }
    }
    Ok(())
}

/// Starts a server with very many manifests, and measures how soon it answers after each of some crashes.
async fn fill(ocictl: &Path, manifests: usize, running: &mut Running) -> Result<Row> {
    let data = running.scratch.path().join("filled");
    let (server, times) = filled::start(ocictl, &data, manifests).await?;
    running.add(target::FILLED, Kind::Filled { manifests }, server);
    let target = running.targets.last().ok_or("the server has gone")?;
    let used = Used { cpu: None, anonymous: 0 };
    let row = Row::new(filled::RESTART, target, 1, &Measured::one_by_one(times), used);
    say(&row.line());
    Ok(row)
}

async fn measure(
    scenario: &'static Scenario,
    target: &Target,
    options: &Options,
    content: &Arc<Content>,
) -> Result<Row> {
    let stored = scenario.store(target, content).await;
    stored.map_err(|error| format!("storing what is read: {error}"))?;
    let entries = scenario.entries(target, content).await?;
    let crowd = match scenario.crowd {
        true => Some(
            crowd::Crowd::gather(target, content)
                .await
                .map_err(|error| format!("gathering a crowd: {error}"))?,
        ),
        false => None,
    };
    let load = Load {
        connections: scenario.connections(options.connections),
        duration: Duration::from_secs_f64(options.seconds),
    };
    let before = Usage::of(target.pid);
    let watch = target.pid.map(Watch::begin);
    let measured = load.run(target, scenario, content).await;
    let anonymous = watch.map_or(0, Watch::end);
    let cpu = Usage::of(target.pid).cpu.saturating_sub(before.cpu);
    let measured = measured?;
    if let Some(crowd) = crowd {
        crowd.still_there().await?;
    }
    let used = Used { cpu: target.pid.map(|_| cpu), anonymous };
    Ok(Row::new(scenario.name, target, entries, &measured, used))
}
