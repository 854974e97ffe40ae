//! Garbage collection: small transactions one after the other, between those of everybody else.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use oci_ref::Result;

use crate::engine::Engine;
use crate::metadata::{CollectStep, Collected, Cuts};
use crate::objects::ObjectKey;
use crate::upload::seconds;

/// How many blobs one transaction looks at: about a millisecond of work, for which others wait.
const BLOBS: usize = 100;

/// The same of manifests, each with its references, where others wait who use the same repository.
const MANIFESTS: usize = 150;

/// The same where all wait who write: some milliseconds of work.
const MANIFESTS_OF_ALL: usize = 48;

/// The longest pause after a step.
const PAUSE: Duration = Duration::from_millis(50);

/// How many objects are listed at a time to be deleted.
const OBJECTS: usize = 200;

/// How many objects are deleted at a time.
const DELETIONS: usize = 8;

/// After how many seconds a deletion that failed is tried again.
const RETRY: i64 = 60;

/// What is to be collected.
///
/// ```
/// let mut options = oci_registry_store::CollectOptions::default();
/// options.dry_run = true;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectOptions {
    /// Change nothing, and report what would be done. The report is exact for the moment at which it was asked for, and costs
    /// temporary space on the disk in proportion to what would go.
    pub dry_run: bool,
    /// Delete manifests that have had no tag for so long, too. Not shorter than [`EngineOptions::grace`], whatever is given.
    /// `None`: what [`EngineOptions::untagged`] says.
    ///
    /// [`EngineOptions::grace`]: crate::EngineOptions::grace
    /// [`EngineOptions::untagged`]: crate::EngineOptions::untagged
    pub untagged_older_than: Option<Duration>,
    /// How long the bytes of what is collected now stay for those who are reading them. What was deleted or collected
    /// before stays as long as was said then. `None`: what [`EngineOptions::longest_read`] says.
    ///
    /// [`EngineOptions::longest_read`]: crate::EngineOptions::longest_read
    pub longest_read: Option<Duration>,
    /// The rest after which unfinished uploads end, too: with no time at all, all that nobody is
    /// writing just now. Their clients have to begin anew. `None` leaves them to
    /// [`EngineOptions::session_idle`].
    ///
    /// [`EngineOptions::session_idle`]: crate::EngineOptions::session_idle
    pub uploads: Option<Duration>,
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectReport {
    /// Whether nothing was changed, and these are the numbers of what would be.
    pub dry_run: bool,
    /// Untagged manifests that were deleted, in all repositories together.
    pub manifests: u64,
    /// Blobs that were taken out of a repository, in all repositories together.
    pub links: u64,
    /// Blobs that no repository has any more.
    pub blobs: u64,
    /// The bytes of those blobs, and of manifests that no repository has any more. Those that lie in the database are used
    /// for new content; those in files are given free later, when `objects` counts them.
    pub bytes: u64,
    /// Files of blobs that were deleted or collected earlier, and whose bytes were given free now. 0 in a dry run.
    pub objects: u64,
    /// Files that could not be deleted. They are tried again later.
    pub failed: u64,
    /// Uploads that were ended, and whose bytes were given free. In a dry run, those that somebody
    /// is writing just now count, too.
    pub uploads: u64,
}

impl CollectReport {
    fn add(&mut self, collected: Collected) {
        self.manifests += collected.manifests;
        self.links += collected.links;
        self.blobs += collected.blobs;
        self.bytes += collected.bytes;
    }
}

