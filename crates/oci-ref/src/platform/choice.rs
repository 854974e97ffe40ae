//! Choosing an entry of one list, with the reasons.

use std::collections::BTreeSet;
use std::fmt;

use oci_spec_types::{Descriptor, ErrorCode, MediaType, Platform};

use super::fit::{Fit, Wanted, stated};
use crate::{Error, RefPath};

/// Most platforms that an error lists.
const MAX_LISTED: usize = 12;
/// Longest text from a list that is shown, in characters.
const MAX_SHOWN: usize = 100;

/// Why an entry of a list was or was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It was taken, and fits so.
    Chosen(Fit),
    /// It fits, but another fits better, or as well and comes first.
    Behind(Fit),
    /// It is for another operating system.
    OperatingSystem,
    /// It is for another architecture.
    Architecture,
    /// It needs a newer or another variant of the processor.
    Variant,
    /// It needs another version of the operating system.
    OsVersion,
    /// It needs these features of the operating system.
    OsFeatures(Vec<String>),
    /// It says something about another entry: provenance, a bill of materials.
    Attestation,
    /// It is an artifact of this type, and no image.
    Artifact(String),
    /// It is of a type that is neither image nor index.
    NotAnImage(MediaType),
    /// It is an index for no platform, and was not looked into.
    NestedIndex,
    /// It is an index, and its entries were looked at.
    LookedInto,
    /// It is an index that is not there.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(fit) => write!(f, "chosen: {fit}"),
            Self::Behind(fit) => write!(f, "fits ({fit}), but not best"),
            Self::OperatingSystem => f.write_str("for another operating system"),
            Self::Architecture => f.write_str("for another architecture"),
            Self::Variant => f.write_str("needs another variant of the processor"),
            Self::OsVersion => f.write_str("needs another version of the operating system"),
            Self::OsFeatures(missing) => {
                write!(f, "needs features of the operating system: {}", shown(missing.join(", ")))
            }
            Self::Attestation => f.write_str("an attestation, no image"),
            Self::Artifact(artifact_type) => {
                write!(f, "an artifact of type {}, no image", shown(artifact_type))
            }
            Self::NotAnImage(media_type) => {
                write!(f, "of type {media_type}, neither image nor index")
            }
            Self::NestedIndex => f.write_str("an index without a platform, not looked into"),
            Self::LookedInto => f.write_str("an index, looked into"),
            Self::Missing => f.write_str("an index that is not there"),
        }
    }
}

/// A text from a list, on one line and not too long.
fn shown(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// An entry that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is listed.
    pub path: RefPath,
    /// The entry.
    pub descriptor: Descriptor,
    /// Why it was or was not taken.
    pub verdict: Verdict,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.path)?;
        match stated(&self.descriptor) {
            Some(platform) => f.write_str(&shown(platform))?,
            None => f.write_str("no platform")?,
        }
        write!(f, " {}: {}", self.descriptor.digest, self.verdict)
    }
}

/// The entry of a list that fits a platform best, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The entry that was taken.
    pub descriptor: Descriptor,
    /// Its position in the list.
    pub position: usize,
    /// All entries, in the list's order.
    pub candidates: Vec<Candidate>,
}

/// No entry of a list fits a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMatch {
    /// The platform that was asked for.
    pub wanted: Box<Platform>,
    /// All entries that were looked at.
    pub candidates: Vec<Candidate>,
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, candidates } = self;
        write!(f, "no image for architecture {:?}", wanted.architecture)?;
        if let Some(variant) = &wanted.variant {
            write!(f, ", variant {variant:?}")?;
        }
        write!(f, ", OS {:?}", wanted.os)?;
        if let Some(version) = &wanted.os_version {
            write!(f, ", OS version {version:?}")?;
        }
        if !wanted.os_features.is_empty() {
            write!(f, ", OS features {}", shown(wanted.os_features.join(", ")))?;
        }
        let platform = |candidate: &Candidate| {
            let platform = shown(stated(&candidate.descriptor)?);
            Some(match &candidate.verdict {
                Verdict::OsFeatures(missing) => {
                    format!("{platform} (needs {})", shown(missing.join(", ")))
                }
                _ => platform,
            })
        };
        let platforms: BTreeSet<String> = candidates.iter().filter_map(platform).collect();
        let entries = if candidates.len() == 1 { "entry" } else { "entries" };
        write!(f, " among {} {entries}", candidates.len())?;
        let listed: Vec<&str> = platforms.iter().take(MAX_LISTED).map(String::as_str).collect();
        if !listed.is_empty() {
            write!(f, "; there is {}", listed.join(", "))?;
        }
        match platforms.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl std::error::Error for NoMatch {}

impl From<NoMatch> for Error {
    fn from(error: NoMatch) -> Self {
        Self::new(ErrorCode::ManifestUnknown, error.to_string()).with_source(error)
    }
}

/// The entry that fits best. Looks at each entry once.
pub(crate) fn choose(entries: &[Descriptor], wanted: &Platform) -> Result<Choice, NoMatch> {
    let prepared = Wanted::new(wanted);
    let mut best = None;
    let mut candidates = Vec::with_capacity(entries.len());
    for (position, entry) in entries.iter().enumerate() {
        let verdict = match prepared.score(entry, None) {
            Ok(score) => {
                let this = (score, position);
                best = Some(best.map_or(this, |best| this.min(best)));
                Verdict::Behind(score.fit())
            }
            Err(verdict) => verdict,
        };
        let path = RefPath::default().child(position);
        candidates.push(Candidate { path, descriptor: entry.clone(), verdict });
    }
    let Some((score, position)) = best else {
        return Err(NoMatch { wanted: Box::new(wanted.clone()), candidates });
    };
    candidates[position].verdict = Verdict::Chosen(score.fit());
    Ok(Choice { descriptor: entries[position].clone(), position, candidates })
}
