//! Changing the index that lists a subject's referrers, for registries without the referrers API, without losing
//! changes (distribution-spec, "Pushing Manifests with Subject").

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci_ref::{Manifest, Target};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageIndex, MediaType, Tag};

use super::Repository;
use super::manifests::{Condition, absent};
use crate::{Error, Result};

/// How often a change is made anew because somebody else changed the index meanwhile.
const MAX_CONFLICTS: usize = 5;

/// A change of an index of referrers.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add(Box<Descriptor>),
    Remove(Digest),
}

/// The changes that this client is about to make, by the tag of the index.
#[derive(Default)]
pub(crate) struct IndexUpdates(Mutex<HashMap<String, Arc<Queue>>>);

/// Changes that wait for the one that is under way; all of them are then made by one write.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Vec<(u64, Change)>>,
    /// Held by who writes; counts the changes, so that each has a number.
    writing: tokio::sync::Mutex<()>,
    count: std::sync::atomic::AtomicU64,
}

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Change)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IndexUpdates {
    fn queue(&self, key: &str) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        queues.entry(key.to_owned()).or_default().clone()
    }
}

impl Repository {
    /// Changes the index of a subject's referrers. Changes asked for while another is written go together into the next.
    pub(super) async fn change_referrers_index(
        &self,
        subject: &Digest,
        change: Change,
    ) -> Result<()> {
        let tag = Tag::of_referrers(subject);
        let queue = self.registry().client().index_updates().queue(&format!("{self}:{tag}"));
        let number = queue.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        queue.waiting().push((number, change));
        let _writing = queue.writing.lock().await;
        let changes = std::mem::take(&mut *queue.waiting());
        if !changes.iter().any(|(found, _)| *found == number) {
            // Who wrote before has written this as well.
            return Ok(());
        }
        let written = self.write_referrers_index(subject, &changes).await;
        if written.is_err() {
            // The others try for themselves.
            let others = changes.into_iter().filter(|(found, _)| *found != number);
            queue.waiting().extend(others);
        }
        written
    }

    async fn write_referrers_index(
        &self,
        subject: &Digest,
        changes: &[(u64, Change)],
    ) -> Result<()> {
        let target = Target::Tag(Tag::of_referrers(subject));
        for _ in 0..MAX_CONFLICTS {
            let limit = self.client().config().metadata_limit;
            let (old, condition) = match self.read_manifest_within(&target, limit).await {
                Ok((manifest, version)) => (Some(manifest), version.unchanged()),
                Err(error) if error.is_not_found() => (None, Some(absent())),
                Err(error) => return Err(error.and("reading the index of referrers")),
            };
            let mut index = match old.as_ref().map(|old| (old.index(), old)) {
                None => ImageIndex::new(Vec::new()),
                Some((Some(index), _)) => index.clone(),
                Some((None, other)) => {
                    return Err(Error::new(
                        ErrorCode::ManifestInvalid,
                        format!("tag {target} of {self}"),
                        format!(
                            "it names a {}, expected the index of the referrers of {subject}",
                            other.media_type()
                        ),
                    ));
                }
            };
            if !apply(&mut index.manifests, changes) {
                return Ok(());
            }
            match self.replace_referrers_index(&target, old.as_ref(), condition, &index).await {
                Err(error) if *error.kind() == oci_ref::ErrorKind::PreconditionFailed => {}
                Err(error) => return Err(error.and("writing the index of referrers")),
                Ok(false) => {}
                Ok(true) => return Ok(()),
            }
        }
        Err(Error::new(
            oci_ref::ErrorKind::PreconditionFailed,
            format!("tag {target} of {self}"),
            format!("the index of referrers was changed by others {MAX_CONFLICTS} times in a row"),
        ))
    }

    /// Puts an index in the place of another, and looks whether it is there. An empty one is not written, unless old ones
    /// are kept; what it replaces is deleted.
    async fn replace_referrers_index(
        &self,
        target: &Target,
        old: Option<&Manifest>,
        condition: Option<Condition>,
        index: &ImageIndex,
    ) -> Result<bool> {
        let keep_old = self.registry().client().config().keep_old_referrers_index;
        if let (true, Some(old), false) = (index.manifests.is_empty(), old, keep_old) {
            return match self.remove_manifest_only(old.digest()).await {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(true),
            };
        }
        let bytes = serde_json::to_vec(index).map_err(|error| {
            Error::new(oci_ref::ErrorKind::Internal, "index of referrers", error.to_string())
                .with_source(error)
        })?;
        let manifest = Manifest::parse(bytes.into(), Some(&MediaType::OCI_IMAGE_INDEX), None)
            .map_err(|error| {
                Error::new(ErrorCode::ManifestInvalid, "index of referrers", error.to_string())
                    .with_source(error)
            })?;
        self.put_manifest_as(&manifest, &target.to_string(), &[], condition).await?;
        let found = self.read_manifest(target).await?;
        if found.digest() != manifest.digest() {
            return Ok(false);
        }
        if let Some(old) = old.filter(|old| !keep_old && old.digest() != manifest.digest()) {
            // Many registries do not let clients delete; then the old one stays, without a tag.
            let _ = self.remove_manifest_only(old.digest()).await;
        }
        Ok(true)
    }
}

/// Makes changes in order, and says whether there was anything to change.
fn apply(listed: &mut Vec<Descriptor>, changes: &[(u64, Change)]) -> bool {
    let before = listed.clone();
    for (_, change) in changes {
        match change {
            Change::Add(entry) => {
                match listed.iter_mut().find(|found| found.digest == entry.digest) {
                    Some(found) => *found = (**entry).clone(),
                    None => listed.push((**entry).clone()),
                }
            }
            Change::Remove(digest) => listed.retain(|found| found.digest != *digest),
        }
    }
    *listed != before
}
