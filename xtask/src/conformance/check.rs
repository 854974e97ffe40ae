//! What a check is, and what comes of it.

use std::future::Future;
use std::pin::Pin;

use super::context::Registry;

/// The parts of the specification, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Area {
    Pull,
    Ranges,
    Manifests,
    Uploads,
    Chunks,
    Mount,
    Tags,
    Referrers,
    Delete,
    Errors,
}

impl Area {
    pub(super) const ALL: [Self; 10] = [
        Self::Pull,
        Self::Ranges,
        Self::Manifests,
        Self::Uploads,
        Self::Chunks,
        Self::Mount,
        Self::Tags,
        Self::Referrers,
        Self::Delete,
        Self::Errors,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Ranges => "ranges",
            Self::Manifests => "manifests",
            Self::Uploads => "uploads",
            Self::Chunks => "chunks",
            Self::Mount => "mount",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Delete => "delete",
            Self::Errors => "errors",
        }
    }
}

/// How much the specification asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Must,
    Should,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

/// The version of the distribution specification from which on it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Version {
    /// The last release.
    #[value(name = "1.1")]
    V1_1,
    /// The main branch.
    #[value(name = "dev")]
    Dev,
}

impl Version {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::Dev => "dev",
        }
    }
}

/// Why a check ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The registry did something else than the specification says.
    Fail { request: String, expected: String, found: String },
    /// The registry lacks an optional feature.
    Skip(String),
}

/// A feature that the registry need not have, and has not.
pub(super) fn skip<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(reason.into()))
}

pub(super) type Verdict = Result<(), Stop>;
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One check: what it proves, and how.
pub(super) struct Check {
    /// Unique in the table.
    pub(super) id: &'static str,
    pub(super) area: Area,
    pub(super) level: Level,
    pub(super) since: Version,
    /// Numbers in the list of requirements that `docs/conformance.md` gives.
    pub(super) requirements: &'static [u8],
    pub(super) run: for<'a> fn(&'a Registry) -> Running<'a>,
}

/// A table of checks: `LEVEL VERSION "id" [requirements] => function,`.
macro_rules! checks {
    ($area:ident: $($level:ident $since:ident $id:literal [$($requirement:literal),+] => $run:path,)+) => {
        &[$($crate::conformance::check::Check {
            id: $id,
            area: $crate::conformance::check::Area::$area,
            level: $crate::conformance::check::Level::$level,
            since: $crate::conformance::check::Version::$since,
            requirements: &[$($requirement),+],
            run: |registry| Box::pin($run(registry)),
        }),+]
    };
}
pub(super) use checks;
