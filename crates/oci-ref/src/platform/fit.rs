//! How well one entry fits.

use std::cmp::Reverse;
use std::fmt;

use oci_spec_types::{Descriptor, MediaType, Platform};

use super::choice::Verdict;
use super::processor::{DoesNotRun, Runs, runs};
use super::version::{self, VersionFit};

/// How well an image fits the platform that was asked for, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// It is for the same processor, version and features.
    Exact,
    /// It is for the same processor, and for a version or features that fit.
    Compatible,
    /// It is for an older variant of the processor.
    OlderVariant,
    /// It is for another architecture that the processor also runs.
    OtherArchitecture,
    /// It needs features of the operating system that were not asked for: the last of what states a
    /// platform.
    MoreFeatures,
    /// It does not say what it is for.
    Unstated,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact match",
            Self::Compatible => "same processor, compatible version and features",
            Self::OlderVariant => "older variant of the processor",
            Self::OtherArchitecture => "other architecture that the processor also runs",
            Self::MoreFeatures => "needs features that were not asked for",
            Self::Unstated => "no platform stated",
        })
    }
}

/// What entries are ordered by: less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Score {
    /// The image's platform fits: its processor, its version, and how many features it needs.
    Stated(Runs, VersionFit, Reverse<usize>, Fit),
    /// It would fit if fewer features were missing: how many are, its processor and its version.
    MoreFeatures(usize, Runs, VersionFit),
    /// The image has no platform: after all that fit.
    Unstated,
}

impl Score {
    pub(super) fn fit(self) -> Fit {
        match self {
            Self::Stated(.., fit) => fit,
            Self::MoreFeatures(..) => Fit::MoreFeatures,
            Self::Unstated => Fit::Unstated,
        }
    }
}

/// The wanted platform, prepared for many comparisons.
pub(super) struct Wanted {
    platform: Platform,
    features: Vec<String>,
}

impl Wanted {
    pub(super) fn new(platform: &Platform) -> Self {
        let platform = platform.normalized();
        let features = features(&platform);
        Self { platform, features }
    }

    /// Whether the entry is an image that fits, and how well. `inherited` is the platform of the list that it is in.
    pub(super) fn score(
        &self,
        entry: &Descriptor,
        inherited: Option<&Platform>,
    ) -> Result<Score, Verdict> {
        let media_type = &entry.media_type;
        if !media_type.is_image() && !media_type.is_index() {
            return Err(Verdict::NotAnImage(media_type.clone()));
        }
        if is_attestation(entry) {
            return Err(Verdict::Attestation);
        }
        match stated(entry).or(inherited) {
            Some(found) => self.score_platform(&found.normalized()),
            None if media_type.is_index() => Err(Verdict::NestedIndex),
            None => match &entry.artifact_type {
                Some(artifact_type) if !is_config_type(artifact_type) => {
                    Err(Verdict::Artifact(artifact_type.clone()))
                }
                _ => Ok(Score::Unstated),
            },
        }
    }

    fn score_platform(&self, found: &Platform) -> Result<Score, Verdict> {
        let wanted = &self.platform;
        if wanted.os != found.os {
            return Err(Verdict::OperatingSystem);
        }
        let runs = runs(wanted, found).map_err(|why| match why {
            DoesNotRun::Architecture => Verdict::Architecture,
            DoesNotRun::Variant => Verdict::Variant,
        })?;
        let version =
            version::fit(&wanted.os, wanted.os_version.as_deref(), found.os_version.as_deref())
                .ok_or(Verdict::OsVersion)?;
        let needed = features(found);
        let missing: Vec<_> = needed
            .iter()
            .filter(|feature| self.features.binary_search(feature).is_err())
            .cloned()
            .collect();
        if !missing.is_empty() {
            // On Windows they say that an image cannot run; elsewhere nobody looks at them.
            return match wanted.os == "windows" {
                true => Err(Verdict::OsFeatures(missing)),
                false => Ok(Score::MoreFeatures(missing.len(), runs, version)),
            };
        }
        let exact = wanted.os_version == found.os_version && needed == self.features;
        let fit = match runs {
            Runs::Same if exact => Fit::Exact,
            Runs::Same => Fit::Compatible,
            Runs::Older(_) => Fit::OlderVariant,
            Runs::OtherArchitecture(_) => Fit::OtherArchitecture,
        };
        Ok(Score::Stated(runs, version, Reverse(needed.len()), fit))
    }
}

/// The platform that an entry states. Some tools write an empty one where they have none.
pub(super) fn stated(entry: &Descriptor) -> Option<&Platform> {
    entry
        .platform
        .as_ref()
        .filter(|platform| !platform.os.is_empty() || !platform.architecture.is_empty())
}

/// The features that must be there, sorted, each once.
fn features(platform: &Platform) -> Vec<String> {
    let mut features = platform.os_features.clone();
    if platform.os == "windows" {
        features.retain(|feature| feature != "win32k");
    }
    features.sort_unstable();
    features.dedup();
    features
}

/// BuildKit lists what it attests of an image as a manifest for `unknown/unknown`.
fn is_attestation(entry: &Descriptor) -> bool {
    let unknown = stated(entry)
        .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
    let attests = entry.annotations.get("vnd.docker.reference.type");
    unknown || attests.is_some_and(|kind| kind == "attestation-manifest")
}

/// Registries and tools fill an image's `artifactType` with its config's media type.
fn is_config_type(artifact_type: &str) -> bool {
    artifact_type.parse::<MediaType>().is_ok_and(|media_type| media_type.is_config())
}
