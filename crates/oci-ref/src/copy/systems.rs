//! Whether images are for an operating system that the destination takes.

use std::collections::HashSet;
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, Platform};

use super::options::CopyOptions;
use super::select::Chosen;
use crate::graph::read_manifest;
use crate::{Error, Manifest, Ref, Result, Source, Store};

/// What builders write in the config of what is no image to run, such as an attestation.
const UNKNOWN: &str = "unknown";

/// Refuses images for other operating systems than those that the destination asks for, before anything is copied.
///
/// The image's config decides, as it does when the image is run; what an index says of it does not.
pub(super) async fn check_systems(
    from: &Arc<dyn Source>,
    chosen: &Chosen,
    to: &dyn Store,
    options: &CopyOptions,
) -> Result<()> {
    let Some(taken) = to.capabilities().operating_systems else {
        return Ok(());
    };
    let check = Check { from, taken: taken.iter().map(|os| normal(os)).collect() };
    let wanted = |entry: &&Descriptor| {
        chosen.entries.as_ref().is_none_or(|entries| entries.contains(&entry.digest))
    };
    check.look_at(&chosen.manifest).await?;
    let mut seen: HashSet<Digest> = HashSet::new();
    let children = chosen.manifest.manifests().iter().filter(wanted);
    let mut waiting: Vec<(Descriptor, usize)> = children.cloned().map(|child| (child, 1)).collect();
    while let Some((child, depth)) = waiting.pop() {
        // What is nested too deep is refused by the copy itself.
        if depth > options.max_depth || !seen.insert(child.digest.clone()) {
            continue;
        }
        let manifest = read_manifest(&**from, &child)
            .await
            .map_err(|error| error.context(format!("reading manifest {}", child.digest)))?;
        options.admit(&manifest)?;
        check.look_at(&manifest).await?;
        waiting.extend(manifest.manifests().iter().cloned().map(|child| (child, depth + 1)));
    }
    Ok(())
}

struct Check<'a> {
    from: &'a Arc<dyn Source>,
    taken: Vec<String>,
}

impl Check<'_> {
    async fn look_at(&self, manifest: &Manifest) -> Result<()> {
        // Indexes and artifacts are not run.
        let Ok(Ref::Image(image)) = Ref::new(manifest.clone(), self.from.clone()) else {
            return Ok(());
        };
        if !image.config_descriptor().media_type.is_config() {
            return Ok(());
        }
        let config = image.config().await.map_err(|error| {
            error.context(format!("reading the config of image {}", manifest.digest()))
        })?;
        let found = normal(&config.os);
        if found == UNKNOWN || self.taken.contains(&found) {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "image {} is for the operating system {:?}, the destination takes images for {}",
            manifest.digest(),
            config.os,
            if self.taken.is_empty() { "none".to_owned() } else { self.taken.join(", ") }
        )))
    }
}

/// An operating system as it is compared.
fn normal(os: &str) -> String {
    Platform::new(os, "").normalized().os
}
