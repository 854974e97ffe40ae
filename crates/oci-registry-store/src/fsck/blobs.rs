//! Blobs: their bytes are there, and are theirs.

use std::collections::BTreeSet;

use oci_ref::{Error, Result};

use super::misfits::MARKED;
use super::{Check, FsckStage};
use crate::blocking;
use crate::metadata::{Content, ForgottenLink, StoredBlob};
use crate::objects::ObjectKey;
use crate::verify::{Damage, verify, verify_bytes};

/// How many are listed at a time. Those in the database come with their bytes.
const PAGE: usize = 200;

/// The number of their links to repositories that are looked at in a step.
const LINKS: usize = 1000;

/// How many repositories are named.
const NAMED: usize = 3;

/// The damage of a blob, or why that cannot be told.
type Found = std::result::Result<Option<Damage>, String>;

impl Check<'_> {
    pub(super) async fn blobs(&mut self, mut after: i64) -> Result<()> {
        let (last, _) = self.engine.metadata.last_ids().await?;
        loop {
            let page = self.engine.metadata.stored_blobs(after, PAGE).await?;
            let Some(end) = page.last().map(|blob| blob.id) else { return Ok(()) };
            let mut damaged = BTreeSet::new();
            for (blob, found) in inline(page).await? {
                let found = match (found, &blob.content) {
                    (None, Content::Object(key)) => self.object(&blob, key).await,
                    (found, _) => {
                        self.pace.count(blob.size).await;
                        found.unwrap_or(Ok(None))
                    }
                };
                if !self.blob(&blob, found).await? {
                    damaged.insert(blob.id);
                }
                self.progress(FsckStage::Blobs, blob.id as f64 / last.max(1) as f64);
            }
            self.links(after, end, &damaged).await?;
            after = end;
            self.keep(FsckStage::Blobs, &after.into()).await?;
        }
    }

    /// Tells what is wrong with a blob. `true` if nothing is.
    async fn blob(&mut self, blob: &StoredBlob, found: Found) -> Result<bool> {
        self.report.blobs += 1;
        if found == Ok(None) {
            self.report.bytes += blob.size;
            return Ok(true);
        }
        // It may have been deleted since it was listed.
        let metadata = &self.engine.metadata;
        let again = metadata.stored_blobs(blob.id - 1, 1).await?;
        if !again.iter().any(|again| again.id == blob.id && again.content == blob.content) {
            return Ok(false);
        }
        let digest = &blob.digest;
        let damage = match found {
            Ok(None) => return Ok(true),
            Ok(Some(damage)) => damage.to_string(),
            Err(unreadable) => {
                let what = format!(
                    "blob {digest} cannot be read: {unreadable}; see to the disk, and check again"
                );
                self.problem(what, None);
                return Ok(false);
            }
        };
        let mut names = metadata.holders(digest, NAMED + 1).await?.into_iter();
        let mut holders: Vec<String> =
            names.by_ref().take(NAMED).map(|name| name.to_string()).collect();
        if names.next().is_some() {
            holders.push("others".into());
        }
        let what = format!("blob {digest} (of {}) is damaged: {damage}", holders.join(", "));
        let remedy =
            "it is taken out of its repositories, so that the next push of it brings it back";
        if self.problem(what, Some(remedy.into())) {
            let delete_after = self.engine.delete_after(self.engine.now());
            self.engine.metadata.discard_blob(blob, delete_after).await?;
            self.mended();
        }
        Ok(false)
    }

    /// Looks for what no collection would come upon among the blobs after one, and up to another,
    /// but for those that are known to be damaged. Each is told once, whoever has it.
    async fn links(&mut self, after: i64, end: i64, damaged: &BTreeSet<i64>) -> Result<()> {
        let (mut place, mut told) = (Some((after, i64::MAX)), None);
        while let Some(after) = place {
            let checked = self.engine.metadata.check_links(after, end, LINKS).await?;
            for link in &checked.forgotten {
                if told != Some(link.blob) && !damaged.contains(&link.blob) {
                    told = Some(link.blob);
                    self.forgotten(link).await?;
                }
            }
            place = checked.next;
        }
        Ok(())
    }

    /// That nothing references it is of one state of the database, so there is no need to look
    /// again.
    async fn forgotten(&mut self, link: &ForgottenLink) -> Result<()> {
        let what = format!(
            "blob {} of repository {} is referenced by nothing, and no collection would come upon it",
            link.digest, link.repository
        );
        if self.problem(what, Some(MARKED.into()))
            && self.engine.metadata.mark_blob(link.blob, self.engine.now()).await?
        {
            self.mended();
        }
        Ok(())
    }

    async fn object(&mut self, blob: &StoredBlob, key: &ObjectKey) -> Found {
        let objects = &*self.engine.objects;
        let found = verify(objects, key, &blob.digest, blob.size, &mut self.pace, None).await;
        found.map_err(|error| told(&error))
    }
}

/// Checks those of a page that lie in the database. `None` for all others.
async fn inline(page: Vec<StoredBlob>) -> Result<Vec<(StoredBlob, Option<Found>)>> {
    let check = |blob: StoredBlob| {
        let found = match &blob.content {
            Content::Object(_) => None,
            Content::Inline(data) => {
                Some(verify_bytes(data, &blob.digest, blob.size).map_err(|error| told(&error)))
            }
        };
        (blob, found)
    };
    blocking::run(move || Ok(page.into_iter().map(check).collect())).await
}

fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
