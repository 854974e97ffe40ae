//! `cargo xtask conformance`: what the distribution specification asks of a registry, checked over HTTP.
//!
//! Without `--url` it starts our own server, once for each engine. With `--official` it runs the specification's own
//! suite instead of the checks that are here. `docs/conformance.md` says how to read what it prints.

mod answer;
mod auth;
mod bad_input;
mod check;
mod chunks;
mod client;
mod content;
mod context;
mod coverage;
mod delete;
mod digests;
mod engine;
mod errors;
mod junit;
mod manifest_rules;
mod manifests;
mod mount;
mod names;
mod official;
mod pull;
mod ranges;
mod referrer_entries;
mod referrers;
mod report;
mod request;
mod skips;
mod tags;
mod uploads;
mod url;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::process::{Result, say};

use check::{Check, Level, Stop, Version};
use client::Client;
use context::Registry;
use engine::{Engine, Running};
use report::{Outcome, Run, Verdicts};
use skips::Skips;
use url::Url;

/// Which registry to check, and how.
#[derive(Args)]
pub(crate) struct Options {
    /// A registry, as http://HOST:PORT or https://HOST; without it, our own server is started.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who asks, for registries that want to know.
    #[arg(long, value_name = "NAME", requires = "url")]
    username: Option<String>,
    /// The password that goes with it.
    #[arg(
        long,
        value_name = "TEXT",
        requires = "username",
        env = "CONFORMANCE_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
    /// The repository to work in; everything is pushed there or below it; by default a new name.
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// The repository to mount into; by default that of --repo with "-mount".
    #[arg(long, value_name = "NAME")]
    repo2: Option<String>,
    /// HTTP without TLS, where the URL has no scheme; the default on a loopback address.
    #[arg(long)]
    plain_http: bool,
    /// Which engine of our own server.
    #[arg(long, value_enum, default_value = "all", conflicts_with = "url")]
    engine: engine::Choice,
    /// An empty PostgreSQL database: our server is checked on that, too. It is not empty afterwards, and serves one way to
    /// keep blobs: with --storage, that.
    #[arg(
        long,
        value_name = "URL",
        env = "CONFORMANCE_DATABASE",
        hide_env_values = true,
        conflicts_with = "url"
    )]
    database: Option<String>,
    /// A bucket, as `ocictl serve --storage` takes it, with the settings in the environment: our server is checked with that,
    /// too, on the database if there is one.
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    storage: Option<String>,
    /// A built `ocictl`; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,
    /// A built example `memory` of oci-registry-server; else it is built.
    #[arg(long, value_name = "PATH")]
    memory: Option<PathBuf>,
    /// Where junit.xml and results.json go; by default conformance in the target directory.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Only checks whose name or area contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Skips that are no failure: a JSON list of {"id": …, "reason": …}.
    #[arg(long, value_name = "FILE")]
    skips: Option<PathBuf>,
    /// Which version of the specification.
    #[arg(long = "version", value_enum, default_value = "dev")]
    version: Version,
    /// What the specification only recommends is a warning, not a failure.
    #[arg(long)]
    must_only: bool,
    /// Run the specification's own suite instead, with everything on.
    #[arg(long)]
    official: bool,
    /// The built suite; else it is installed with `go install`.
    #[arg(long, value_name = "PATH", requires = "official")]
    official_bin: Option<PathBuf>,
    /// Which of its versions.
    #[arg(long, value_enum, default_value = "both", requires = "official")]
    official_version: official::Versions,
}

/// A registry to check: one that runs, or one to start.
enum Target {
    Foreign(Url),
    Own(Engine),
}

/// All checks, area by area.
fn all_checks() -> impl Iterator<Item = &'static Check> {
    let areas = [
        pull::CHECKS,
        names::CHECKS,
        ranges::CHECKS,
        manifests::CHECKS,
        manifest_rules::CHECKS,
        uploads::CHECKS,
        digests::CHECKS,
        chunks::CHECKS,
        mount::CHECKS,
        tags::CHECKS,
        referrers::CHECKS,
        referrer_entries::CHECKS,
        delete::CHECKS,
        bad_input::CHECKS,
        errors::CHECKS,
    ];
    areas.into_iter().flatten()
}

