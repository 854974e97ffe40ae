//! What of an index is copied, and whether the destination can hold it.

use std::collections::HashSet;

use oci_spec_types::{Digest, ErrorCode, MediaType, Platform};

use super::options::{CopyOptions, Select};
use super::run::Run;
use crate::platform::choose_image_admitted;
use crate::{Error, ErrorKind, Manifest, Ref, Result, Store, WalkOptions};

/// What is copied.
pub(super) struct Chosen {
    /// The root of the copy: that, or the image that was chosen of it.
    pub(super) manifest: Manifest,
    /// The entries of the root that are copied; `None` for all.
    pub(super) entries: Option<HashSet<Digest>>,
}

/// Decides what is copied, before anything is.
pub(super) async fn choose(run: &Run, found: Manifest) -> Result<Chosen> {
    let Run { from, to, options, .. } = run;
    let listed = found.digest().clone();
    let (manifest, entries) = match (&options.select, found.index()) {
        (Select::All, _) => (found, None),
        (Select::Image(platform), Some(_)) => (image_for(run, found, platform).await?, None),
        // What is no index is what fits.
        (Select::Image(_), None) => (found, None),
        (Select::Platforms(platforms), Some(_)) => {
            let list = Ref::new(found.clone(), from.clone())?;
            let list = list.as_index()?;
            let chosen =
                platforms.iter().map(|platform| Ok(list.choose(platform)?.descriptor.digest));
            sparse(found, chosen.collect::<Result<_>>()?, &**to)?
        }
        (Select::Instances(digests), Some(index)) => {
            let listed: HashSet<&Digest> = index.manifests.iter().map(|e| &e.digest).collect();
            if let Some(unknown) = digests.iter().find(|digest| !listed.contains(digest)) {
                return Err(Error::new(
                    ErrorCode::ManifestUnknown,
                    format!(
                        "{unknown} is not listed in {}, which has {} entries",
                        found.digest(),
                        index.manifests.len()
                    ),
                ));
            }
            let entries = digests.iter().cloned().collect();
            sparse(found, entries, &**to)?
        }
        (Select::Platforms(_) | Select::Instances(_), None) => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} is no index, so no entries of it can be chosen", found.digest()),
            ));
        }
    };
    check_name(&manifest, &listed, options)?;
    check_types(&manifest, &**to, options)?;
    Ok(Chosen { manifest, entries })
}

async fn image_for(run: &Run, found: Manifest, platform: &Platform) -> Result<Manifest> {
    let list = Ref::new(found, run.from.clone())?;
    let max_depth = run.options.max_depth;
    let bounds = WalkOptions { max_depth, sparse: true, ..WalkOptions::default() };
    let chosen = choose_image_admitted(list.as_index()?, platform, &bounds, run).await?;
    Ok(chosen.image.manifest().clone())
}

fn sparse(
    found: Manifest,
    entries: HashSet<Digest>,
    to: &dyn Store,
) -> Result<(Manifest, Option<HashSet<Digest>>)> {
    let missing = found.manifests().iter().filter(|entry| !entries.contains(&entry.digest)).count();
    if missing > 0 && to.capabilities().sparse == Some(false) {
        return Err(Error::unsupported(format!(
            "the destination takes no index without its manifests, and {missing} of those of {} were not chosen",
            found.digest()
        )));
    }
    Ok((found, Some(entries)))
}

/// Refuses a destination that is named by another digest than that of what is copied.
fn check_name(manifest: &Manifest, listed: &Digest, options: &CopyOptions) -> Result<()> {
    let found = manifest.digest();
    let Some(named) = options.digest.as_ref().filter(|named| *named != found) else {
        return Ok(());
    };
    let message = match named == listed {
        true => format!(
            "the destination is named {named}, which is the index, but of that only {found} is \
             copied"
        ),
        false => format!("the destination is named {named}, but what is copied is {found}"),
    };
    Err(Error::new(ErrorKind::Invalid, message))
}

/// A destination that cannot hold a list says so before anything is copied.
fn check_types(manifest: &Manifest, to: &dyn Store, options: &CopyOptions) -> Result<()> {
    let capabilities = to.capabilities();
    let candidates = options.written_format().candidates(manifest.media_type(), &capabilities);
    let Some(types) = capabilities.manifest_types else {
        return Ok(());
    };
    if candidates.iter().any(|candidate| types.contains(candidate)) {
        return Ok(());
    }
    if manifest.media_type().is_index() && !types.iter().any(MediaType::is_index) {
        return Err(Error::unsupported(format!(
            "the destination cannot hold lists of manifests, and {} is one; choose one image of it",
            manifest.digest()
        )));
    }
    let types: Vec<&str> = types.iter().map(MediaType::as_str).collect();
    Err(Error::unsupported(format!(
        "the destination takes {}, and {} is {}",
        types.join(", "),
        manifest.digest(),
        manifest.media_type()
    )))
}
