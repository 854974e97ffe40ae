//! `ocictl`: serves, copies and inspects container images and artifacts.

mod background;
mod cli;
mod connection;
mod control;
mod copy;
mod descriptors;
mod failure;
mod import;
mod inspect;
mod known;
mod location;
mod log;
mod login;
mod lookaside;
mod moved;
mod open;
mod output;
mod progress;
mod serve;
mod signals;
mod state;
mod upkeep;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::{Cli, Command};

/// The time for work that nobody waits for any more, and that may hold temporary files. A
/// read that blocks, as of a pipe, is left to itself then.
const ENDING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start(cli.command.is_quiet());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failure::Failure::new("starting the async runtime failed")
                .because(error)
                .report();
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Copy(args) => copy::run(*args).await,
            Command::Import(args) => import::run(args).await,
            Command::Inspect(args) => inspect::run(args).await,
            Command::Login(args) => login::login(args).await,
            Command::Logout(args) => login::logout(args).await,
            Command::Gc(args) => upkeep::gc(args).await,
            Command::Fsck(args) => upkeep::fsck(args).await,
            Command::Backup(args) => upkeep::backup(args).await,
        }
    });
    runtime.shutdown_timeout(ENDING);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