pub(crate) fn run_all(options: &Options) -> Result {
    let results = match &options.results {
        Some(directory) => directory.clone(),
        None => engine::target_directory().join("conformance"),
    };
    std::fs::create_dir_all(&results)
        .map_err(|error| format!("making {}: {error}", results.display()))?;
    let targets = targets(options)?;
    let (ocictl, memory) = (options.ocictl.as_deref(), options.memory.as_deref());
    let (database, storage) = (options.database.as_deref(), options.storage.as_deref());
    let programs = engine::programs(ocictl, memory, database, storage, &targets)?;
    if options.official {
        return official::run_all(options, &targets, &programs, &results);
    }
    let skips = Skips::load(options.skips.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("starting the runtime: {error}"))?;
    let mut runs = Vec::new();
    for target in &targets {
        let (running, base) = start(target, &programs, &results, false)?;
        let registry = registry(options, base)?;
        let run = runtime.block_on(run(options, &registry, target.name(), &skips));
        drop(running);
        run.print();
        runs.push(run);
    }
    coverage::print();
    finish(&results, &runs, &skips)
}

fn targets(options: &Options) -> Result<Vec<Target>> {
    let Some(text) = &options.url else {
        let (database, bucket) = (options.database.is_some(), options.storage.is_some());
        let engines = options.engine.engines(database, bucket)?;
        return Ok(engines.into_iter().map(Target::Own).collect());
    };
    let loopback = Url::parse(text, true)?.is_loopback();
    Url::parse(text, options.plain_http || loopback).map(|url| vec![Target::Foreign(url)])
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Foreign(url) => url.authority.clone(),
            Self::Own(engine) => engine.name().to_owned(),
        }
    }
}

fn start(
    target: &Target,
    programs: &engine::Programs,
    results: &Path,
    sparse: bool,
) -> Result<(Option<Running>, Url)> {
    match target {
        Target::Foreign(url) => Ok((None, url.clone())),
        Target::Own(engine) => {
            let running = Running::start(
                *engine,
                programs,
                &results.join(format!("{}.log", engine.name())),
                sparse,
            )?;
            let url = Url::parse(&running.host, true)?;
            Ok((Some(running), url))
        }
    }
}

fn registry(options: &Options, base: Url) -> Result<Registry> {
    let credentials = options.username.clone().map(|username| {
        let password = options.password.clone().unwrap_or_default();
        (username, password)
    });
    let run = unique_run()?;
    let repository = options.repo.clone().unwrap_or_else(|| format!("conformance/r{run}"));
    let other = options.repo2.clone().unwrap_or_else(|| format!("{repository}-mount"));
    Ok(Registry::new(Client::new(base, credentials), repository, other, run))
}

/// A word that no other run has.
fn unique_run() -> Result<String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.map_err(|error| format!("reading the clock: {error}"))?;
    Ok(format!("{:x}x{:x}", since.as_nanos(), std::process::id()))
}

async fn run(options: &Options, registry: &Registry, target: String, skips: &Skips) -> Run {
    let filter = options.filter.as_deref().unwrap_or_default();
    let mut verdicts = Verdicts::new();
    for check in all_checks() {
        if check.since > options.version
            || !(check.id.contains(filter) || check.area.name() == filter)
        {
            continue;
        }
        let start = Instant::now();
        let outcome = match (check.run)(registry).await {
            Ok(()) => Outcome::Pass,
            Err(Stop::Skip(reason)) => {
                Outcome::Skip { allowed: skips.reason(check.id).map(str::to_owned), reason }
            }
            Err(Stop::Fail { request, expected, found }) => Outcome::Fail {
                warning: options.must_only && check.level == Level::Should,
                request,
                expected,
                found,
            },
        };
        verdicts.push((check, outcome, start.elapsed()));
    }
    Run { target, version: options.version, verdicts }
}

fn finish(results: &Path, runs: &[Run], skips: &Skips) -> Result {
    write(&results.join("junit.xml"), &junit::document(runs))?;
    write(&results.join("results.json"), &report::json(runs))?;
    say(&format!("\njunit.xml and results.json are in {}", results.display()));
    for id in skips.unused(runs) {
        say(&format!("{id} is listed as a skip, but was not skipped"));
    }
    let counts = report::Counts::of(runs.iter().flat_map(|run| &run.verdicts));
    say(&counts.to_string());
    match (counts.passed, counts.failed, counts.unlisted) {
        (0, 0, _) => Err("no check was run to its end".to_owned()),
        (_, 0, 0) => Ok(()),
        (_, failed, unlisted) => {
            Err(format!("{failed} failures, {unlisted} skips that are not listed"))
        }
    }
}

fn write(path: &Path, text: &str) -> Result {
    std::fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_checks_are_unique_and_their_requirements_exist() {
        let mut seen = std::collections::BTreeSet::new();
        for check in all_checks() {
            assert!(seen.insert(check.id), "{} is there twice", check.id);
            assert!(
                check.requirements.iter().all(|number| (1..=76).contains(number)),
                "{}",
                check.id
            );
            assert!(
                check
                    .id
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            );
        }
    }
}
