//! `cargo xtask`: what is run on this workspace.

mod bench;
mod conformance;
mod crash;
mod features;
mod fuzz;
mod interop;
mod noise;
mod postgres;
mod process;
mod rows;
mod scale;
mod tidy;
mod upkeep;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What is run on this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// The server and the tool against clients of other people. One that is not installed is a failure.
    Interop(interop::Options),
    /// Our server and its peers under the same load, in the same run.
    Bench(bench::Options),
    /// What the distribution specification asks of a registry: of ours with each engine, or of any with --url.
    Conformance(conformance::Options),
    /// Whether what was acknowledged survives: kills, power cuts, a full disk; and whether a long run stays lean.
    Crash(crash::Options),
    /// Build each crate with no features, the default ones and all.
    Features,
    /// Every fuzz target, for some seconds each.
    Fuzz(fuzz::Options),
    /// A large repository is collected and checked under load, which no client may notice.
    Upkeep(upkeep::Options),
    /// The cost of operations and upkeep in registries of several sizes, and its growth.
    Scale(scale::Options),
    /// House rules that no compiler checks.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Interop(options) => interop::run_all(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Conformance(options) => conformance::run_all(&options),
        Task::Crash(options) => crash::run(&options),
        Task::Features => features::run_all(),
        Task::Fuzz(options) => fuzz::run_all(&options),
        Task::Upkeep(options) => upkeep::run(&options),
        Task::Scale(options) => scale::run(&options),
        Task::Tidy => tidy::run_task(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}
