//! Manifests: their bytes are theirs, and what they reference is recorded.

use std::collections::BTreeSet;

use oci_ref::{Form, Manifest, ManifestError, Result};

use super::misfits::MARKED;
use super::{Check, FsckStage};
use crate::blocking;
use crate::metadata::{Recorded, StoredManifest};

/// How many are listed at a time.
const PAGE: usize = 200;

/// The most bytes that are parsed at a time, if it is more than one manifest.
const PART: usize = 64 << 10;

/// The outcome of reading the bytes of one: how what is recorded differs from them, with what they
/// say.
type Found = std::result::Result<Option<(String, Manifest)>, ManifestError>;

impl Check<'_> {
    pub(super) async fn manifests(&mut self, mut after: i64) -> Result<()> {
        let (_, last) = self.engine.metadata.last_ids().await?;
        loop {
            let page = self.engine.metadata.stored_manifests(after, PAGE).await?;
            let Some(end) = page.last().map(|manifest| manifest.id) else { return Ok(()) };
            let mut page = page.into_iter().peekable();
            while page.peek().is_some() {
                let mut bytes = 0;
                let part = std::iter::from_fn(|| {
                    let next =
                        page.next_if(|next| bytes == 0 || bytes + next.bytes.len() <= PART)?;
                    bytes += next.bytes.len().max(1);
                    Some(next)
                });
                let part: Vec<_> = part.collect();
                let found =
                    blocking::run(move || Ok(part.into_iter().map(find).collect::<Vec<_>>()));
                for (stored, found) in found.await? {
                    self.manifest(stored, found).await?;
                }
            }
            after = end;
            self.progress(FsckStage::Manifests, after as f64 / last.max(1) as f64);
            self.keep(FsckStage::Manifests, &after.into()).await?;
        }
    }

    /// All of one come from one state of the database, and bytes never change, so there is no need to look again.
    async fn manifest(&mut self, stored: StoredManifest, found: Found) -> Result<()> {
        let length = stored.bytes.len() as u64;
        self.pace.count(length).await;
        self.report.manifests += 1;
        self.report.bytes += length;
        if !stored.forgotten && matches!(found, Ok(None)) {
            return Ok(());
        }
        let shown =
            format!("manifest {} of repository {}", stored.descriptor.digest, stored.repository);
        let difference = match found {
            Ok(difference) => difference,
            // Its bytes are as they were pushed.
            Err(error) if !is_damage(&error) => {
                self.problem(format!("{shown} cannot be understood: {error}"), None);
                return Ok(());
            }
            Err(error) if stored.tags.is_empty() => {
                let what = format!("{shown}, which has no tag, is damaged: {error}");
                let remedy = "it is deleted, so that the next push of it brings it back";
                if self.problem(what, Some(remedy.into()))
                    && self.engine.metadata.discard_manifest(stored.id, self.engine.now()).await?
                {
                    self.mended();
                }
                return Ok(());
            }
            Err(error) => {
                let tags: Vec<&str> = stored.tags.iter().map(|tag| tag.as_str()).collect();
                let what = format!(
                    "{shown} is damaged: {error}; it has the tags {}, which are kept: push it again, or delete it",
                    tags.join(", ")
                );
                self.problem(what, None);
                return Ok(());
            }
        };
        if let Some((difference, manifest)) = difference {
            let what =
                format!("the references of {shown} are not recorded as they are: {difference}");
            let remedy = "they are recorded anew from its bytes";
            if self.problem(what, Some(remedy.into()))
                && self
                    .engine
                    .metadata
                    .repair_references(stored.id, &manifest, self.engine.now())
                    .await?
            {
                self.mended();
            }
        }
        if stored.forgotten {
            let what = format!("{shown} is held by nothing, and no collection would come upon it");
            if self.problem(what, Some(MARKED.into()))
                && self.engine.metadata.mark_manifest(stored.id, self.engine.now()).await?
            {
                self.mended();
            }
        }
        Ok(())
    }
}

fn find(stored: StoredManifest) -> (StoredManifest, Found) {
    let parsed = Manifest::verify(&stored.descriptor, stored.bytes.clone());
    let found = parsed.map(|manifest| Some((difference(&manifest, &stored)?, manifest)));
    (stored, found)
}

/// Tells that bytes are not those that they should be.
fn is_damage(error: &ManifestError) -> bool {
    matches!(error, ManifestError::Digest(_) | ManifestError::Size { .. })
}

/// How what is recorded differs from what a manifest says.
fn difference(manifest: &Manifest, stored: &StoredManifest) -> Option<String> {
    let expected = expected(manifest);
    let recorded = &stored.recorded;
    if let Some(digest) = recorded.misplaced.first() {
        return Some(format!("blob {digest} is recorded as missing, and is there"));
    }
    // What is listed is recorded as a blob, too, where it is one.
    let blobs: BTreeSet<String> = recorded.blobs.difference(&expected.children).cloned().collect();
    let expected_blobs = expected.blobs.difference(&expected.children).cloned().collect();
    if let Some(difference) = sets("blob", &expected_blobs, &blobs)
        .or_else(|| sets("entry", &expected.children, &recorded.children))
    {
        return Some(difference);
    }
    if let Some(digest) = recorded.unheld.first() {
        return Some(format!("blob {digest} is listed, and is not recorded as a blob"));
    }
    if expected.referrer != recorded.referrer {
        let subject = |recorded: &Recorded| {
            recorded.referrer.as_ref().map_or("none".to_owned(), |(subject, _)| subject.clone())
        };
        return Some(format!(
            "subject {}, recorded as {}, or with other annotations",
            subject(&expected),
            subject(recorded)
        ));
    }
    let [expected, recorded] = [manifest.descriptor(), &stored.descriptor]
        .map(|descriptor| descriptor.artifact_type.as_deref().unwrap_or("none"));
    (expected != recorded).then(|| format!("artifact type {expected}, recorded as {recorded}"))
}

fn expected(manifest: &Manifest) -> Recorded {
    let referrer = manifest.subject().zip(manifest.as_referrer());
    let of = |form| {
        let digests = manifest.references().filter(move |referenced| referenced.form == form);
        digests.map(|referenced| referenced.digest.to_string()).collect()
    };
    Recorded {
        blobs: of(Form::Blob),
        children: of(Form::Either),
        misplaced: BTreeSet::new(),
        unheld: BTreeSet::new(),
        referrer: referrer.map(|(subject, referrer)| (subject.digest.to_string(), referrer)),
    }
}

fn sets(kind: &str, expected: &BTreeSet<String>, recorded: &BTreeSet<String>) -> Option<String> {
    if let Some(digest) = expected.difference(recorded).next() {
        return Some(format!("{kind} {digest} is referenced, and not recorded"));
    }
    let digest = recorded.difference(expected).next()?;
    Some(format!("{kind} {digest} is recorded, and not referenced"))
}
