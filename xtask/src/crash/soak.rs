//! A soak: the load without kills for a long time. Memory and descriptors must not grow, and nothing may fail.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

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
/// How many samples there are, at least two seconds apart.
const SAMPLES: u64 = 40;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) clients: usize,
}

/// What the server's process has at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    anonymous: u64,
    descriptors: usize,
    threads: usize,
}

impl Sample {
    fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        let kibibytes: u64 = kibibytes.ok_or_else(|| format!("{path} has no RssAnon"))?;
        let path = format!("/proc/{pid}/fd");
        let open = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let path = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        let (descriptors, threads) = (open.count(), threads.count());
        Ok(Self { anonymous: kibibytes << 10, descriptors, threads })
    }
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let data = scratch.path().join("data");
    // Without the cache, which fills for a long time: what grows all the same is a leak.
    let options = [&COLLECTING[..], &["--cache", "0"]].concat();
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
    /// Lines that are worse than news, and the first of them.
    warnings: u64,
    warning: Option<String>,
}

impl Collected {
    fn of(log: &str) -> Result<Self> {
        let (mut collected, mut bytes) = (Self::default(), 0);
        for line in log.lines() {
            if ["WARN", "ERROR"].iter().any(|level| line.contains(level)) {
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
            let sample = Sample::of(server.pid())?;
            let log = fs::read_to_string(data.with_extension("log"));
            let collected = Collected::of(&log.map_err(|error| format!("the log: {error}"))?)?;
            say(&format!(
                "| {:.0} | {} | {:.1} | {} | {} | {} | {} | {} | {} | {} | {} |",
                begun.elapsed().as_secs_f64(),
                acknowledged.get(),
                sample.anonymous as f64 / f64::from(1 << 20),
                sample.descriptors,
                sample.threads,
                size(data) >> 20,
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
    let (done, sampled) = tokio::select! {
        done = futures_util::future::join(works, sampling) => done,
        error = pulls::run(&mut puller, plan.seed, OUTLASTS, &mut pulls) => return Err(error),
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

/// Whether what a process has stays within its bounds, and does not grow.
fn judge(samples: &[Sample], clients: usize) -> Result {
    let quarter = |number: usize| {
        let part = &samples[samples.len() * number / 4..samples.len() * (number + 1) / 4];
        let memory = part.iter().map(|sample| sample.anonymous).max().unwrap_or_default();
        (memory, part.iter().map(|sample| sample.descriptors).max().unwrap_or_default())
    };
    let ((early_memory, _), (late_memory, _)) = (quarter(1), quarter(3));
    let most = samples.iter().map(|sample| sample.anonymous).max().unwrap_or_default();
    let descriptors = samples.iter().map(|sample| sample.descriptors).max().unwrap_or_default();
    if most > MOST_MEMORY {
        return Err(format!("{most} bytes of anonymous memory, more than {MOST_MEMORY}"));
    }
    if samples.len() >= 8 && late_memory > early_memory + MOST_GROWTH {
        return Err(format!(
            "anonymous memory grew from {early_memory} to {late_memory} bytes, by more than {MOST_GROWTH}"
        ));
    }
    if descriptors > DESCRIPTORS + 2 * clients {
        return Err(format!("{descriptors} descriptors, more than {DESCRIPTORS} and two a client"));
    }
    Ok(())
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
        let warned = Collected::of("2026-01-01T00:00:00Z  WARN ocictl::serve: slow\n").unwrap();
        assert!(warned.warnings == 1 && warned.warning.is_some_and(|it| it.contains("slow")));
    }

    #[test]
    fn growth_is_found() {
        let run = |memory: &dyn Fn(u64) -> u64, descriptors: &dyn Fn(u64) -> usize| {
            let sample =
                |n| Sample { anonymous: memory(n), descriptors: descriptors(n), threads: 9 };
            judge(&(0..40).map(sample).collect::<Vec<_>>(), 6)
        };
        assert_eq!(run(&|n| (20 << 20) + ((n % 3) << 20), &|_| 40), Ok(()));
        assert!(run(&|n| (20 << 20) + (n << 19), &|_| 40).is_err());
        assert!(run(&|_| 65 << 20, &|_| 40).is_err());
        assert!(run(&|_| 20 << 20, &|n| 40 + n as usize).is_err());
    }
}
