//! Choosing an image from an index, and from the indexes in it.

use std::collections::{HashSet, VecDeque};

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Digest, Platform};

use super::choice::{Candidate, Choice, NoMatch, Verdict, choose};
use super::fit::{Fit, Score, Wanted, stated};
use crate::{Error, ErrorKind, Image, Index, Manifest, Ref, RefPath, Result, WalkOptions};

/// The image of an index that fits a platform best, and why.
#[derive(Clone, Debug)]
pub struct ChosenImage {
    /// The image, read and verified.
    pub image: Image,
    /// The entry by which it is listed.
    pub descriptor: Descriptor,
    /// Where it is listed.
    pub path: RefPath,
    /// All entries that were looked at.
    pub candidates: Vec<Candidate>,
}

impl Index {
    /// The entry that fits a platform best. Nothing is read: entries that are indexes are taken if they state a
    /// platform that fits, and are passed over otherwise. [`choose_image`] looks into them.
    pub fn choose(&self, wanted: &Platform) -> Result<Choice, NoMatch> {
        choose(self.manifests(), wanted)
    }
}

/// Chooses the image of an index that fits a platform best, and reads it.
///
/// Indexes in the index are looked into, unless they state a platform that does not fit; what they list without a
/// platform is for theirs. Looking ends early at an exact match. An entry without a platform is taken only if it turns
/// out to be an image.
///
/// # Errors
/// `MANIFEST_UNKNOWN` if nothing fits, with a [`NoMatch`] as its cause. `TooLarge` if indexes are nested deeper than
/// `bounds.max_depth`, or have more than `bounds.max_manifests` entries in all. Errors of reading; with
/// `bounds.sparse` an index that is not there is passed over.
pub async fn choose_image(
    index: &Index,
    wanted: &Platform,
    bounds: &WalkOptions,
) -> Result<ChosenImage> {
    choose_image_admitted(index, wanted, bounds, &Open).await
}

/// Decides on each manifest that is read, before anything that it references is.
#[async_trait]
pub(crate) trait Gate: Send + Sync {
    async fn admit(&self, manifest: &Manifest, entry: &Descriptor) -> Result<()>;
}

/// Admits everything.
struct Open;

#[async_trait]
impl Gate for Open {
    async fn admit(&self, _manifest: &Manifest, _entry: &Descriptor) -> Result<()> {
        Ok(())
    }
}

/// Does what [`choose_image`] does, if all that is read of it is admitted.
pub(crate) async fn choose_image_admitted(
    index: &Index,
    wanted: &Platform,
    bounds: &WalkOptions,
    gate: &dyn Gate,
) -> Result<ChosenImage> {
    let mut search = Search {
        gate,
        wanted: Wanted::new(wanted),
        bounds,
        seen: HashSet::from([index.manifest().digest().clone()]),
        nested: VecDeque::new(),
        candidates: Vec::new(),
        fits: Vec::new(),
        exact: false,
    };
    search.look_at(index, &RefPath::default(), None)?;
    while !search.exact
        && let Some(nested) = search.nested.pop_front()
    {
        search.look_into(index, nested).await?;
    }
    search.fits.sort_unstable();
    for (score, position) in std::mem::take(&mut search.fits) {
        let candidate = &mut search.candidates[position];
        let found = index.read(&candidate.descriptor).await.map_err(|error| {
            error.context(format!("reading {} at {}", candidate.descriptor.digest, candidate.path))
        })?;
        gate.admit(found.manifest(), &candidate.descriptor).await?;
        // The descriptor's type is an image type, and has been compared.
        let Ref::Image(image) = found else { continue };
        if score.fit() == Fit::Unstated && !image.config_descriptor().media_type.is_config() {
            let document = image.document();
            let kind = document.artifact_type.clone();
            candidate.verdict =
                Verdict::Artifact(kind.unwrap_or_else(|| document.config.media_type.to_string()));
            continue;
        }
        candidate.verdict = Verdict::Chosen(score.fit());
        return Ok(ChosenImage {
            image,
            descriptor: candidate.descriptor.clone(),
            path: candidate.path.clone(),
            candidates: search.candidates,
        });
    }
    Err(NoMatch { wanted: Box::new(wanted.clone()), candidates: search.candidates }.into())
}

struct Search<'a> {
    gate: &'a dyn Gate,
    wanted: Wanted,
    bounds: &'a WalkOptions,
    seen: HashSet<Digest>,
    /// Candidates that are indexes to look into, and the platform of what they list.
    nested: VecDeque<(usize, Option<Platform>)>,
    candidates: Vec<Candidate>,
    /// Candidates that are images and fit.
    fits: Vec<(Score, usize)>,
    /// Whether one of them is an exact match.
    exact: bool,
}

impl Search<'_> {
    /// Looks at the entries of one index.
    fn look_at(
        &mut self,
        index: &Index,
        path: &RefPath,
        inherited: Option<&Platform>,
    ) -> Result<()> {
        let entries = index.manifests();
        if entries.len() > self.bounds.max_manifests.saturating_sub(self.candidates.len()) {
            return Err(self.too_much(path, "more manifests", self.bounds.max_manifests));
        }
        for (position, entry) in entries.iter().enumerate() {
            let at = self.candidates.len();
            let verdict = match self.wanted.score(entry, inherited) {
                Ok(score) if !entry.media_type.is_index() => {
                    self.fits.push((score, at));
                    self.exact |= score.fit() == Fit::Exact;
                    Verdict::Behind(score.fit())
                }
                Ok(_) | Err(Verdict::NestedIndex) => {
                    if self.seen.insert(entry.digest.clone()) {
                        self.nested.push_back((at, stated(entry).or(inherited).cloned()));
                    }
                    Verdict::NestedIndex
                }
                Err(verdict) => verdict,
            };
            let path = path.child(position);
            self.candidates.push(Candidate { path, descriptor: entry.clone(), verdict });
        }
        Ok(())
    }

    async fn look_into(
        &mut self,
        root: &Index,
        (at, platform): (usize, Option<Platform>),
    ) -> Result<()> {
        let candidate = &mut self.candidates[at];
        let path = candidate.path.clone();
        if path.positions().len() > self.bounds.max_depth {
            return Err(self.too_much(&path, "nested deeper", self.bounds.max_depth));
        }
        let nested = match root.read(&candidate.descriptor).await {
            Ok(nested) => nested,
            Err(error) if self.bounds.sparse && error.is_not_found() => {
                candidate.verdict = Verdict::Missing;
                return Ok(());
            }
            Err(error) => {
                let what = format!("reading {} at {path}", candidate.descriptor.digest);
                return Err(error.context(what));
            }
        };
        self.gate.admit(nested.manifest(), &candidate.descriptor).await?;
        candidate.verdict = Verdict::LookedInto;
        self.look_at(nested.as_index()?, &path, platform.as_ref())
    }

    fn too_much(&self, path: &RefPath, what: &str, limit: usize) -> Error {
        Error::new(
            ErrorKind::TooLarge { limit: limit as u64 },
            format!("choosing an image: at {path} there are {what} than the limit of {limit}"),
        )
    }
}
