//! Blobs: their bytes are there, and are theirs.

use oci_ref::Result;

use super::misfits::MARKED;
use super::{Check, FsckStage};
use crate::metadata::StoredBlob;
use crate::verify::{Damage, verify};

/// How many are listed at a time. Those in the database come with their bytes.
const PAGE: usize = 100;

/// How many repositories are named.
const NAMED: usize = 3;

impl Check<'_> {
    pub(super) async fn blobs(&mut self, mut after: i64) -> Result<()> {
        let (last, _) = self.engine.metadata.last_ids().await?;
        loop {
            let page = self.engine.metadata.stored_blobs(after, PAGE).await?;
            for blob in &page {
                self.blob(blob).await?;
                after = blob.id;
                self.progress(FsckStage::Blobs, after as f64 / last.max(1) as f64);
            }
            if page.is_empty() {
                return Ok(());
            }
            self.keep(FsckStage::Blobs, &after.into()).await?;
        }
    }

    async fn blob(&mut self, blob: &StoredBlob) -> Result<()> {
        let damage = self.damage(blob).await;
        self.report.blobs += 1;
        if damage == Ok(None) {
            self.report.bytes += blob.size;
            return self.forgotten(blob).await;
        }
        // It may have been deleted since it was listed.
        let metadata = &self.engine.metadata;
        let again = metadata.stored_blobs(blob.id - 1, 1).await?;
        if !again.iter().any(|again| again.id == blob.id && again.content == blob.content) {
            return Ok(());
        }
        let digest = &blob.digest;
        let damage = match damage {
            Ok(None) => return Ok(()),
            Ok(Some(damage)) => damage.to_string(),
            Err(unreadable) => {
                let what = format!(
                    "blob {digest} cannot be read: {unreadable}; see to the disk, and check again"
                );
                self.problem(what, None);
                return Ok(());
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
        Ok(())
    }

    /// A blob that no collection would come upon. Where it is, and what references it, is of one state of the database.
    async fn forgotten(&mut self, blob: &StoredBlob) -> Result<()> {
        let Some(repository) = &blob.forgotten_in else { return Ok(()) };
        let what = format!(
            "blob {} of repository {repository} is referenced by nothing, and no collection would come upon it",
            blob.digest
        );
        if self.problem(what, Some(MARKED.into()))
            && self.engine.metadata.mark_blob(blob.id, self.engine.now()).await?
        {
            self.mended();
        }
        Ok(())
    }

    /// What is wrong with a blob, or why that cannot be told.
    async fn damage(&mut self, blob: &StoredBlob) -> std::result::Result<Option<Damage>, String> {
        let objects = &*self.engine.objects;
        let found =
            verify(objects, &blob.content, &blob.digest, blob.size, &mut self.pace, None).await;
        found.map_err(|error| match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })
    }
}
