//! What refers to a manifest goes along with it: through the referrers API, or under tags made of its digest.

use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, Tag};

use super::run::Run;
use crate::{Cursor, Error, ErrorKind, Result, Source, Target};

/// How many referrers are asked for at a time.
const PAGE: usize = 100;

/// The most manifests that may refer to one, and the most pages in which they may be listed.
const MAX_LISTED: usize = 100_000;

/// What the tag schemes append to the tag that is made of a digest.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// What refers to a manifest, as a source lists it.
pub(super) struct Listed<'a> {
    subject: &'a Digest,
    /// Where the next page begins; `None` after the last.
    next: Option<Option<Cursor>>,
    count: usize,
}

impl<'a> Listed<'a> {
    pub(super) fn of(subject: &'a Digest) -> Self {
        Self { subject, next: Some(None), count: 0 }
    }

    /// The next page. A list without end is an error.
    pub(super) async fn next_page(&mut self, from: &dyn Source) -> Result<Option<Vec<Descriptor>>> {
        let Some(after) = self.next.take() else { return Ok(None) };
        let found = from.referrers(self.subject, None, after.as_ref(), PAGE).await?.page;
        self.count += found.items.len().max(1);
        if self.count > MAX_LISTED {
            return Err(Error::new(
                ErrorKind::TooLarge { limit: MAX_LISTED as u64 },
                format!("the list of what refers to {} does not end", self.subject),
            ));
        }
        self.next = found.next.map(Some);
        Ok(Some(found.items))
    }
}

/// The tags under which content that refers to a manifest may lie.
pub(super) fn scheme_tags(subject: &Digest) -> impl Iterator<Item = Tag> {
    let tag = Tag::of_referrers(subject);
    SUFFIXES.iter().map(move |suffix| {
        let tag = format!("{tag}{suffix}");
        tag.parse().expect("such a tag is short, and the suffix has what tags may have")
    })
}

/// What a tag names, if anything.
pub(super) async fn resolve_tag(from: &dyn Source, tag: &Tag) -> Result<Option<Descriptor>> {
    match from.resolve(&Target::Tag(tag.clone())).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Run {
    /// Copies what refers to the manifests that were copied, and what refers to that, until there is no more.
    ///
    /// This happens after what they reference: a referrer may list its own subject, and must not wait for itself.
    pub(super) async fn copy_all_referrers(self: Arc<Self>) -> Result<()> {
        loop {
            let subjects = self.take_subjects();
            if subjects.is_empty() {
                return Ok(());
            }
            for (subject, depth) in subjects {
                self.copy_referrers(&subject, depth + 1)
                    .await
                    .map_err(|error| error.context(format!("copying what refers to {subject}")))?;
            }
        }
    }

    async fn copy_referrers(self: &Arc<Self>, subject: &Digest, depth: usize) -> Result<()> {
        if self.options.referrers {
            self.copy_listed_referrers(subject, depth).await?;
        }
        if self.options.tag_schemes {
            for tag in scheme_tags(subject) {
                self.copy_tagged(subject, tag, depth).await?;
            }
        }
        Ok(())
    }

    async fn copy_listed_referrers(self: &Arc<Self>, subject: &Digest, depth: usize) -> Result<()> {
        let mut listed = Listed::of(subject);
        loop {
            let request = self.limits.request().await;
            let Some(page) = listed.next_page(&*self.from).await? else { return Ok(()) };
            drop(request);
            self.copy_referring(&page, depth).await?;
        }
    }

    /// Copies what lies under a tag made of a digest, with the tag. Some registries answer such a
    /// tag with the manifest of that digest, and mirrors name images so: that is nothing that
    /// refers to it.
    async fn copy_tagged(self: &Arc<Self>, subject: &Digest, tag: Tag, depth: usize) -> Result<()> {
        let request = self.limits.request().await;
        let Some(found) = resolve_tag(&*self.from, &tag).await? else { return Ok(()) };
        drop(request);
        if found.digest == *subject {
            return Ok(());
        }
        self.copy_referring(std::slice::from_ref(&found), depth).await?;
        let manifest = self.from.manifest(&Target::Digest(found.digest)).await?;
        let (manifest, when) = self.to_be_tagged(subject, &tag, manifest).await?;
        self.put_manifest(&manifest, &[tag], &when).await
    }
}
