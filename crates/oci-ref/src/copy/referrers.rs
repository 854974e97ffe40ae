//! What refers to a manifest goes along with it: through the referrers API, or under tags made of its digest.

use std::sync::Arc;

use oci_spec_types::{Digest, Tag};

use super::run::Run;
use crate::{Precondition, Result, Target};

/// How many referrers are asked for at a time.
const PAGE: usize = 100;

/// What the tag schemes append to the tag that is made of a digest.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

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
            for suffix in SUFFIXES {
                self.copy_tagged(subject, suffix, depth).await?;
            }
        }
        Ok(())
    }

    async fn copy_listed_referrers(self: &Arc<Self>, subject: &Digest, depth: usize) -> Result<()> {
        let mut after = None;
        loop {
            let request = self.limits.request().await;
            let found = self.from.referrers(subject, None, after.as_ref(), PAGE).await?;
            drop(request);
            self.clone().copy_children(found.page.items, depth).await?;
            match found.page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Copies what lies under a tag made of a digest, with the tag.
    async fn copy_tagged(
        self: &Arc<Self>,
        subject: &Digest,
        suffix: &str,
        depth: usize,
    ) -> Result<()> {
        let tag = format!("{}{suffix}", Tag::of_referrers(subject));
        let tag: Tag =
            tag.parse().expect("such a tag is short, and the suffix has what tags may have");
        let request = self.limits.request().await;
        let found = match self.from.resolve(&Target::Tag(tag.clone())).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        drop(request);
        self.clone().copy_children(vec![found.clone()], depth).await?;
        let manifest = self.from.manifest(&Target::Digest(found.digest)).await?;
        self.put_manifest(&manifest, &[tag], &Precondition::None).await
    }
}
