//! Every reference to content in a layout, direct or not: what is referenced is kept, and can be checked.

use std::collections::HashSet;

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, MediaType};
use serde_json::Value;

use super::index::Entries;
use super::reach::MAX_MANIFESTS;
use super::view::{Blobs, UNKNOWN_LIMIT, read_manifest};
use crate::{Error, ErrorKind, Form, Result};

/// The most contents that are kept account of.
const MAX_CONTENTS: usize = 1_000_000;

/// A reference to content.
pub(crate) struct Reference<'a> {
    /// The manifest that references it; `None` for an entry of `index.json`.
    pub(crate) by: Option<&'a Digest>,
    /// The content.
    pub(crate) digest: &'a Digest,
    /// The size that it should have, if the reference says so.
    pub(crate) size: Option<u64>,
    /// Whether the layout is broken without it.
    pub(crate) required: bool,
}

/// Contents, of which there are not too many.
#[derive(Default)]
pub(crate) struct Contents(HashSet<Digest>);

impl Contents {
    /// Adds one. `false` if it is among them already.
    pub(crate) fn add(&mut self, digest: &Digest) -> Result<bool> {
        if self.0.contains(digest) {
            return Ok(false);
        }
        if self.0.len() >= MAX_CONTENTS {
            let limit = MAX_CONTENTS as u64;
            let message = format!("the layout references more than {limit} contents");
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        Ok(self.0.insert(digest.clone()))
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.0.contains(digest)
    }

    pub(crate) fn into_sorted(self) -> Vec<Digest> {
        let mut all: Vec<Digest> = self.0.into_iter().collect();
        all.sort_unstable();
        all
    }
}

/// All that `index.json` references, and what that references, and so on. What is not there is passed over; an error in
/// what is there is one here too.
pub(crate) fn reachable(blobs: &impl Blobs, index: &Entries) -> Result<Contents> {
    let mut contents = Contents::default();
    references(
        blobs,
        index,
        false,
        |reference| contents.add(reference.digest).map(drop),
        |_, error| Err(error),
    )?;
    Ok(contents)
}

/// Visits every reference. A manifest that cannot be read is given to `broken`; what it references is not visited.
pub(crate) fn references(
    blobs: &impl Blobs,
    index: &Entries,
    sparse: bool,
    mut visit: impl FnMut(Reference<'_>) -> Result<()>,
    mut broken: impl FnMut(&Digest, Error) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::default();
    for entry in index.entries() {
        visit(Reference::of(None, entry, true))?;
        walk.later(entry)?;
    }
    while let Some(descriptor) = walk.next.pop() {
        let by = Some(&descriptor.digest);
        let known = &descriptor.media_type;
        if !known.is_image() && !known.is_index() && !known.is_artifact() {
            for digest in named_digests(blobs, &descriptor.digest)? {
                visit(Reference { by, digest: &digest, size: None, required: false })?;
            }
            continue;
        }
        let manifest = match read_manifest(blobs, &descriptor) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => continue,
            Err(error) => {
                broken(&descriptor.digest, error)?;
                continue;
            }
        };
        for referenced in manifest.references() {
            let Some(found) = referenced.descriptor else { continue };
            let may_lack = sparse && referenced.form == Form::Either;
            let required = referenced.is_required() && found.data.is_none() && !may_lack;
            visit(Reference::of(by, found, required))?;
            if referenced.form == Form::Either {
                walk.later(found)?;
            }
        }
        if let Some(subject) = manifest.subject() {
            visit(Reference::of(by, subject, false))?;
            walk.later(subject)?;
        }
    }
    Ok(())
}

impl<'a> Reference<'a> {
    fn of(by: Option<&'a Digest>, descriptor: &'a Descriptor, required: bool) -> Self {
        Self { by, digest: &descriptor.digest, size: Some(descriptor.size), required }
    }
}

/// What has been looked into, and what is to be.
#[derive(Default)]
struct Walk {
    seen: HashSet<(Digest, MediaType)>,
    next: Vec<Descriptor>,
}

impl Walk {
    fn later(&mut self, descriptor: &Descriptor) -> Result<()> {
        if !self.seen.insert((descriptor.digest.clone(), descriptor.media_type.clone())) {
            return Ok(());
        }
        if self.seen.len() > MAX_MANIFESTS {
            let limit = MAX_MANIFESTS as u64;
            let message = format!("the layout references more than {limit} manifests");
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        let Descriptor { media_type, digest, size, .. } = descriptor;
        self.next.push(Descriptor::new(media_type.clone(), digest.clone(), *size));
        Ok(())
    }
}

/// The digests that a document of an unknown type names anywhere. None, if it is no document, or not there.
fn named_digests(blobs: &impl Blobs, digest: &Digest) -> Result<Vec<Digest>> {
    if blobs.blob_size(digest)?.is_none_or(|size| size > UNKNOWN_LIMIT) {
        return Ok(Vec::new());
    }
    let document = blobs.document(digest)?;
    let parse = |bytes: Bytes| serde_json::from_slice(&bytes).ok();
    let mut values: Vec<Value> = document.and_then(parse).into_iter().collect();
    let mut digests = Vec::new();
    while let Some(value) = values.pop() {
        match value {
            Value::String(text) => digests.extend(text.parse::<Digest>()),
            Value::Array(items) => values.extend(items),
            Value::Object(fields) => values.extend(fields.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    Ok(digests)
}
