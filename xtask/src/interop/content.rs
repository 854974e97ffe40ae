//! The content that the scenarios move, and how two copies of it are compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use oci_ref::suite::sample;
use oci_ref::{Found, Layout, Ref, Target, WalkOptions, walk_refs};
use oci_spec_types::Digest;

use crate::process::Result;

/// Writes the sample content as a layout.
pub(crate) fn write(path: &Path) -> Result {
    wait(async {
        let layout = Layout::create(path).await?;
        sample::write_all(&layout).await.map(|_| ())
    })
    .map_err(|error| format!("writing the sample layout: {error}"))
}

/// Compares what an entry of one layout reaches with the entry of that name of another, byte for byte, and gives how
/// many pieces of content there are.
pub(crate) fn same(expected: &Path, found: &Path, name: &str) -> Result<usize> {
    let (root, back) = (digest(expected, name)?, digest(found, name)?);
    if root != back {
        return Err(format!("{name} is {back} in {}, expected {root}", found.display()));
    }
    same_content(expected, found, name)
}

/// Compares what an entry of one layout reaches with the content of another, whatever it is called there.
pub(crate) fn same_content(expected: &Path, found: &Path, name: &str) -> Result<usize> {
    let (_, reached) = reach(expected, name)?;
    for digest in &reached {
        let read = |layout: &Path| {
            let file = blob(layout, digest);
            fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))
        };
        if read(expected)? != read(found)? {
            return Err(format!("{digest} differs in {}", found.display()));
        }
    }
    Ok(reached.len())
}

/// The digest that a name of a layout stands for.
pub(crate) fn digest(layout: &Path, name: &str) -> Result<Digest> {
    reach(layout, name).map(|(root, _)| root)
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs").join(digest.algorithm()).join(digest.encoded())
}

/// The digest of an entry, and those of all that it reaches.
fn reach(path: &Path, name: &str) -> Result<(Digest, BTreeSet<Digest>)> {
    let walked = wait(async {
        let layout = Arc::new(Layout::open(path).await?);
        let entry = layout.resolve_name(name).await?;
        let root = Ref::read(layout, &Target::Digest(entry.digest.clone())).await?;
        let mut reached = BTreeSet::new();
        let mut walk = std::pin::pin!(walk_refs(root, WalkOptions::default()));
        while let Some(visit) = walk.try_next().await? {
            if let Found::Ref(found) = &visit.found {
                reached.extend(found.manifest().blobs().map(|blob| blob.digest.clone()));
            }
            reached.insert(visit.descriptor.digest);
        }
        oci_ref::Result::Ok((entry.digest, reached))
    });
    walked.map_err(|error| format!("{}: {name}: {error}", path.display()))
}

fn wait<T>(work: impl Future<Output = oci_ref::Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| format!("starting the async runtime: {error}"))?;
    runtime.block_on(work).map_err(|error| error.chain())
}
