//! A soak: the load without kills for a long time. Memory and descriptors must not grow, and nothing may fail.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::crash::check;
use crate::crash::client::Client;
use crate::crash::load::{Common, Worker};
use crate::crash::pulls::{self, Pulls};
use crate::crash::shared::SharedTags;
use crate::crash::tools::{COLLECTING, GRACE, OUTLASTS, Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, Server, say};

/// Anonymous memory, in bytes, that the server may have at any time.
const MOST_MEMORY: u64 = 64 << 20;
/// What it may have grown by, in bytes, from the second quarter of the time to the last.
const MOST_GROWTH: u64 = 8 << 20;
/// Descriptors that may be open beside two for each client: the database's, the directory's, and files being read.
const DESCRIPTORS: usize = 64;
/// How many more may be open in the last quarter than in the second.
const MORE_DESCRIPTORS: usize = 16;
/// What the files may have grown by, in bytes, from the second quarter to the last: the load keeps much the same, and what
/// it deletes goes. A few seconds' garbage is less.
const MOST_DISK_GROWTH: u64 = 128 << 20;
/// With so few samples nothing is said of quarters.
const QUARTERS: usize = 8;
/// How many samples there are, at least two seconds apart.
const SAMPLES: u64 = 40;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) clients: usize,
    /// The server's cache, in MiB.
    pub(super) cache: u32,
}

/// What the server's process has at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    anonymous: u64,
    descriptors: usize,
    threads: usize,
    /// Bytes in its files.
    disk: u64,
    /// How often it has collected garbage so far, and how many files it has deleted.
    collections: u64,
    deleted: u64,
}

impl Sample {
    fn of(pid: u32, data: &Path, collected: &Collected) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        let kibibytes: u64 = kibibytes.ok_or_else(|| format!("{path} has no RssAnon"))?;
        let path = format!("/proc/{pid}/fd");
        let open = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let path = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self {
            anonymous: kibibytes << 10,
            descriptors: open.count(),
            threads: threads.count(),
            disk: size(data),
            collections: collected.runs,
            deleted: collected.files,
        })
    }
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let data = scratch.path().join("data");
    // A cache that is smaller than what may grow, or full in the second quarter: what grows all the same is a leak.
    let cache = plan.cache.to_string();
    let options = [&COLLECTING[..], &["--cache", &cache]].concat();
    let mut command = tools.serve(&data, &options)?;
    // It says what it collects.
    command.env("OCICTL_LOG", "warn,ocictl=info").env("NO_COLOR", "1");
    let server =
        Server::spawn(command).map_err(|error| format!("{error}: {}", tools.said_last(&data)))?;
    runtime()?.block_on(soak(plan, &server, &data))?;
    server.kill()?;
    tools.fsck(&data)?;
    say("all is there, and fsck finds nothing");
    Ok(())
}

/// What the server has collected, as its log says it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Collected {
    runs: u64,
    blobs: u64,
    files: u64,
    mebibytes: u64,
    /// Lines that are worse than news, as of a panic, and the first of them.
    warnings: u64,
    warning: Option<String>,
}

impl Collected {
    fn of(log: &str) -> Result<Self> {
        let (mut collected, mut bytes) = (Self::default(), 0);
        for line in log.lines() {
            if ["WARN", "ERROR", "panicked at"].iter().any(|bad| line.contains(bad)) {
                collected.warnings += 1;
                collected.warning.get_or_insert_with(|| line.to_owned());
            }
            if !line.contains("garbage collected") {
                continue;
            }
            let field = |name: &str| {
                let value = line.split(' ').find_map(|word| word.strip_prefix(name));
                let number = value.and_then(|value| value.strip_prefix('=')?.parse::<u64>().ok());
                number.ok_or_else(|| format!("the server said no {name}: {line}"))
            };
            collected.runs += 1;
            collected.blobs += field("blobs")?;
            collected.files += field("files")?;
            bytes += field("bytes")?;
        }
        collected.mebibytes = bytes >> 20;
        Ok(collected)
    }
}

