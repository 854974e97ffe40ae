//! Rows of the database that belong to nothing, or contradict others.

use oci_ref::Result;

use super::Check;
use crate::metadata::Misfit;

/// How many are listed at a time.
const PAGE: usize = 100;

/// What a repair does about what no collection would come upon.
pub(super) const MARKED: &str = "it is marked, so that collections look at it from now on";

impl Check<'_> {
    pub(super) async fn misfits(&mut self) -> Result<()> {
        for kind in Misfit::ALL {
            let mut after = 0;
            loop {
                let page = self.engine.metadata.misfits(kind, after, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                for (id, name) in page {
                    self.misfit(kind, id, &name).await?;
                }
            }
        }
        Ok(())
    }

    /// They were found in one state of the database, so there is no need to look again.
    async fn misfit(&mut self, kind: Misfit, id: i64, name: &str) -> Result<()> {
        let (what, remedy) = match kind {
            Misfit::Condemned => (
                format!(
                    "the file of blob {name} is marked to be deleted, though the blob is stored"
                ),
                "it is not deleted",
            ),
            Misfit::Blob => (format!("blob {name} is in no repository"), "it is deleted"),
            Misfit::Manifest => (format!("manifest {name} is in no repository"), "it is deleted"),
            Misfit::Repository => (format!("repository {name} has no content"), "it is deleted"),
        };
        if self.problem(what, Some(remedy.into())) {
            let delete_after = self.engine.delete_after(self.engine.now());
            if self.engine.metadata.mend_misfit(kind, id, delete_after).await? {
                self.mended();
            }
        }
        Ok(())
    }
}
