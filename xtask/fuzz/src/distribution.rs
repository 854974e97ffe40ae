//! Directories, read as the storage of a distribution registry.
//!
//! What is read has the digest by which it was asked for, and every repository that is listed can
//! be asked.

use std::sync::Arc;

use oci_ref::{DistributionDirectory, Result, Source, Target};

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
    let directory = DistributionDirectory::open(path).await?;
    let found = directory.repositories().await?;
    for problem in &found.problems {
        assert_fit_for_logs(problem, MAX_ERROR);
    }
    for name in found.names.iter().take(8) {
        let repository = Arc::new(directory.repository(name));
        let contents = repository.contents().await?;
        for problem in &contents.problems {
            assert_fit_for_logs(problem, MAX_ERROR);
        }
        for (digest, tags) in contents.manifests.iter().take(8) {
            if let Err(error) = read_all(repository.clone(), digest).await {
                assert_fit_for_logs(&error, MAX_ERROR);
            }
            for tag in tags {
                if let Ok(found) = repository.manifest(&Target::Tag(tag.clone())).await {
                    assert_eq!(found.digest(), digest, "tag {tag}");
                }
            }
        }
    }
    Ok(())
}