async fn soak(plan: &Plan, server: &Server, data: &Path) -> Result {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(plan.seconds);
    let mut random = Random::new(plan.seed);
    let common = Common::new(plan.seed);
    let acknowledged = Rc::new(Cell::new(0_u64));
    let mut workers: Vec<Worker> = (0..plan.clients)
        .map(|number| {
            let acknowledged = acknowledged.clone();
            let count = Rc::new(move || acknowledged.set(acknowledged.get() + 1));
            let mut client = Client::new(&format!("w{number}"), &server.host, count);
            client.model.grace = Some(GRACE);
            Worker::new(client, random.next(), common.clone())
        })
        .collect();
    let mut samples = Vec::new();
    let mut warning = None;
    let pause = Duration::from_secs((plan.seconds / SAMPLES).max(2));
    say(
        "| seconds | acknowledged changes | anonymous memory, MiB | descriptors | threads | on disk, MiB | collections | blobs collected | files deleted | MiB collected | warnings |\n\
         |---|---|---|---|---|---|---|---|---|---|---|",
    );
    let sampling = async {
        while Instant::now() < end {
            tokio::time::sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
            let log = fs::read_to_string(data.with_extension("log"));
            let collected = Collected::of(&log.map_err(|error| format!("the log: {error}"))?)?;
            let sample = Sample::of(server.pid(), data, &collected)?;
            say(&format!(
                "| {:.0} | {} | {:.1} | {} | {} | {} | {} | {} | {} | {} | {} |",
                begun.elapsed().as_secs_f64(),
                acknowledged.get(),
                sample.anonymous as f64 / f64::from(1 << 20),
                sample.descriptors,
                sample.threads,
                sample.disk >> 20,
                collected.runs,
                collected.blobs,
                collected.files,
                collected.mebibytes,
                collected.warnings,
            ));
            warning = collected.warning;
            samples.push(sample);
        }
        Result::Ok(())
    };
    let mut pulls = Pulls::default();
    let mut puller = Client::new("pulls", &server.host, Rc::new(|| ()));
    puller.model.grace = Some(GRACE);
    let works = join_all(workers.iter_mut().map(|worker| worker.run(|| Instant::now() >= end)));
    let first_pull = Notify::new();
    let (done, sampled) = tokio::select! {
        done = futures_util::future::join(works, sampling) => done,
        error = pulls::run(&mut puller, plan.seed, OUTLASTS, &mut pulls, &first_pull) => return Err(error),
    };
    sampled?;
    for (number, done) in done.into_iter().enumerate() {
        done.map_err(|failed| format!("client w{number}: {}", String::from(failed)))?;
    }
    for worker in &mut workers {
        check::everything(&mut worker.client, &[SharedTags::REPOSITORY])
            .await
            .map_err(String::from)?;
    }
    let requests: u64 = workers.iter().map(|worker| worker.client.connections.sent).sum();
    let collected: usize = workers.iter().map(|worker| worker.client.collected).sum();
    say(&format!(
        "{requests} requests, none failed; at the end {collected} blobs were found to be collected; \
         {} pulls of blobs that were deleted meanwhile were exact, and {} broke off",
        pulls.exact, pulls.broken
    ));
    judge(&samples, plan.clients)?;
    warning.map_or(Ok(()), |warning| Err(format!("the server warned: {warning}")))
}

/// The bytes in the files of a directory.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    // What has gone meanwhile has no size.
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// One thing that a sample has.
type Of<'a> = &'a dyn Fn(&Sample) -> u64;