pub(crate) async fn run(
    engine: &Engine,
    options: &CollectOptions,
    progress: &(dyn Fn(&CollectReport) + Send + Sync),
) -> Result<CollectReport> {
    let metadata = &engine.metadata;
    let cuts = cuts(engine, options);
    let longest_read = options.longest_read.unwrap_or(engine.options.longest_read);
    let mut report = CollectReport { dry_run: options.dry_run, ..CollectReport::default() };
    if options.dry_run {
        if let Some(idle) = options.uploads {
            report.uploads = engine.uploads_to_end(idle).await?;
        }
        // Not a part of the collection: what has been deleted lets go of what referred to it.
        finish_deletions(engine).await?;
        report.add(metadata.preview_collection(cuts).await?);
        return Ok(report);
    }
    if let Some(idle) = options.uploads {
        report.uploads = engine.end_uploads(idle).await?;
        progress(&report);
    }
    let _only = engine.collecting.lock().await;
    finish_deletions(engine).await?;
    let manifests = if metadata.is_shared() { MANIFESTS } else { MANIFESTS_OF_ALL };
    let mut step = CollectStep { more: cuts.manifests.is_some(), ..CollectStep::default() };
    while step.more {
        let before = cuts.manifests.unwrap_or(i64::MIN);
        let begun = Instant::now();
        step = metadata.collect_manifests(before, cuts.now, manifests).await?;
        step.more |= finish_deletions(engine).await?;
        report.add(step.collected);
        progress(&report);
        pause(&step, begun).await;
    }
    step.more = true;
    while step.more {
        // From this step on, and not from the beginning: a collection can take longer than the longest read.
        let delete_after = engine.now().saturating_add(seconds(longest_read));
        let begun = Instant::now();
        step = metadata.collect_blobs(cuts.blobs, delete_after, BLOBS).await?;
        report.add(step.collected);
        progress(&report);
        pause(&step, begun).await;
    }
    delete_objects(engine, &mut report, progress).await?;
    Ok(report)
}

/// Leaves the database to others for an eighth of the time that a step has taken, which is longer
/// the more there is to do for it.
async fn pause(step: &CollectStep, begun: Instant) {
    if step.more {
        tokio::time::sleep((begun.elapsed() / 8).min(PAUSE)).await;
    }
}

/// Goes on with deletions until there is nothing left to do, and tells whether there was anything.
async fn finish_deletions(engine: &Engine) -> Result<bool> {
    let mut any = false;
    while engine.metadata.finish_deletions().await? {
        any = true;
    }
    Ok(any)
}

fn cuts(engine: &Engine, options: &CollectOptions) -> Cuts {
    let now = engine.now();
    let grace = engine.options.grace;
    let untagged = options.untagged_older_than.or(engine.options.untagged);
    Cuts {
        now,
        blobs: now.saturating_sub(seconds(grace)),
        manifests: untagged.map(|age| now.saturating_sub(seconds(age.max(grace)))),
    }
}

/// Deletes the objects whose time has come, unless somebody needs all of them to stay for now.
async fn delete_objects(
    engine: &Engine,
    report: &mut CollectReport,
    progress: &(dyn Fn(&CollectReport) + Send + Sync),
) -> Result<()> {
    let metadata = &engine.metadata;
    loop {
        let Ok(_allowed) = engine.deletions.try_read() else { return Ok(()) };
        let due = metadata.due_objects(engine.now(), OBJECTS).await?;
        if due.is_empty() {
            return Ok(());
        }
        let deletions = due.into_iter().map(|key| delete(engine, key));
        let outcomes: Vec<(ObjectKey, bool)> =
            futures_util::stream::iter(deletions).buffer_unordered(DELETIONS).collect().await;
        let (mut deleted, mut failed) = (Vec::new(), Vec::new());
        for (key, done) in outcomes {
            if done { deleted.push(key) } else { failed.push(key) }
        }
        metadata.forget_objects(&deleted).await?;
        for key in &failed {
            metadata.postpone_object(key, engine.now().saturating_add(RETRY)).await?;
        }
        report.objects += deleted.len() as u64;
        report.failed += failed.len() as u64;
        progress(report);
    }
}

/// Deletes an object, and tells whether it is gone.
async fn delete(engine: &Engine, key: ObjectKey) -> (ObjectKey, bool) {
    let deleted = engine.delete(&key).await;
    if let Err(error) = &deleted {
        tracing::warn!(%key, %error, "an unused object could not be deleted; it is tried again later");
    }
    (key, deleted.is_ok())
}
