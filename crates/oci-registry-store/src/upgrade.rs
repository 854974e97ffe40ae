//! References that an older version did not record of what it stored: done once, when a registry is
//! opened, before anything is collected.
//!
//! What indexes list and is a blob, the migrations of the databases record. What manifests of
//! unknown types reference has to be read in their bytes.

use oci_ref::{Manifest, Result};

use crate::blocking;
use crate::metadata::Metadata;

/// Under what name it is kept that all references are recorded.
const SETTING: &str = "references";

/// The form in which they are recorded now.
const RECORDED: &[u8] = b"by structure";

/// The most manifests that are listed at a time.
const PAGE: usize = 100;

/// Records what manifests of unknown types reference. Each is a transaction of its own, and doing
/// it again changes nothing, so it may end at any place and begin anew.
pub(crate) async fn record_references(metadata: &dyn Metadata, now: i64) -> Result<()> {
    if metadata.setting(SETTING).await?.as_deref() == Some(RECORDED) {
        return Ok(());
    }
    let (mut after, mut count) = (0, 0_u64);
    loop {
        let page = metadata.unknown_manifests(after, PAGE).await?;
        let Some(last) = page.last().map(|stored| stored.id) else { break };
        for stored in page {
            let (descriptor, bytes) = (stored.descriptor.clone(), stored.bytes);
            let parsed = blocking::run(move || Ok(Manifest::verify(&descriptor, bytes))).await?;
            match parsed {
                Ok(manifest) => {
                    metadata.repair_references(stored.id, &manifest, now).await?;
                    count += 1;
                }
                Err(error) => {
                    let digest = &stored.descriptor.digest;
                    tracing::warn!(%digest, %error, "what a manifest references is not known, and not kept with it");
                }
            }
        }
        after = last;
    }
    if count > 0 {
        tracing::info!(manifests = count, "what manifests of unknown types reference is recorded");
    }
    metadata.set_setting(SETTING, Some(RECORDED.to_vec())).await
}
