//! Failures to change the list of a manifest's referrers that clients keep, where a registry has no
//! API for it.

use oci_spec_types::Digest;

/// A change of a list of referrers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersChange {
    /// A manifest was to be listed. It is stored.
    Add,
    /// A manifest was to be listed no more. It is not deleted.
    Remove,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferrersStep {
    /// Finding out whether the registry has the referrers API.
    Detect,
    /// Reading what the tag names, which may be something else than a list of referrers.
    Read,
    /// Writing the list, or deleting it when nothing is left in it, so that it has the change
    /// afterwards.
    Write,
}

/// A change of the list of a manifest's referrers that was not made ([`Error::referrers_failure`]).
///
/// [`Error::referrers_failure`]: crate::Error::referrers_failure
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferrersFailure {
    /// The change that was to be made.
    pub change: ReferrersChange,
    /// The step that failed.
    pub step: ReferrersStep,
    /// The manifest whose referrers are listed.
    pub subject: Digest,
    /// The manifest that refers to it.
    pub referrer: Digest,
}
