//! Checking what is stored: the database, the blobs, the manifests with their references, and the files.
//!
//! It runs beside everybody else. What it reads may be gone or changed by the time it is compared, so nothing is called a
//! problem before it was looked at again, and each repair is a transaction that finds what it mends as it was, or does nothing.

mod blobs;
mod manifests;
mod misfits;
mod objects;

use oci_ref::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::verify::Pace;

/// Under what name the place is kept where a check was left.
const CURSOR: &str = "fsck-cursor";

/// How a check is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsckOptions {
    /// Mend what can be mended. Each problem is told with its remedy before it is mended.
    pub repair: bool,
    /// How many bytes are read a second at most. `None`: as many as the disk gives.
    pub rate: Option<u64>,
    /// Go on where the last check was left before its end, if one was. What that one has found counts, and is not told again.
    pub resume: bool,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsckProblem {
    /// What is wrong.
    pub what: String,
    /// What a repair does about it. `None` if that is for a person to decide; then `what` says what can be done.
    pub remedy: Option<String>,
}

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FsckStage {
    /// The database itself, and rows of it that belong to nothing.
    Database,
    /// Each blob: its bytes are there, and have its size and digest.
    Blobs,
    /// Each manifest of each repository: its bytes have its digest, and its references are recorded.
    Manifests,
    /// Each file: it belongs to a blob or an upload.
    Objects,
}

impl FsckStage {
    const ALL: [Self; 4] = [Self::Database, Self::Blobs, Self::Manifests, Self::Objects];

    /// A word for it: `database`, `blobs`, `manifests`, `objects`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Blobs => "blobs",
            Self::Manifests => "manifests",
            Self::Objects => "objects",
        }
    }
}

/// What happens in a check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FsckEvent<'a> {
    /// So much of a stage is done, from 0 to 1.
    Progress(FsckStage, f64),
    /// Something is wrong. If it is to be mended, that is done after this has been told.
    Problem(&'a FsckProblem),
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsckReport {
    /// Blobs that were checked.
    pub blobs: u64,
    /// Manifests that were checked, in all repositories together.
    pub manifests: u64,
    /// Files that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Problems that were found.
    pub problems: u64,
    /// How many of them were mended.
    pub mended: u64,
}

impl FsckReport {
    /// Whether nothing is wrong, or nothing any more.
    pub fn is_sound(&self) -> bool {
        self.problems == self.mended
    }
}

/// Tells somebody what happens.
pub(crate) type OnEvent<'a> = &'a (dyn Fn(&FsckEvent<'_>) + Send + Sync);

/// A check under way.
struct Check<'a> {
    engine: &'a Engine,
    repair: bool,
    tell: OnEvent<'a>,
    pace: Pace,
    report: FsckReport,
}

impl Check<'_> {
    fn progress(&self, stage: FsckStage, done: f64) {
        (self.tell)(&FsckEvent::Progress(stage, done.clamp(0.0, 1.0)));
    }

    /// Tells a problem. `true` if it is to be mended now.
    fn problem(&mut self, what: String, remedy: Option<String>) -> bool {
        let problem = FsckProblem { what, remedy };
        self.report.problems += 1;
        (self.tell)(&FsckEvent::Problem(&problem));
        self.repair && problem.remedy.is_some()
    }

    fn mended(&mut self) {
        self.report.mended += 1;
    }

    /// Notes how far it is: everything before `after` of a stage is done.
    async fn keep(&self, stage: FsckStage, after: &Value) -> Result<()> {
        let report = &self.report;
        let cursor = json!({
            "stage": stage.as_str(),
            "after": after,
            "blobs": report.blobs,
            "manifests": report.manifests,
            "objects": report.objects,
            "bytes": report.bytes,
            "problems": report.problems,
            "mended": report.mended,
        });
        self.engine.metadata.set_setting(CURSOR, Some(cursor.to_string().into())).await
    }

    async fn database(&mut self) -> Result<()> {
        for problem in self.engine.metadata.check_database().await? {
            let what = format!(
                "the metadata database is damaged: {problem}; restore it from a backup, with its objects"
            );
            self.problem(what, None);
        }
        self.misfits().await
    }
}

pub(crate) async fn run(
    engine: &Engine,
    options: &FsckOptions,
    tell: OnEvent<'_>,
) -> Result<FsckReport> {
    let _only = engine.checking.try_lock().map_err(|_| {
        Error::new(ErrorKind::Unavailable, "another check of this registry is under way")
    })?;
    let left = match options.resume {
        true => engine.metadata.setting(CURSOR).await?,
        false => None,
    };
    let (first, mut after, report) = left.as_deref().and_then(read_cursor).unwrap_or_default();
    let pace = Pace::new(options.rate);
    let mut check = Check { engine, repair: options.repair, tell, pace, report };
    for stage in FsckStage::ALL.into_iter().skip(first) {
        check.progress(stage, 0.0);
        check.keep(stage, &after).await?;
        match stage {
            FsckStage::Database => check.database().await?,
            FsckStage::Blobs => check.blobs(after.as_i64().unwrap_or(0)).await?,
            FsckStage::Manifests => check.manifests(after.as_i64().unwrap_or(0)).await?,
            FsckStage::Objects => check.objects(after.as_str()).await?,
        }
        check.progress(stage, 1.0);
        after = Value::Null;
    }
    engine.metadata.set_setting(CURSOR, None).await?;
    Ok(check.report)
}

/// Where a check was left, and what it had found. `None` if it was kept by a version that this one does not understand.
fn read_cursor(kept: &[u8]) -> Option<(usize, Value, FsckReport)> {
    let kept: Value = serde_json::from_slice(kept).ok()?;
    let stage = kept["stage"].as_str()?;
    let stage = FsckStage::ALL.iter().position(|known| known.as_str() == stage)?;
    let number = |name: &str| kept[name].as_u64();
    let report = FsckReport {
        blobs: number("blobs")?,
        manifests: number("manifests")?,
        objects: number("objects")?,
        bytes: number("bytes")?,
        problems: number("problems")?,
        mended: number("mended")?,
    };
    Some((stage, kept["after"].clone(), report))
}
