//! References of manifests: the one place that says so, for all that keep, copy, check and
//! collect content.

use oci_spec_types::{Descriptor, Digest, ErrorCode};

use crate::{Document, Error, Manifest, Result};

/// Content that a manifest references, so that it is to be kept with it. What it is about, its
/// subject, is not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referenced<'a> {
    /// The content.
    pub digest: &'a Digest,
    /// The descriptor by which it is referenced. `None` for a digest that is only written somewhere
    /// in a manifest of an unknown type: it is kept if it is there, and nobody knows whether it
    /// should be.
    pub descriptor: Option<&'a Descriptor>,
    /// The form in which it is referenced.
    pub form: Form,
}

/// Forms in which content is referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A blob: the config or a layer of an image, a blob of an artifact.
    Blob,
    /// A manifest or a blob: an entry of an index, or whatever a manifest of an unknown type
    /// references. BuildKit's registry caches are indexes that list layers.
    Either,
}

impl<'a> Referenced<'a> {
    fn blob(descriptor: &'a Descriptor) -> Self {
        Self { digest: &descriptor.digest, descriptor: Some(descriptor), form: Form::Blob }
    }

    fn either(descriptor: &'a Descriptor) -> Self {
        Self { form: Form::Either, ..Self::blob(descriptor) }
    }

    /// Tells that it is looked for as a manifest first, since its type is that of one.
    pub fn is_manifest(&self) -> bool {
        self.form == Form::Either
            && self.descriptor.is_some_and(|descriptor| descriptor.media_type.is_manifest())
    }

    /// Tells that something is missing where it is not there: not if it may lie elsewhere, and not
    /// if only its digest is written.
    pub fn is_required(&self) -> bool {
        self.descriptor.is_some_and(|descriptor| !descriptor.may_be_elsewhere())
    }

    /// Checks that a store may take the manifest `of` that references this. `found` is the size of
    /// what the store has under the digest, as a blob or, if it may be one, as a manifest;
    /// `sparse`, whether the store takes manifests without all that they reference in this form.
    ///
    /// # Errors
    /// `MANIFEST_BLOB_UNKNOWN` if it is not there and should be, `MANIFEST_INVALID` if it has
    /// another size than the manifest says.
    pub fn check(&self, of: &Manifest, found: Option<u64>, sparse: bool) -> Result<()> {
        let what = if self.is_manifest() { "manifest" } else { "blob" };
        match (found, self.descriptor) {
            (Some(found), Some(descriptor)) if found != descriptor.size => Err(Error::new(
                ErrorCode::ManifestInvalid,
                format!(
                    "{what} {} has {found} bytes, but manifest {} says {}",
                    self.digest,
                    of.digest(),
                    descriptor.size
                ),
            )),
            (None, _) if !sparse && self.is_required() => Err(Error::new(
                ErrorCode::ManifestBlobUnknown,
                format!("{what} {} of manifest {} is not here", self.digest, of.digest()),
            )),
            _ => Ok(()),
        }
    }
}

impl Manifest {
    /// All that it references, in the order of the document, but for its subject: what must be
    /// there when it is pulled, whatever its type.
    pub fn references(&self) -> impl Iterator<Item = Referenced<'_>> {
        let (entries, digests): (&[Descriptor], &[Digest]) = match self.document() {
            Document::Index(index) => (&index.manifests, &[]),
            Document::Other(other) => (&other.descriptors, &other.digests),
            Document::Image(_) | Document::Artifact(_) => (&[], &[]),
        };
        let written = |digest| Referenced { digest, descriptor: None, form: Form::Either };
        self.blobs()
            .map(Referenced::blob)
            .chain(entries.iter().map(Referenced::either))
            .chain(digests.iter().map(written))
    }

    /// Descriptors of its references that may be manifests.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Descriptor> {
        let either = self.references().filter(|referenced| referenced.form == Form::Either);
        either.filter_map(|referenced| referenced.descriptor)
    }

    /// Tells that it lists other manifests, as indexes do.
    pub(crate) fn lists(&self) -> bool {
        self.entries().next().is_some()
    }
}
