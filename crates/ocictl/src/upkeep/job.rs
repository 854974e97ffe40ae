//! What can be asked for, and what is told while it is done: the same whether another process asks or we do it alone.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oci_registry_store::{
    BackupReport, CollectOptions, CollectReport, DurableRegistry, FsckEvent, FsckOptions,
};
use serde_json::{Value, json};

use crate::copy::bytes;
use crate::failure::Failure;

/// How often progress is told at most.
const EVERY: Duration = Duration::from_millis(100);

/// A piece of work on a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Gc {
        dry_run: bool,
        /// In seconds, as the others.
        untagged_older_than: Option<u64>,
        longest_read: Option<u64>,
        uploads: Option<u64>,
    },
    Fsck {
        repair: bool,
        rate: Option<u64>,
        resume: bool,
    },
    Backup {
        to: PathBuf,
    },
}

/// What is told meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A line that replaces the last one.
    Progress(String),
    /// `what` is wrong, and the `remedy`, if there is one.
    Problem(Value),
}

impl Job {
    /// The job as it is sent to another process.
    pub(crate) fn to_json(&self) -> Result<Value, Failure> {
        Ok(match self {
            Self::Gc { dry_run, untagged_older_than, longest_read, uploads } => json!({"gc": {
                "dry_run": dry_run,
                "untagged_older_than": untagged_older_than,
                "longest_read": longest_read,
                "uploads": uploads,
            }}),
            Self::Fsck { repair, rate, resume } => {
                json!({"fsck": {"repair": repair, "rate": rate, "resume": resume}})
            }
            Self::Backup { to } => {
                let to = to.to_str().ok_or_else(|| {
                    Failure::new(format!(
                        "{} is not UTF-8, and cannot be told the server",
                        to.display()
                    ))
                })?;
                json!({"backup": {"to": to}})
            }
        })
    }

    /// A job that was sent. `None` if it is of a version that this one does not understand.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let (name, job) = value.as_object()?.iter().next()?;
        let number = |name: &str| match &job[name] {
            Value::Null => Some(None),
            value => value.as_u64().map(Some),
        };
        Some(match name.as_str() {
            "gc" => Self::Gc {
                dry_run: job["dry_run"].as_bool()?,
                untagged_older_than: number("untagged_older_than")?,
                longest_read: number("longest_read")?,
                uploads: number("uploads")?,
            },
            "fsck" => Self::Fsck {
                repair: job["repair"].as_bool()?,
                rate: number("rate")?,
                resume: job["resume"].as_bool()?,
            },
            "backup" => Self::Backup { to: job["to"].as_str()?.into() },
            _ => return None,
        })
    }

    /// Does it, and gives its report.
    pub(crate) async fn run(
        self,
        registry: DurableRegistry,
        tell: impl Fn(Event) + Send + Sync,
    ) -> Result<Value, Failure> {
        let told = Mutex::new(None::<Instant>);
        let progress = |line: &dyn Fn() -> String| {
            let mut told = told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if told.is_none_or(|told| told.elapsed() >= EVERY) {
                *told = Some(Instant::now());
                tell(Event::Progress(line()));
            }
        };
        match self {
            Self::Gc { dry_run, untagged_older_than, longest_read, uploads } => {
                let mut options = CollectOptions::default();
                options.dry_run = dry_run;
                options.untagged_older_than = untagged_older_than.map(Duration::from_secs);
                options.longest_read = longest_read.map(Duration::from_secs);
                options.uploads = uploads.map(Duration::from_secs);
                let line = |report: &CollectReport| {
                    format!(
                        "{} manifests, {} blobs ({}) and {} files collected",
                        report.manifests,
                        report.blobs,
                        bytes(report.bytes),
                        report.objects
                    )
                };
                let report = registry.collect(&options, |report| progress(&|| line(report))).await;
                let report = report.map_err(|error| Failure::of("collecting garbage", error))?;
                Ok(json!({
                    "dry_run": report.dry_run,
                    "manifests": report.manifests,
                    "links": report.links,
                    "blobs": report.blobs,
                    "bytes": report.bytes,
                    "files": report.objects,
                    "failed": report.failed,
                    "uploads": report.uploads,
                }))
            }
            Self::Fsck { repair, rate, resume } => {
                let mut options = FsckOptions::default();
                (options.repair, options.rate, options.resume) = (repair, rate, resume);
                let on_event = |event: &FsckEvent<'_>| match event {
                    FsckEvent::Progress(stage, done) => progress(&|| bar(stage.as_str(), *done)),
                    FsckEvent::Problem(problem) => {
                        let remedy = &problem.remedy;
                        tell(Event::Problem(
                            json!({"what": problem.what, "remedy": remedy, "mending": repair}),
                        ));
                    }
                    _ => {}
                };
                let report = registry.fsck(&options, on_event).await;
                let report = report.map_err(|error| Failure::of("checking", error))?;
                Ok(json!({
                    "blobs": report.blobs,
                    "manifests": report.manifests,
                    "files": report.objects,
                    "bytes": report.bytes,
                    "problems": report.problems,
                    "mended": report.mended,
                }))
            }
            Self::Backup { to } => {
                let line = |report: &BackupReport| {
                    format!("{} files ({}) copied", report.objects, bytes(report.bytes))
                };
                let report = registry.backup(to, |report| progress(&|| line(report))).await;
                let report = report.map_err(|error| Failure::of("backing up", error))?;
                Ok(json!({
                    "blobs": report.blobs,
                    "files": report.objects,
                    "bytes": report.bytes,
                }))
            }
        }
    }
}

/// How much of a stage is done, as a bar.
fn bar(stage: &str, done: f64) -> String {
    const WIDTH: usize = 30;
    // Between 0 and WIDTH.
    let full = (done.clamp(0.0, 1.0) * WIDTH as f64) as usize;
    format!("{stage:9} [{}{}] {:3.0} %", "=".repeat(full), " ".repeat(WIDTH - full), done * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_through_as_they_were_sent() {
        let jobs = [
            Job::Gc {
                dry_run: true,
                untagged_older_than: Some(7),
                longest_read: None,
                uploads: None,
            },
            Job::Gc {
                dry_run: false,
                untagged_older_than: None,
                longest_read: Some(0),
                uploads: Some(60),
            },
            Job::Fsck { repair: true, rate: Some(1_000_000), resume: false },
            Job::Backup { to: "/a/b".into() },
        ];
        for job in jobs {
            assert_eq!(Job::from_json(&job.to_json().unwrap()), Some(job));
        }
        for other in [json!({}), json!([]), json!({"rm": {}}), json!({"fsck": {"repair": 1}})] {
            assert_eq!(Job::from_json(&other), None);
        }
    }

    #[test]
    fn a_bar_is_as_long_as_another() {
        assert_eq!(bar("blobs", 0.0).len(), bar("manifests", 1.0).len());
        assert_eq!(bar("blobs", 0.5).matches('=').count(), 15);
    }
}