/// Whether what a process has stays within its bounds and does not grow, and whether it collects garbage to the end.
fn judge(samples: &[Sample], clients: usize) -> Result {
    let most = |samples: &[Sample], of: Of<'_>| samples.iter().map(of).max().unwrap_or_default();
    let memory = |sample: &Sample| sample.anonymous;
    let descriptors = |sample: &Sample| sample.descriptors as u64;
    let disk = |sample: &Sample| sample.disk;
    let all = most(samples, &memory);
    if all > MOST_MEMORY {
        return Err(format!("{all} bytes of anonymous memory, more than {MOST_MEMORY}"));
    }
    let all = most(samples, &descriptors);
    if all > (DESCRIPTORS + 2 * clients) as u64 {
        return Err(format!("{all} descriptors, more than {DESCRIPTORS} and two a client"));
    }
    if samples.len() < QUARTERS {
        return Ok(());
    }
    let quarter =
        |number: usize| &samples[samples.len() * number / 4..samples.len() * (number + 1) / 4];
    let (early, late) = (quarter(1), quarter(3));
    let grown: [(&str, Of<'_>, u64); 3] = [
        ("bytes of anonymous memory", &memory, MOST_GROWTH),
        ("descriptors", &descriptors, MORE_DESCRIPTORS as u64),
        ("bytes on disk", &disk, MOST_DISK_GROWTH),
    ];
    for (what, of, more) in grown {
        let (before, after) = (most(early, of), most(late, of));
        if after > before + more {
            return Err(format!(
                "{what} grew from {before} in the second quarter to {after} in the last, by more than {more}"
            ));
        }
    }
    let goes_on = |what: &str, of: Of<'_>| match (late.first(), late.last()) {
        (Some(first), Some(last)) if of(last) > of(first) => Ok(()),
        _ => Err(format!("no {what} in the last quarter of the time: {} before", most(late, of))),
    };
    goes_on("garbage was collected", &|sample| sample.collections)?;
    goes_on("file of a blob was deleted", &|sample| sample.deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_collected_is_read_and_warnings_are_seen() {
        let line = "2026-01-01T00:00:00Z  INFO ocictl::serve: garbage collected manifests=0 blobs=3 bytes=2097152 files=2\n";
        let collected =
            Collected { runs: 2, blobs: 6, files: 4, mebibytes: 4, ..Collected::default() };
        assert_eq!(Collected::of(&line.repeat(2)), Ok(collected));
        for bad in [
            "2026-01-01T00:00:00Z  WARN ocictl::serve: slow\n",
            "2026-01-01T00:00:00Z ERROR ocictl::background: the server ends\n",
            "thread 'tokio-rt-worker' (7) panicked at crates/a.rs:1:1:\n",
        ] {
            let seen = Collected::of(&format!("{line}{bad}{line}")).unwrap();
            assert_eq!((seen.warnings, seen.warning.as_deref()), (1, Some(bad.trim_end())));
        }
    }

    /// Of a good run but for what is changed in a sample.
    fn run(change: &dyn Fn(&mut Sample, u64)) -> Result {
        let sample = |number: u64| {
            let mut sample = Sample {
                anonymous: (20 + number % 3) << 20,
                descriptors: 30 + number as usize % 7,
                threads: 9,
                disk: (90 + number % 5) << 20,
                collections: 3 * number,
                deleted: number / 2,
            };
            change(&mut sample, number);
            sample
        };
        judge(&(0..40).map(sample).collect::<Vec<_>>(), 6)
    }

    #[test]
    fn growth_is_found() {
        assert_eq!(run(&|_, _| ()), Ok(()));
        let fails = |change: &dyn Fn(&mut Sample, u64), what: &str| {
            let error = run(change).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        fails(&|sample, number| sample.anonymous += number << 19, "memory grew");
        fails(&|sample, _| sample.anonymous = 65 << 20, "bytes of anonymous memory, more");
        fails(&|sample, number| sample.descriptors += number as usize, "descriptors grew");
        fails(&|sample, _| sample.descriptors = 77, "descriptors, more");
        fails(&|sample, number| sample.disk += number << 23, "disk grew");
    }

    #[test]
    fn a_collector_that_has_ended_is_found() {
        let ends = |sample: &mut Sample, number: u64| sample.collections = number.min(29);
        assert!(run(&ends).unwrap_err().contains("no garbage"));
        let ends = |sample: &mut Sample, number: u64| sample.deleted = number.min(29);
        assert!(run(&ends).unwrap_err().contains("no file"));
    }
}
