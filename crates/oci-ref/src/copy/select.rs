//! The entries of an index that are copied.

use std::collections::{HashMap, HashSet};

use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType, Platform};

use super::options::{CopyOptions, Select};
use super::run::Run;
use crate::platform::{ChosenImage, choose, choose_image_admitted};
use crate::{Error, ErrorKind, Manifest, Ref, RefPath, Result, Store, WalkOptions};

/// The entries that are copied, of each index of which not all are.
pub(super) type Selection = HashMap<Digest, HashSet<Digest>>;

/// Decides what is copied, before anything is: the root of the copy, and of its indexes the entries.
pub(super) async fn choose_root(run: &Run, found: Manifest) -> Result<(Manifest, Selection)> {
    let Run { to, options, .. } = run;
    let listed = found.digest().clone();
    let mut selection = Selection::new();
    let root = match (&options.select, found.index()) {
        (Select::All, _) => found,
        (Select::Image(platform), Some(_)) => {
            let list = Ref::new(found, run.from.clone())?;
            image_for(run, &list, platform).await?.image.manifest().clone()
        }
        (Select::Image(platform), None) => {
            check_platforms(run, &found, std::slice::from_ref(platform)).await?;
            found
        }
        (Select::Platforms(platforms), Some(_)) => {
            let list = Ref::new(found.clone(), run.from.clone())?;
            for platform in platforms {
                add(&mut selection, &listed, &image_for(run, &list, platform).await?);
            }
            found
        }
        (Select::Platforms(platforms), None) => {
            check_platforms(run, &found, platforms).await?;
            found
        }
        (Select::Instances(digests), _) => {
            check_instances(&found, digests)?;
            selection.insert(listed.clone(), digests.iter().cloned().collect());
            found
        }
    };
    check_name(&root, &listed, options)?;
    check_types(&root, &**to, options)?;
    Ok((root, selection))
}

async fn image_for(run: &Run, list: &Ref, platform: &Platform) -> Result<ChosenImage> {
    let max_depth = run.options.max_depth;
    let bounds = WalkOptions { max_depth, sparse: true, ..WalkOptions::default() };
    choose_image_admitted(list.as_index()?, platform, &bounds, run).await
}

/// Adds an image that was chosen, with all that lists it.
fn add(selection: &mut Selection, root: &Digest, chosen: &ChosenImage) {
    let mut index = root.clone();
    let mut path = RefPath::default();
    for position in chosen.path.positions() {
        path = path.child(*position);
        let entry = chosen.candidates.iter().find(|candidate| candidate.path == path);
        let Some(entry) = entry.map(|candidate| candidate.descriptor.digest.clone()) else {
            return;
        };
        selection.entry(index).or_default().insert(entry.clone());
        index = entry;
    }
}

/// Refuses a single image that does not fit the platforms that were asked for. What is no image to
/// run has none.
async fn check_platforms(run: &Run, found: &Manifest, platforms: &[Platform]) -> Result<()> {
    let is_image = found.image().is_some_and(|image| image.config.media_type.is_config());
    if run.options.any_platform || !is_image {
        return Ok(());
    }
    let digest = found.digest();
    let image = Ref::new(found.clone(), run.from.clone())?;
    let stated = image.as_image()?.platform().await;
    let platform = stated.map_err(|error| {
        error.context(format!("reading the config of image {digest}, for its platform"))
    })?;
    let entry = [Descriptor { platform: Some(platform), ..found.descriptor().clone() }];
    for wanted in platforms {
        choose(&entry, wanted).map_err(|error| {
            let message = format!("{digest} is a single image: {error}");
            Error::from(error).context(message)
        })?;
    }
    Ok(())
}

/// Refuses a selection of what is not listed. A single image is the only entry of itself.
fn check_instances(found: &Manifest, digests: &[Digest]) -> Result<()> {
    let Some(index) = found.index() else {
        return match digests.iter().find(|digest| *digest != found.digest()) {
            Some(unknown) => Err(Error::new(
                ErrorCode::ManifestUnknown,
                format!("{unknown} was selected, but {} is a single manifest", found.digest()),
            )),
            None => Ok(()),
        };
    };
    let listed: HashSet<&Digest> = index.manifests.iter().map(|entry| &entry.digest).collect();
    match digests.iter().find(|digest| !listed.contains(digest)) {
        Some(unknown) => Err(Error::new(
            ErrorCode::ManifestUnknown,
            format!(
                "{unknown} is not listed in {}, which has {} entries",
                found.digest(),
                index.manifests.len()
            ),
        )),
        None => Ok(()),
    }
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
pub(super) fn check_types(
    manifest: &Manifest,
    to: &dyn Store,
    options: &CopyOptions,
) -> Result<()> {
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
