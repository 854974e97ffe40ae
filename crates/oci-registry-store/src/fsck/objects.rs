//! Files: each belongs to a blob or an upload, or waits to be deleted.

use oci_ref::Result;

use super::{Check, FsckStage};
use crate::objects::ObjectKey;

/// How many are listed at a time.
const PAGE: usize = 1000;

impl Check<'_> {
    pub(super) async fn objects(&mut self, after: Option<&str>) -> Result<()> {
        let (metadata, objects) = (&self.engine.metadata, &self.engine.objects);
        let mut after = after.and_then(ObjectKey::parse);
        loop {
            let page = objects.list(after.as_ref(), PAGE).await?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            self.report.objects += page.len() as u64;
            // A file is made after the database knows of it, and is forgotten after it is deleted.
            for key in metadata.unknown_objects(&page).await? {
                let Some(size) = objects.size(&key).await? else { continue };
                let what = format!("file {key} of {size} bytes belongs to nothing");
                if self.problem(what, Some("it is deleted".into())) {
                    objects.delete(&key, None).await?;
                    self.mended();
                }
            }
            self.progress(FsckStage::Objects, part(&last));
            self.keep(FsckStage::Objects, &last.as_str().into()).await?;
            after = Some(last);
        }
    }
}

/// How much lies before a key. They are random, so that is as much as the key says.
fn part(key: &ObjectKey) -> f64 {
    let first = u16::from_str_radix(&key.as_str()[..4], 16).unwrap_or(0);
    f64::from(first) / f64::from(u16::MAX)
}
