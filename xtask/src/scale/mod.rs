//! `cargo xtask scale`: the cost of one operation, and its growth with the size of a registry.
//!
//! A registry of each size is filled by writing the rows that pushes would have written, with few
//! things that all share and many that nobody shares. Then each operation is asked for over HTTP,
//! one at a time, and what the server and its database used for it is counted; upkeep comes last.
//! `docs/scale.md` has what was found.

mod aims;
mod content;
mod counters;
mod generate;
mod measure;
mod operations;
mod place;
mod postgres;
mod report;
mod row;
mod shape;
mod size;
mod sqlite;
mod upkeep;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::postgres::Databases;
use crate::process::{Result, find_ocictl, say};
use place::{Engine, Place};
use shape::Shape;
use size::Run;

/// The options of a measurement.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to measure; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,

    /// The number of manifests of the largest repository, and of all small ones together: one size
    /// or several, the smallest first. At least 1000, and a multiple of 10.
    #[arg(long, value_name = "N,…", default_value = "10000,100000", value_delimiter = ',')]
    manifests: Vec<u64>,

    /// A PostgreSQL server to measure on, too, by the URL of a database whose user may make others:
    /// `scale_N` for each size, in place of one of that name. Pages are counted where the server
    /// has loaded pg_stat_statements.
    #[arg(long, value_name = "URL", env = "SCALE_DATABASE", hide_env_values = true)]
    database: Option<String>,

    /// Leave SQLite out.
    #[arg(long, requires = "database")]
    no_sqlite: bool,

    /// The number of times that each read is measured. Writes are measured a tenth of that.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    operations: u32,

    /// The directory where filled registries stay, to be measured again, with another `ocictl`,
    /// too; databases are called `scale_kept_N`. Each measurement is of a copy.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// The file to which the figures are written as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result {
    let shapes = sizes(&options.manifests)?;
    let sqlite = (!options.no_sqlite).then_some(Engine::Sqlite);
    let databases = options.database.as_deref().map(Databases::parse).transpose()?;
    let engines: Vec<_> = sqlite.into_iter().chain(databases.map(Engine::Postgres)).collect();
    let ocictl = find_ocictl(options.ocictl.as_deref())?;
    let scratch = match &options.keep {
        None => tempfile::tempdir(),
        // Copies are cheap on the same disk.
        Some(kept) => std::fs::create_dir_all(kept).and_then(|()| tempfile::tempdir_in(kept)),
    };
    let scratch = scratch.map_err(|error| format!("making a scratch directory: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("starting the async runtime: {error}"))?;
    runtime.block_on(all(options, &engines, &shapes, &ocictl, scratch.path()))
}

/// Sizes as they were asked for: each larger than the one before.
fn sizes(manifests: &[u64]) -> Result<Vec<Shape>> {
    if !manifests.is_sorted_by(|one, other| one < other) {
        return Err(format!("--manifests {manifests:?}: expected the smallest first"));
    }
    let shapes = manifests.iter().map(|manifests| Shape::new(*manifests));
    shapes.collect::<Result<_>>().map_err(|error| format!("--manifests: {error}"))
}

async fn all(
    options: &Options,
    engines: &[Engine],
    shapes: &[Shape],
    ocictl: &Path,
    scratch: &Path,
) -> Result {
    let mut runs: Vec<Run> = Vec::new();
    for engine in engines {
        let mut rate = None;
        for shape in shapes {
            let place = match &options.keep {
                None => Place::fill(engine, ocictl, scratch, *shape).await?,
                Some(kept) => Place::keep(engine, ocictl, (kept, scratch), *shape).await?,
            };
            let run = size::run(&place, *shape, options.operations as usize, rate).await?;
            rate = run.upkeep.checked_per_second.or(rate);
            runs.push(run);
            place.remove().await?;
            // After each, so that what was measured is not lost with what fails later.
            if let Some(path) = &options.json {
                report::write(path, &runs)?;
            }
        }
    }
    say(&report::tables(&runs));
    if let Some(path) = &options.json {
        say(&format!("figures in {}", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn sizes_are_read_from_the_smallest_on() {
        let line = Line::try_parse_from(["scale", "--manifests", "1000,10000"]).unwrap();
        let shapes = sizes(&line.options.manifests).unwrap();
        assert_eq!(shapes.iter().map(|shape| shape.manifests).collect::<Vec<_>>(), [1000, 10_000]);
        assert!(sizes(&[10_000, 1000]).is_err());
        assert!(sizes(&[1000, 1000]).is_err());
        assert!(sizes(&[10]).unwrap_err().starts_with("--manifests: 10 manifests: "));
    }

    #[test]
    fn what_is_left_out_leaves_something() {
        assert!(Line::try_parse_from(["scale", "--no-sqlite"]).is_err());
    }
}
