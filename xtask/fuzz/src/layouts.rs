//! Directories, read and tidied up as `oci:` layouts.
//!
//! What is read has the digest by which it was asked for. A check and a collection end, and what
//! could be read before a collection can be read after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use oci_ref::{GcOptions, Layout, Result, Source, Target};
use oci_spec_types::Digest;

use crate::reading::{MAX_ERROR, read_all};
use crate::support::{assert_fit_for_logs, block_on};
use crate::tree;

/// Checks one input: a directory.
pub fn check(data: &[u8]) {
    let directory = tree::make(data);
    block_on(async {
        if let Err(error) = read(directory.path()).await {
            assert_fit_for_logs(&error, MAX_ERROR);
        }
    });
}

async fn read(path: &std::path::Path) -> Result<()> {
    let layout = Arc::new(Layout::open(path).await?);
    let entries = layout.entries().await?;
    for entry in entries.iter().take(16) {
        if let Err(error) = read_all(layout.clone(), &entry.descriptor.digest).await {
            assert_fit_for_logs(&error, MAX_ERROR);
        }
        if let Some(name) = &entry.name
            && let Ok(found) = layout.resolve_name(name).await
        {
            let is_it = entries.iter().any(|entry| entry.descriptor.digest == found.digest);
            assert!(is_it, "{name:?} is none of the entries");
        }
    }
    layout.tags(None, 10).await?;
    layout.fsck().await?;
    let before = readable(&layout).await?;
    layout.gc(GcOptions::default()).await?;
    assert_eq!(readable(&layout).await?, before, "a collection changed what can be read");
    Ok(())
}

/// The manifests that can be read.
async fn readable(layout: &Layout) -> Result<BTreeMap<Digest, Bytes>> {
    let mut found = BTreeMap::new();
    for entry in layout.entries().await?.into_iter().take(16) {
        let digest = entry.descriptor.digest;
        if let Ok(manifest) = layout.manifest(&Target::Digest(digest.clone())).await {
            found.insert(digest, manifest.bytes().clone());
        }
    }
    Ok(found)
}
