//! Directories, read as `dir:`, and written to.
//!
//! What is read has the digest by which it was asked for. The root that is made by writing is what
//! was written, and what was the root before can be read under its digest.

use std::sync::Arc;

use oci_ref::{Directory, Manifest, Precondition, Result, Source, Store, Target};
use oci_spec_types::Tag;

use crate::reading::{MAX_ERROR, read_all};
use crate::support::{assert_fit_for_logs, block_on};
use crate::tree;

const EMPTY: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Checks one input: a directory.
pub fn check(data: &[u8]) {
    let directory = tree::make(data);
    block_on(async {
        for done in [read(directory.path()).await, write(directory.path()).await] {
            if let Err(error) = done {
                assert_fit_for_logs(&error, MAX_ERROR);
            }
        }
    });
}

async fn read(path: &std::path::Path) -> Result<()> {
    let directory = Arc::new(Directory::open(path).await?);
    let root = directory.root().await?;
    read_all(directory.clone(), &root.digest).await?;
    directory.tags(None, 10).await?;
    Ok(())
}

async fn write(path: &std::path::Path) -> Result<()> {
    let directory = Directory::create(path).await?;
    let before = directory.root().await.ok();
    let index = Manifest::parse(EMPTY.into(), None, None)?;
    let tag: Tag = "any".parse().expect("a tag");
    directory.put_manifest(&index, &[tag], &Precondition::None).await?;
    assert_eq!(directory.root().await?.digest, *index.digest());
    if let Some(before) = before {
        let found = directory.manifest(&Target::Digest(before.digest.clone())).await?;
        assert_eq!(*found.digest(), before.digest, "the root of before is gone");
    }
    Ok(())
}
