//! What `index.json` lists, directly or through indexes: that is what is in a layout.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, MediaType};

use super::index::Entries;
use super::view::{Blobs, UNKNOWN_LIMIT, read_manifest};
use crate::{Error, ErrorKind, Manifest, Result};

/// The most manifests that are looked at, and of which something is remembered.
pub(super) const MAX_MANIFESTS: usize = 100_000;

/// What is to know of a manifest here.
pub(crate) struct Facts {
    /// What it lists, if it is an index.
    children: Vec<Descriptor>,
    /// Its subject, and how it is listed as a referrer of it.
    referrer: Option<(Digest, Descriptor)>,
}

/// How a manifest is listed, if it is in the layout.
pub(crate) fn find(
    blobs: &impl Blobs,
    index: &Entries,
    digest: &Digest,
) -> Result<Option<Descriptor>> {
    if let Some(entry) = index.listed(digest) {
        return Ok(Some(entry.clone()));
    }
    if blobs.blob_size(digest)?.is_none() {
        return Ok(None);
    }
    let mut found = None;
    walk(blobs, index, MediaType::is_index, |descriptor, _| {
        if descriptor.digest != *digest {
            return ControlFlow::Continue(());
        }
        found = Some(descriptor.clone());
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// The referrers of a subject, by digest.
pub(crate) fn referrers(
    blobs: &impl Blobs,
    index: &Entries,
    subject: &Digest,
) -> Result<BTreeMap<Digest, Descriptor>> {
    let mut found = BTreeMap::new();
    // Manifests of unknown types have subjects, too.
    let may_have_subject = |media_type: &MediaType| {
        !(media_type.is_layer() || media_type.is_config() || media_type.is_schema1())
    };
    walk(blobs, index, may_have_subject, |_, facts| {
        if let Some((about, descriptor)) = facts.and_then(|facts| facts.referrer.as_ref())
            && about == subject
        {
            found.insert(descriptor.digest.clone(), descriptor.clone());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Visits every manifest in the layout, with what is known of it if its type is one to look into. Manifests whose
/// files are not there (an index may be sparse) are visited too, but nothing is known of them. A broken one is an
/// error in the end, if the visits were not broken off before: it may have led to what is looked for.
pub(crate) fn walk(
    blobs: &impl Blobs,
    index: &Entries,
    look_into: impl Fn(&MediaType) -> bool,
    mut visit: impl FnMut(&Descriptor, Option<&Facts>) -> ControlFlow<()>,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut visited = 0;
    let mut outcome = Ok(());
    let mut next: Vec<Descriptor> = index.entries().iter().rev().cloned().collect();
    while let Some(descriptor) = next.pop() {
        let look_into = look_into(&descriptor.media_type);
        if look_into && !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        visited += 1;
        if visited > MAX_MANIFESTS {
            let limit = MAX_MANIFESTS as u64;
            let message = format!(
                "index.json lists more than {limit} manifests, directly or through indexes"
            );
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        let facts = match look_into {
            true => facts_of(blobs, &descriptor).unwrap_or_else(|error| {
                outcome = Err(error);
                None
            }),
            false => None,
        };
        if visit(&descriptor, facts.as_deref()).is_break() {
            return Ok(());
        }
        if let Some(facts) = facts {
            next.extend(facts.children.iter().rev().cloned());
        }
    }
    outcome
}

fn facts_of(blobs: &impl Blobs, descriptor: &Descriptor) -> Result<Option<Arc<Facts>>> {
    let remembered = || blobs.facts().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = remembered().get(&descriptor.digest).cloned();
    if let Some(known) = known {
        // Another process may have deleted it.
        return Ok(blobs.blob_size(&descriptor.digest)?.map(|_| known));
    }
    let Some(manifest) = read(blobs, descriptor)? else {
        return Ok(None);
    };
    let subject = manifest.subject().map(|subject| subject.digest.clone());
    let facts = Arc::new(Facts {
        children: manifest.manifests().to_vec(),
        referrer: subject.zip(manifest.as_referrer()),
    });
    let mut remembered = remembered();
    if remembered.len() >= MAX_MANIFESTS {
        remembered.clear();
    }
    remembered.insert(descriptor.digest.clone(), facts.clone());
    Ok(Some(facts))
}

/// Reads a manifest. What is of an unknown type may be anything else, which nothing is known of.
fn read(blobs: &impl Blobs, descriptor: &Descriptor) -> Result<Option<Manifest>> {
    if descriptor.media_type.is_manifest() {
        return read_manifest(blobs, descriptor);
    }
    match blobs.blob_size(&descriptor.digest)?.is_some_and(|size| size <= UNKNOWN_LIMIT) {
        true => Ok(read_manifest(blobs, descriptor).unwrap_or_default()),
        false => Ok(None),
    }
}
