//! Indexes of which only some entries are copied: written as they are where the destination takes
//! that, or without the others.

use std::collections::HashSet;

use oci_spec_types::{Descriptor, Digest, ErrorCode};

use super::formats::Format;
use super::progress::CopyEvent;
use super::referrers::{Listed, resolve_tag, scheme_tags};
use super::run::Run;
use crate::{
    Change, Dropped, Error, ErrorKind, Manifest, Precondition, Result, Source, Store, Target,
};

impl Run {
    /// The entries of an index that are copied, if not all are.
    pub(super) fn selected(&self, index: &Digest) -> Option<&HashSet<Digest>> {
        self.selection.get()?.get(index)
    }

    /// The entries of a manifest that are copied.
    pub(super) fn wanted<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = &'a Descriptor> {
        let selected = self.selected(manifest.digest());
        let is_wanted =
            move |entry: &&Descriptor| selected.is_none_or(|some| some.contains(&entry.digest));
        manifest.entries().filter(is_wanted)
    }

    /// The entries of an index that are not copied.
    fn left_out<'a>(&'a self, index: &'a Manifest) -> impl Iterator<Item = &'a Descriptor> {
        let selected = self.selected(index.digest());
        let entries = index.manifests().iter();
        entries.filter(move |entry| selected.is_some_and(|some| !some.contains(&entry.digest)))
    }

    /// Tells whether an index is written without some of its entries.
    pub(super) fn strips(&self, index: &Manifest) -> bool {
        self.options.strip && self.left_out(index).next().is_some()
    }

    /// Refuses to leave entries out, as long as nothing has been copied: where the destination must
    /// get the very index that has them, or takes none without them. Tells what is left behind of
    /// those that are written without.
    pub(super) async fn check_left_out(&self, root: &Manifest) -> Result<()> {
        let Some(selection) = self.selection.get() else { return Ok(()) };
        for digest in selection.keys() {
            match digest == root.digest() {
                true => self.check_index(root).await?,
                false => {
                    let target = Target::Digest(digest.clone());
                    self.check_index(&self.from.manifest(&target).await?).await?;
                }
            }
        }
        Ok(())
    }

    async fn check_index(&self, index: &Manifest) -> Result<()> {
        let (missing, all) = (self.left_out(index).count(), index.manifests().len());
        if missing == 0 {
            return Ok(());
        }
        match (self.options.strip, &self.options.digest) {
            (true, Some(named)) => {
                let message = format!(
                    "the destination is named {named}, and without {missing} of the {all} entries \
                     of {} it would have another digest",
                    index.digest()
                );
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            (true, None) => return self.tell_left_behind(index).await,
            (false, _) => {}
        }
        let sparse = self.to.capabilities().sparse;
        if sparse == Some(true) || self.are_there(self.left_out(index)).await? {
            return Ok(());
        }
        let refused = || {
            let message = format!(
                "the destination takes no index without its manifests, and {missing} of the {all} \
                 of {} were not chosen",
                index.digest()
            );
            Error::new(ErrorKind::Sparse, message)
        };
        if sparse == Some(false) {
            return Err(refused());
        }
        self.try_sparse(index).await.map_err(|error| match is_refusal(&error) {
            true => refused().with_source(error),
            false => error,
        })
    }

    /// Writes an index that will lack entries before those that it will have: only trying tells
    /// whether the destination takes it.
    async fn try_sparse(&self, index: &Manifest) -> Result<()> {
        let format = self.options.written_format();
        // What may not be admitted yet is not written, and nothing that lists it.
        let undecided = self.options.admission.is_some();
        if self.options.dry_run || undecided || format != Format::Preserve {
            return Ok(());
        }
        let written = self.to.put_manifest(index, &[], &Precondition::None).await;
        written.map_err(|error| error.context(format!("writing manifest {}", index.digest())))?;
        self.count_manifest(index, true);
        Ok(())
    }

    async fn are_there(&self, entries: impl Iterator<Item = &Descriptor>) -> Result<bool> {
        for entry in entries {
            match self.to.resolve(&Target::Digest(entry.digest.clone())).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Tells what of an index is left behind that becomes another: its signatures, and what refers
    /// to it.
    pub(super) async fn tell_left_behind(&self, index: &Manifest) -> Result<()> {
        let digest = index.digest();
        let mut left = Vec::new();
        if !self.options.drop_signatures && !self.from.signatures(digest).await?.is_empty() {
            left.push("signatures");
        }
        let mut refers = false;
        if self.options.referrers {
            let page = Listed::of(digest).next_page(&*self.from).await?;
            refers = page.is_some_and(|page| !page.is_empty());
        }
        if self.options.tag_schemes {
            for tag in scheme_tags(digest) {
                let found = resolve_tag(&*self.from, &tag).await?;
                refers |= found.is_some_and(|found| found.digest != *digest);
            }
        }
        if refers {
            left.push("referrers");
        }
        for what in left {
            let dropped = Dropped { path: what.to_owned(), change: Change::Removed };
            self.options.tell(&CopyEvent::Dropped(index.descriptor(), &dropped));
        }
        Ok(())
    }
}

/// Tells whether a destination does not take an index, and not only now.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::ManifestBlobUnknown
                | ErrorCode::ManifestUnknown
                | ErrorCode::ManifestInvalid
                | ErrorCode::BlobUnknown
                | ErrorCode::Unsupported
        )
    )
}
