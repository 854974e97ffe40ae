//! Upkeep of a registry of some size: check, collection beside pushers, and the deletion of a
//! subject with many referrers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::bench::http::Connection;
use crate::bench::load::Measured;
use crate::process::{Result, number, say};
use crate::scale::content::Content;
use crate::scale::measure::run;
use crate::scale::operations::{DELETE_SUBJECT, PUSH_MANIFEST, PUSH_SMALL};
use crate::scale::operations::{Operation, Targets};
use crate::scale::place::Place;
use crate::scale::shape::Shape;

/// The time that unreferenced content stays, in seconds: not long.
const GRACE: &str = "1s";

/// The options that let the server collect soon.
pub(crate) const SOON: [&str; 4] = ["--gc-grace", GRACE, "--longest-read", GRACE];

/// Longer than the grace, whose clock has whole seconds.
const AFTER_GRACE: Duration = Duration::from_millis(2100);

/// Garbage must be gone after so many collections.
const MOST_COLLECTIONS: usize = 10;

/// The number of clients that push during a collection.
const PUSHERS: u64 = 16;

/// A check that would take longer is left out.
const LONGEST_CHECK: Duration = Duration::from_secs(600);

/// Seeds of what is pushed meanwhile.
const SEED: u64 = 1 << 12;

/// The findings about upkeep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upkeep {
    /// Blobs and manifests that were checked in a second. `None`: it would have taken too long.
    pub(crate) checked_per_second: Option<f64>,
    pub(crate) dry_run: Duration,
    /// The deletion of the subject, and the longest push to another repository meanwhile.
    pub(crate) deletion: Duration,
    pub(crate) longest_wait: Duration,
    /// Manifests that were collected beside pushers, and how long that took.
    pub(crate) collected: u64,
    pub(crate) collecting: Duration,
    /// Pushes of images meanwhile.
    pub(crate) pushes: usize,
    pub(crate) push_p50: Duration,
    pub(crate) push_p99: Duration,
}

impl Upkeep {
    /// Milliseconds of a collection for each manifest.
    pub(crate) fn per_manifest(&self) -> f64 {
        self.collecting.as_secs_f64() * 1e3 / self.collected.max(1) as f64
    }
}

/// Checks a registry that no server uses: nothing may be wrong with it. `rate` is what a smaller
/// one took.
pub(crate) async fn check(place: &Place, shape: Shape, rate: Option<f64>) -> Result<Option<f64>> {
    let expected = rate.map_or(0.0, |rate| shape.checked() as f64 / rate);
    if expected > LONGEST_CHECK.as_secs_f64() {
        say(&format!("fsck is left out: it would take some {:.0} minutes", expected / 60.0));
        return Ok(None);
    }
    let begun = Instant::now();
    let report = place.ask(&["fsck"]).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let rows = number(&report, "blobs") + number(&report, "manifests");
    if number(&report, "problems") > 0 || rows != shape.checked() {
        return Err(format!("fsck: {report}, expected {} rows and all well", shape.checked()));
    }
    Ok(Some(rows as f64 / seconds))
}

/// Measures what changes much, last of all. The server must have been started with [`SOON`].
pub(crate) async fn measure(place: &Place, host: &str, shape: Shape, found: &mut Upkeep) -> Result {
    let begun = Instant::now();
    place.ask(&["gc", "--dry-run"]).await?;
    found.dry_run = begun.elapsed();

    let others = Pushers::start(host, shape, 1, PUSH_MANIFEST);
    let content = Content::new();
    let mut connection = Connection::open(host).await?;
    let mut targets = Targets::new(shape, &content, SEED);
    let deleted = run(DELETE_SUBJECT, &mut targets, &mut connection).await;
    let waited = others.stop().await?;
    found.deletion = deleted?;
    found.longest_wait = waited.percentile(100);

    tokio::time::sleep(AFTER_GRACE).await;
    let others = Pushers::start(host, shape, PUSHERS, PUSH_SMALL);
    let collected = collect(place, shape, found).await;
    let pushed = others.stop().await?;
    collected?;
    found.pushes = pushed.latencies.len();
    (found.push_p50, found.push_p99) = (pushed.percentile(50), pushed.percentile(99));
    Ok(())
}

/// Collects until the referrers of what was deleted are gone.
async fn collect(place: &Place, shape: Shape, found: &mut Upkeep) -> Result {
    for _ in 0..MOST_COLLECTIONS {
        let begun = Instant::now();
        let report = place.ask(&["gc", "--untagged-older-than", GRACE]).await?;
        found.collecting += begun.elapsed();
        found.collected += number(&report, "manifests");
        if found.collected >= shape.referrers() {
            return Ok(());
        }
        tokio::time::sleep(AFTER_GRACE / 2).await;
    }
    Err(format!(
        "{} manifests were collected, expected at least {}",
        found.collected,
        shape.referrers()
    ))
}

/// Clients that do the same thing again and again, each over a connection of its own.
struct Pushers {
    tasks: JoinSet<Result<Vec<Duration>>>,
    ended: Arc<AtomicBool>,
}

impl Pushers {
    fn start(host: &str, shape: Shape, count: u64, operation: &'static Operation) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (host, ended) = (host.to_owned(), Arc::clone(&ended));
            tasks.spawn(async move {
                let content = Content::new();
                let mut targets = Targets::new(shape, &content, SEED + 100 * count + number);
                let mut connection = Connection::open(&host).await?;
                let mut latencies = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    latencies.push(run(operation, &mut targets, &mut connection).await?);
                }
                Ok(latencies)
            });
        }
        Self { tasks, ended }
    }

    /// Ends them. An error if one of them was answered otherwise than it must be.
    async fn stop(mut self) -> Result<Measured> {
        self.ended.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            latencies.extend(done.map_err(|error| format!("a pusher: {error}"))??);
        }
        Ok(Measured::one_by_one(latencies))
    }
}
