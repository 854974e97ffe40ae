//! Changing the list of a subject's referrers, for registries without the referrers API
//! (distribution-spec, "Pushing Manifests with Subject").
//!
//! Anything else than such a list is never written over or deleted. Not all registries heed
//! conditions, so what was written is looked at twice: others who had read the list before may
//! write theirs over it in the time that it takes them.

use std::time::Duration;

use oci_ref::{ErrorKind, Manifest};
use oci_spec_types::{Digest, ErrorCode, ImageIndex, MediaType, Tag};
use tokio::time::Instant;

use super::Repository;
use super::index_updates::{Change, apply};
use super::manifests::{Condition, absent};
use super::referrers_list::Tagged;
use crate::retry::random_fraction;
use crate::{Error, ReferrersChange, ReferrersFailure, ReferrersStep};

/// The number of times that a change is made anew because somebody else changed the list meanwhile.
const MAX_CONFLICTS: u32 = 10;

/// The shortest time between the two looks at what was written.
const MIN_WAIT: Duration = Duration::from_millis(50);

/// The longest.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// A step that failed.
type Failed = (ReferrersStep, Error);

impl Change {
    /// The failure of this change.
    pub(super) fn failure(&self, step: ReferrersStep, subject: &Digest) -> ReferrersFailure {
        let change = match self {
            Self::Add(_) => ReferrersChange::Add,
            Self::Remove(_) => ReferrersChange::Remove,
        };
        let referrer = self.referrer().clone();
        ReferrersFailure { change, step, subject: subject.clone(), referrer }
    }
}

impl Repository {
    /// Changes the list of a subject's referrers. Changes asked for while another is written go
    /// together into the next. They are in the list when this returns, unless somebody took them
    /// out again.
    pub(super) async fn change_referrers_index(
        &self,
        subject: &Digest,
        change: Change,
    ) -> crate::Result<()> {
        let queue = self.client().index_updates().queue(&self.list_key(subject));
        let place = queue.push(change.clone());
        let _writing = queue.writing.lock().await;
        let Some(taken) = place.take() else { return Ok(()) };
        match self.write_changes(subject, &taken.changes(), &change).await {
            Ok(Written::All) => taken.written(),
            Ok(Written::Needless) => {}
            Err((step, error)) => return Err(error.unlisted(change.failure(step, subject))),
        }
        Ok(())
    }

    async fn write_changes(
        &self,
        subject: &Digest,
        changes: &[Change],
        own: &Change,
    ) -> Result<Written, Failed> {
        let reading =
            |error: Error| (ReferrersStep::Read, error.and("reading the list of referrers"));
        let writing =
            |error: Error| (ReferrersStep::Write, error.and("writing the list of referrers"));
        for _ in 0..MAX_CONFLICTS {
            let began = Instant::now();
            let (old, condition) = match self.read_tagged(subject).await.map_err(reading)? {
                Tagged::Nothing => (None, Some(absent())),
                Tagged::List(list, version) => (Some(list), version.unchanged()),
                Tagged::Other(other, what) => {
                    // What something else does not have need not be taken off it.
                    let has =
                        |entry: &Digest| other.manifests().iter().any(|it| it.digest == *entry);
                    return match own {
                        Change::Remove(digest) if !has(digest) => Ok(Written::Needless),
                        _ => Err((ReferrersStep::Read, self.not_a_list(subject, &what))),
                    };
                }
            };
            let old_index = old.as_ref().and_then(Manifest::index).cloned();
            let mut index = old_index.unwrap_or_else(|| ImageIndex::new(Vec::new()));
            if !apply(&mut index.manifests, changes) {
                return Ok(Written::All);
            }
            match self.replace_list(subject, old.as_ref(), condition, &index).await {
                Ok(()) if self.is_kept(subject, changes, began.elapsed()).await? => {
                    self.delete_replaced(old.filter(|_| !index.manifests.is_empty())).await;
                    return Ok(Written::All);
                }
                Ok(()) => {}
                Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {}
                Err(error) => return Err(writing(error)),
            }
            // Several who met each other do not meet again.
            tokio::time::sleep(wait_after(began.elapsed()).mul_f64(random_fraction())).await;
        }
        let reason =
            format!("the list of referrers was changed by others {MAX_CONFLICTS} times in a row");
        let about = format!("tag {} of {self}", Tag::of_referrers(subject));
        Err((ReferrersStep::Write, Error::new(ErrorKind::Unlisted, about, reason)))
    }

    /// Puts a list in the place of another. An empty one is not written, unless old ones are kept:
    /// the other is deleted.
    async fn replace_list(
        &self,
        subject: &Digest,
        old: Option<&Manifest>,
        condition: Option<Condition>,
        index: &ImageIndex,
    ) -> crate::Result<()> {
        let keep_old = self.client().config().keep_old_referrers_index;
        if let (true, Some(old), false) = (index.manifests.is_empty(), old, keep_old) {
            return match self.remove_manifest_only(old.digest()).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(index).map_err(|error| {
            Error::new(ErrorKind::Internal, "list of referrers", error.to_string())
                .with_source(error)
        })?;
        let manifest = Manifest::parse(bytes.into(), Some(&MediaType::OCI_IMAGE_INDEX), None)
            .map_err(|error| {
                Error::new(ErrorCode::ManifestInvalid, "list of referrers", error.to_string())
                    .with_source(error)
            })?;
        let tag = Tag::of_referrers(subject);
        self.put_manifest_as(&manifest, tag.as_str(), &[], condition).await?;
        self.client().index_updates().remember(&self.list_key(subject), manifest.digest());
        Ok(())
    }

    /// Says whether changes are in what the tag names after they were written: at once, and when
    /// others have had the time to write over it. It took `took` to read the list and to write it.
    async fn is_kept(
        &self,
        subject: &Digest,
        changes: &[Change],
        took: Duration,
    ) -> Result<bool, Failed> {
        for wait in [Duration::ZERO, wait_after(took)] {
            tokio::time::sleep(wait).await;
            let looking = |error: Error| {
                (ReferrersStep::Write, error.and("reading the list of referrers that was written"))
            };
            let tagged = self.read_tagged(subject).await.map_err(looking)?;
            if let Tagged::Other(_, what) = tagged {
                return Err((ReferrersStep::Write, self.not_a_list(subject, &what)));
            }
            if apply(&mut tagged.entries(), changes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deletes a list that another has replaced. All empty lists are one manifest, which may have
    /// the tags of others.
    async fn delete_replaced(&self, old: Option<Manifest>) {
        let keep_old = self.client().config().keep_old_referrers_index;
        if let Some(old) = old.filter(|old| !keep_old && !old.manifests().is_empty()) {
            // Many registries do not let clients delete; then the old one stays, without a tag.
            let _ = self.remove_manifest_only(old.digest()).await;
        }
    }

    fn not_a_list(&self, subject: &Digest, what: &str) -> Error {
        let about = format!("tag {} of {self}", Tag::of_referrers(subject));
        let reason = format!(
            "it names {what}; expected the list of the referrers of {subject}, so it is left alone"
        );
        Error::new(ErrorKind::Unlisted, about, reason)
    }
}

/// The outcome of an attempt to write changes.
enum Written {
    /// All of them are in the list.
    All,
    /// There was nothing to do for the own change; the others are not made.
    Needless,
}

/// The time that others may need for what took so long here.
fn wait_after(took: Duration) -> Duration {
    took.saturating_mul(2).clamp(MIN_WAIT, MAX_WAIT)
}
