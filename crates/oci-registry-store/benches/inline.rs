//! Up to which size blobs are better kept in the database: pushes and reads of blobs of one size, with all of them in the database and
//! with none.
//!
//! ```sh
//! cargo bench -p oci-registry-store --all-features --bench inline -- [--rounds N] [--blobs N] [--database URL] [--storage URL]
//! ```
//! The two take turns, and what is shown of rates is the median of the rounds' ratios, so that a machine that is busy with something else
//! slows both. Nothing is cached by the engine. Without `--bench`, as `cargo test --benches` runs it, it is a short try.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is run by hand")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_ref::{Access, ByteRange, Registry, Store};
use oci_registry_store::{Database, DurableRegistry, EngineOptions, Storage};
use oci_spec_types::{Descriptor, MediaType};
use tempfile::TempDir;

const SIZES: [usize; 7] = [1, 4, 8, 16, 32, 64, 128];

/// How many requests are under way.
const CALLERS: usize = 16;

struct Options {
    rounds: usize,
    blobs: usize,
    database: Database,
    storage: Storage,
}

fn options() -> Options {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let short = !given.iter().any(|it| it == "--bench");
    let value = |name: &str| {
        let at = given.iter().position(|it| it == name)?;
        Some(given.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).as_str())
    };
    let number = |name: &str, otherwise: usize| {
        value(name).map_or(otherwise, |value| value.parse().expect("a number"))
    };
    Options {
        rounds: number("--rounds", if short { 1 } else { 5 }).max(1),
        blobs: number("--blobs", if short { 8 } else { 400 }).max(1),
        database: value("--database").map_or_else(Database::default, |url| url.parse().unwrap()),
        storage: value("--storage").map_or_else(Storage::default, |url| url.parse().unwrap()),
    }
}

/// An engine that keeps all of its small blobs in one place.
struct Place {
    registry: DurableRegistry,
    directory: TempDir,
}

/// What one round took.
#[derive(Clone, Copy, Default)]
struct Taken {
    time: Duration,
    cpu: Duration,
}

impl Place {
    async fn new(given: &Options, limit: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = EngineOptions::default();
        options.database = given.database.clone();
        options.storage = given.storage.clone();
        options.inline_limit = limit;
        options.cache = 0;
        let registry = DurableRegistry::open(directory.path(), options).await.unwrap();
        Self { registry, directory }
    }

    async fn push(&self, blobs: &[(Descriptor, Bytes)]) -> Taken {
        let store = self.store().await;
        measure(async {
            let pushes = blobs.iter().map(|(descriptor, bytes)| store.put_blob(descriptor, bytes));
            futures_util::stream::iter(pushes)
                .buffer_unordered(CALLERS)
                .try_collect::<()>()
                .await
                .unwrap();
        })
        .await
    }

    async fn pull(&self, blobs: &[(Descriptor, Bytes)]) -> Taken {
        let store = self.store().await;
        measure(async {
            // Not in the order in which they came.
            let reads = (0..blobs.len()).map(|n| {
                let (descriptor, bytes) = &blobs[n * 7919 % blobs.len()];
                let store = &store;
                async move {
                    let read = store.blob(&descriptor.digest, ByteRange::All).await.unwrap();
                    let chunks: Vec<Bytes> = read.body.try_collect().await.unwrap();
                    assert_eq!(chunks.iter().map(Bytes::len).sum::<usize>(), bytes.len());
                }
            });
            futures_util::stream::iter(reads).buffer_unordered(CALLERS).collect::<()>().await;
        })
        .await
    }

    async fn store(&self) -> std::sync::Arc<dyn Store> {
        self.registry.repository(&"bench".parse().unwrap(), Access::Write).await.unwrap()
    }

    /// Closes it, and tells how much of the disk its directory takes.
    async fn close(self) -> u64 {
        self.registry.close().await;
        disk(self.directory.path())
    }
}

async fn measure(work: impl Future<Output = ()>) -> Taken {
    let (cpu, begun) = (cpu(), Instant::now());
    work.await;
    Taken { time: begun.elapsed(), cpu: self::cpu() - cpu }
}

/// What this process has taken of the processors, in steps of 10 ms. That of a database server or a bucket is not in it.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let ticks = after.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

fn disk(path: &Path) -> u64 {
    let own = 512 * fs::symlink_metadata(path).unwrap().blocks();
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.map(|entry| disk(&entry.unwrap().path())).sum::<u64>()
}

fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length.div_ceil(8)).flatten().take(length).collect::<Vec<u8>>().into()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let given = options();
    let (blobs, rounds) = (given.blobs, given.rounds);
    println!(
        "{rounds} rounds of {blobs} blobs, {CALLERS} at a time, metadata {}, objects {}",
        given.database, given.storage
    );
    println!("database : objects. Above 1, the database is faster, or takes more.\n");
    println!(
        "| KiB | pushes/s | ratio | CPU a push, µs | reads/s | ratio | CPU a read, µs | disk a blob, KiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let empty = [
        Place::new(&given, usize::MAX).await.close().await,
        Place::new(&given, 0).await.close().await,
    ];
    let mut seed = std::process::id().into();
    for size in SIZES {
        let places = [Place::new(&given, usize::MAX).await, Place::new(&given, 0).await];
        let (mut pushes, mut pulls) = ([vec![], vec![]], [vec![], vec![]]);
        for round in 0..=rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let content: Vec<_> = (0..blobs)
                    .map(|_| {
                        seed += 1;
                        let bytes = noise(size << 10, seed);
                        (Descriptor::of(MediaType::OCTET_STREAM, &bytes), bytes)
                    })
                    .collect();
                let taken =
                    (places[which].push(&content).await, places[which].pull(&content).await);
                // The first round warms up.
                if round > 0 {
                    pushes[which].push(taken.0);
                    pulls[which].push(taken.1);
                }
            }
        }
        let stored = ((rounds + 1) * blobs) as u64;
        let mut growth = Vec::new();
        for (place, empty) in places.into_iter().zip(empty) {
            growth.push(place.close().await.saturating_sub(empty) / stored);
        }
        let rates = |taken: &[Vec<Taken>; 2]| {
            let of = |which: usize| {
                let rates = taken[which].iter().map(|it| blobs as f64 / it.time.as_secs_f64());
                let cpu: Duration = taken[which].iter().map(|it| it.cpu).sum();
                (median(rates.collect()), cpu.as_secs_f64() * 1e6 / (rounds * blobs) as f64)
            };
            let ratios = taken[0]
                .iter()
                .zip(&taken[1])
                .map(|(a, b)| b.time.as_secs_f64() / a.time.as_secs_f64());
            let (database, objects) = (of(0), of(1));
            format!(
                "{:.0} : {:.0} | {:.2} | {:.0} : {:.0}",
                database.0,
                objects.0,
                median(ratios.collect()),
                database.1,
                objects.1
            )
        };
        println!(
            "| {size} | {} | {} | {:.1} : {:.1} |",
            rates(&pushes),
            rates(&pulls),
            growth[0] as f64 / 1024.0,
            growth[1] as f64 / 1024.0
        );
    }
}
