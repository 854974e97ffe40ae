//! The manifest under the tag of a subject, where a registry has no referrers API: the list of its
//! referrers, or something else that has the same tag, which is neither read as a list nor changed
//! (distribution-spec, "Referrers Tag Schema").

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_ref::{Document, ErrorKind, Manifest, Target};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Tag};

use super::Repository;
use super::manifests::Version;
use crate::Result;

/// The most entries of a list that are read to see whether they refer to the subject. What is
/// beyond has to look so.
const MAX_READ: usize = 100;

/// The number of entries that are read at a time, each of at most as many bytes as a list may have.
const READS: usize = 8;

/// The thing that the tag of a subject names.
pub(super) enum Tagged {
    Nothing,
    List(Manifest, Version),
    /// Something else, and what that is.
    Other(Manifest, String),
}

impl Tagged {
    /// The entries of the list.
    pub(super) fn entries(&self) -> Vec<Descriptor> {
        match self {
            Self::List(list, _) => list.manifests().to_vec(),
            Self::Nothing | Self::Other(..) => Vec::new(),
        }
    }
}

impl Repository {
    /// The name by which this client knows the list of a subject's referrers.
    pub(super) fn list_key(&self, subject: &Digest) -> String {
        format!("{self}:{}", Tag::of_referrers(subject))
    }

    /// Reads what the tag of a subject names, to change it. It is a list if it has the form of one
    /// and its entries are referrers of the subject; a list that was looked at or written here
    /// before is not looked at again.
    pub(super) async fn read_tagged(&self, subject: &Digest) -> Result<Tagged> {
        let tagged = self.read_likely_list(subject).await?;
        let Tagged::List(list, version) = tagged else { return Ok(tagged) };
        let (updates, key) = (self.client().index_updates(), self.list_key(subject));
        if !updates.is_known(&key, list.digest()) {
            if let Some(stranger) = self.find_stranger(subject, list.manifests()).await? {
                let what =
                    format!("the index {} of {stranger}, which is no referrer", list.digest());
                return Ok(Tagged::Other(list, what));
            }
            updates.remember(&key, list.digest());
        }
        Ok(Tagged::List(list, version))
    }

    /// The referrers in the list under the tag of a subject, to be read. What looks like something
    /// else is looked at by `refers` before it is believed.
    pub(super) async fn read_likely_list(&self, subject: &Digest) -> Result<Tagged> {
        let target = Target::Tag(Tag::of_referrers(subject));
        let limit = self.client().config().metadata_limit;
        let (manifest, version) = match self.read_manifest_within(&target, limit).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(Tagged::Nothing),
            Err(error) => return Err(error),
        };
        Ok(match manifest.as_referrers_list(subject) {
            Ok(_) => Tagged::List(manifest, version),
            Err(what) => Tagged::Other(manifest, what),
        })
    }

    /// The entries that refer to a subject. Those that do not look so are read; too many of them
    /// are none.
    pub(super) async fn keep_referrers(
        &self,
        subject: &Digest,
        entries: Vec<Descriptor>,
    ) -> Result<Vec<Descriptor>> {
        let doubtful = entries.iter().filter(|entry| !Manifest::is_like_referrer(entry)).count();
        let read = doubtful <= MAX_READ;
        let kept = stream::iter(entries).map(|entry| {
            let (repository, subject) = (self.clone(), subject.clone());
            async move {
                let refers = Manifest::is_like_referrer(&entry)
                    || read && repository.refers(&entry, &subject).await?;
                Ok(refers.then_some(entry))
            }
        });
        kept.buffered(READS).try_filter_map(|entry| async move { Ok(entry) }).try_collect().await
    }

    /// An entry that does not refer to the subject, if one is found: those that do not look so are
    /// all read, and others as far as [`MAX_READ`] goes.
    async fn find_stranger(
        &self,
        subject: &Digest,
        entries: &[Descriptor],
    ) -> Result<Option<Digest>> {
        let (likely, doubtful): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(Manifest::is_like_referrer);
        if let Some(unread) = doubtful.get(MAX_READ) {
            return Ok(Some(unread.digest.clone()));
        }
        let strangers =
            stream::iter(doubtful.into_iter().chain(likely).take(MAX_READ)).map(|entry| {
                let (repository, subject) = (self.clone(), subject.clone());
                async move {
                    let refers = repository.refers(&entry, &subject).await?;
                    Ok((!refers).then_some(entry.digest))
                }
            });
        let mut strangers = strangers.buffer_unordered(READS);
        while let Some(found) = strangers.try_next().await? {
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Says whether an entry's manifest names the subject. One that is gone, that is too large to
    /// be looked at or that is of an unknown type is what it looks like.
    async fn refers(&self, entry: &Descriptor, subject: &Digest) -> Result<bool> {
        let target = Target::Digest(entry.digest.clone());
        let limit = self.client().config().metadata_limit;
        match self.read_manifest_within(&target, limit).await {
            Ok((found, _)) if matches!(found.document(), Document::Other(_)) => {
                Ok(Manifest::is_like_referrer(entry))
            }
            Ok((found, _)) => Ok(found.subject().is_some_and(|about| about.digest == *subject)),
            Err(error) => match error.kind() {
                _ if error.is_not_found() => Ok(Manifest::is_like_referrer(entry)),
                ErrorKind::TooLarge { .. } => Ok(Manifest::is_like_referrer(entry)),
                ErrorKind::Code(ErrorCode::ManifestInvalid) => Ok(false),
                _ => Err(error),
            },
        }
    }
}
