//! What a server must have: everything that it acknowledged to one client, which does one thing at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crash::content::{Blob, Manifest};

/// How much of what was deleted is remembered, to see that it does not come back.
const GONE: usize = 12;

/// A place in the registry: a repository, and a digest or a tag of it.
pub(super) type Place = (String, String);

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub(super) repository: String,
    pub(super) location: String,
    /// What it will be.
    pub(super) blob: Blob,
    /// So many bytes were acknowledged.
    pub(super) acknowledged: usize,
    /// So many may have arrived.
    pub(super) sent: usize,
    /// Since when at most a server that was killed in the middle of writing to it is taken for alive still.
    pub(super) held: Option<Instant>,
}

/// One change of what a server has.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Blob(Place, Option<Blob>),
    Manifest(Place, Option<Arc<Manifest>>),
    Tag(Place, Option<String>),
    /// An upload ends.
    Ended(u64),
}

/// What a server must have.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) blobs: BTreeMap<Place, Blob>,
    pub(super) manifests: BTreeMap<Place, Arc<Manifest>>,
    /// The digests that tags name.
    pub(super) tags: BTreeMap<Place, String>,
    /// Uploads that are open, by numbers of ours.
    pub(super) uploads: BTreeMap<u64, Upload>,
    /// Locations of uploads that have ended.
    pub(super) ended: VecDeque<String>,
    pub(super) gone_blobs: VecDeque<Place>,
    pub(super) gone_manifests: VecDeque<Place>,
    /// How long what nothing references stays, if the server collects garbage.
    pub(super) grace: Option<Duration>,
    /// When blobs were last pushed, or lost a reference: not before this.
    touched: BTreeMap<Place, Instant>,
}

/// The server counts in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

impl Model {
    /// Makes changes that were asked for at a time.
    pub(super) fn apply(&mut self, changes: &[Change], at: Instant) {
        for change in changes {
            self.touch(change, at);
            match change {
                Change::Blob(place, blob) => {
                    set(&mut self.blobs, &mut self.gone_blobs, place, blob.as_ref());
                }
                Change::Manifest(place, manifest) => {
                    set(&mut self.manifests, &mut self.gone_manifests, place, manifest.as_ref());
                }
                Change::Tag(place, Some(digest)) => {
                    self.tags.insert(place.clone(), digest.clone());
                }
                Change::Tag(place, None) => {
                    self.tags.remove(place);
                }
                Change::Ended(number) => {
                    let ended = self.uploads.remove(number);
                    self.ended.extend(ended.map(|upload| upload.location));
                    shorten(&mut self.ended);
                }
            }
        }
    }

    /// The same after some changes.
    pub(super) fn after(&self, changes: &[Change], at: Instant) -> Self {
        let mut after = self.clone();
        after.apply(changes, at);
        after
    }

    fn touch(&mut self, change: &Change, at: Instant) {
        match change {
            Change::Blob(place, Some(_)) => {
                self.touched.insert(place.clone(), at);
            }
            Change::Blob(place, None) => {
                self.touched.remove(place);
            }
            Change::Manifest(place, None) => {
                let Some(manifest) = self.manifests.get(place) else { return };
                let blobs = manifest.blobs.iter().map(|blob| (place.0.clone(), blob.clone()));
                self.touched.extend(blobs.map(|place| (place, at)));
            }
            _ => {}
        }
    }

    /// Whether a blob must be there now, and cannot have been collected.
    pub(super) fn is_certain(&self, place: &Place) -> bool {
        let Some(grace) = self.grace else { return true };
        let young = |at: &Instant| at.elapsed() + SECOND < grace;
        self.touched.get(place).is_none_or(young) || self.is_referenced(&place.0, &place.1)
    }

    /// What the deletion of a manifest changes: its tags go with it.
    pub(super) fn without_manifest(&self, repository: &str, digest: &str) -> Vec<Change> {
        let place = (repository.to_owned(), digest.to_owned());
        let tags = self.tags.iter().filter(|((of, _), named)| of == repository && *named == digest);
        let mut changes: Vec<_> = tags.map(|(place, _)| Change::Tag(place.clone(), None)).collect();
        changes.push(Change::Manifest(place, None));
        changes
    }

    /// Whether a manifest of the repository references the blob.
    pub(super) fn is_referenced(&self, repository: &str, digest: &str) -> bool {
        self.manifests_of(repository).any(|manifest| manifest.blobs.iter().any(|b| b == digest))
    }

    pub(super) fn blobs_of(&self, repository: &str) -> impl Iterator<Item = &Blob> {
        self.blobs.iter().filter(move |((of, _), _)| of == repository).map(|(_, blob)| blob)
    }

    pub(super) fn manifests_of(&self, repository: &str) -> impl Iterator<Item = &Arc<Manifest>> {
        self.manifests.iter().filter(move |((of, _), _)| of == repository).map(|(_, found)| found)
    }

    pub(super) fn tags_of(&self, repository: &str) -> impl Iterator<Item = (&str, &str)> {
        let tags = self.tags.iter().filter(move |((of, _), _)| of == repository);
        tags.map(|((_, tag), digest)| (tag.as_str(), digest.as_str()))
    }

    /// Those that must have content still.
    pub(super) fn lasting(&self) -> impl Iterator<Item = &str> {
        let blobs = self.blobs.keys().filter(|place| self.is_certain(place));
        blobs.chain(self.manifests.keys()).map(|(repository, _)| repository.as_str())
    }

    /// The repositories that have content.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &str> {
        self.blobs.keys().chain(self.manifests.keys()).map(|(repository, _)| repository.as_str())
    }
}

fn set<T: Clone>(
    map: &mut BTreeMap<Place, T>,
    gone: &mut VecDeque<Place>,
    place: &Place,
    value: Option<&T>,
) {
    gone.retain(|gone| gone != place);
    match value {
        Some(value) => {
            map.insert(place.clone(), value.clone());
        }
        None if map.remove(place).is_some() => {
            gone.push_back(place.clone());
            shorten(gone);
        }
        None => {}
    }
}

fn shorten<T>(gone: &mut VecDeque<T>) {
    while gone.len() > GONE {
        gone.pop_front();
    }
}
