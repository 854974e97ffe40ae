//! `ocictl gc`, `fsck` and `backup`: work on a data directory, alone or by the server that is using it.

mod job;
mod report;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_ref::ErrorKind;
use oci_registry_store::{Database, DurableRegistry, EngineOptions};
use serde_json::Value;

use crate::cli::{BackupArgs, DataArgs, FsckArgs, GcArgs};
use crate::control;
use crate::failure::Failure;
use crate::progress;

pub(crate) use self::job::{Event, Job};

/// The rest that commands other than `serve` allow to uploads: it is the server's to end them.
pub(crate) const UPLOADS_STAY: Duration = Duration::MAX;

pub(crate) async fn gc(args: GcArgs) -> Result<(), Failure> {
    let untagged_older_than = args.untagged_older_than.map(|age| age.as_secs());
    let longest_read = args.longest_read.map(|time| time.as_secs());
    let uploads = args.uploads.map(|idle| idle.as_secs());
    let job = Job::Gc { dry_run: args.dry_run, untagged_older_than, longest_read, uploads };
    let report = run(&args.data, &job).await?;
    report::print(&args.data, report::gc(&report), &report)
}

pub(crate) async fn fsck(args: FsckArgs) -> Result<(), Failure> {
    let rate = args.rate.map(|megabytes| u64::from(megabytes) * 1_000_000);
    let job = Job::Fsck { repair: args.repair, rate, resume: args.resume };
    let report = run(&args.data, &job).await?;
    report::print(&args.data, report::fsck(&report), &report)?;
    match report::left(&report) {
        0 => Ok(()),
        left => {
            let failure = Failure::new(format!("{left} problems are there"));
            Err(if args.repair {
                failure.hint("what was found says what can be done")
            } else {
                failure.hint("ocictl fsck --repair mends what can be mended")
            })
        }
    }
}

pub(crate) async fn backup(args: BackupArgs) -> Result<(), Failure> {
    // A server has another working directory.
    let to = std::path::absolute(&args.to).map_err(|error| {
        Failure::new(format!("finding out where {} is", args.to.display())).because(error)
    })?;
    let shown = to.display().to_string();
    let report = run(&args.data, &Job::Backup { to }).await?;
    report::print(&args.data, report::backup(&report, &shown), &report)
}

/// Where content lies: where it is said, or with the user's other data.
pub(crate) fn data(said: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(said) = said {
        return Ok(said);
    }
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .ok_or_else(|| {
            Failure::new("neither XDG_DATA_HOME nor HOME says where data lies")
                .hint("say it with --data DIR")
        })?;
    Ok(base.join("ocictl"))
}

/// Has a job done, shows how it goes, and gives its report.
async fn run(args: &DataArgs, job: &Job) -> Result<Value, Failure> {
    let data = data(args.data.clone())?;
    let live = !args.quiet && std::io::stderr().is_terminal();
    let show = |event: &Event| match event {
        Event::Progress(line) => {
            if live {
                progress::show(line);
            }
            Ok(())
        }
        Event::Problem(_) => {
            if live {
                progress::show("");
            }
            report::problem(args, event)
        }
    };
    let done = match alone(&data, args).await? {
        Some(registry) => {
            let shown = std::sync::Mutex::new(Ok(()));
            let tell = |event: Event| {
                let mut shown = shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if shown.is_ok() {
                    *shown = show(&event);
                }
            };
            let done = job.clone().run(registry.clone(), tell).await;
            registry.close().await;
            shown.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())?;
            done
        }
        None => control::ask(&data, job, &show).await,
    };
    if live {
        progress::show("");
    }
    done
}

/// Where metadata lies, if it is said: in the data directory otherwise.
pub(crate) fn database(url: Option<&str>) -> Result<Database, Failure> {
    let Some(url) = url else { return Ok(Database::default()) };
    url.parse().map_err(|error| Failure::of("reading --database", error))
}

/// Opens a data directory. `None` if another process is using it, or a server of it is there: several can share a database, but
/// the one that is there knows where everything is.
async fn alone(data: &Path, args: &DataArgs) -> Result<Option<DurableRegistry>, Failure> {
    if control::answers(data).await {
        return Ok(None);
    }
    let mut options = EngineOptions::default();
    options.create = false;
    options.session_idle = UPLOADS_STAY;
    options.database = database(args.database.as_deref())?;
    options.storage = args.storage.clone();
    let shared = options.database.is_shared();
    match DurableRegistry::open(data, options).await {
        Ok(registry) => Ok(Some(registry)),
        Err(error) if *error.kind() == ErrorKind::Unavailable && !shared => Ok(None),
        Err(error) => {
            let failure = Failure::of(format!("opening the data in {}", data.display()), error);
            Err(failure.hint("--data, --database and --storage say where it lies, as for serve"))
        }
    }
}
