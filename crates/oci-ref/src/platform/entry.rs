//! Choosing one of several manifests that have one name, or none.

use std::sync::Arc;

use oci_spec_types::{Descriptor, Platform};

use super::choice::{Verdict, choose};
use super::fit::stated;
use crate::{Error, ErrorKind, Ref, Result, Source};

/// The most entries whose configs are read.
const MAX_READ: usize = 100;

/// The most entries that an error names.
const MAX_NAMED: usize = 5;

/// The entry that fits a platform best, of several that a layout or an archive has under one name
/// or without any. Of images that no entry states a platform for, the config is read.
///
/// # Errors
/// `MANIFEST_UNKNOWN` if none fits, `Invalid` if two are for the same platform, and errors of
/// reading. `TooLarge` if more than 100 configs would have to be read.
pub async fn choose_entry(
    source: &Arc<dyn Source>,
    entries: &[Descriptor],
    wanted: &Platform,
) -> Result<Descriptor> {
    let mut known = entries.to_vec();
    let mut read = 0;
    for entry in &mut known {
        if stated(entry).is_some() || !entry.media_type.is_image() {
            continue;
        }
        read += 1;
        if read > MAX_READ {
            let limit = MAX_READ as u64;
            let message = format!("more than {limit} entries state no platform");
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        entry.platform = platform_of(source, entry).await?;
    }
    let choice = choose(&known, wanted)?;
    let normal = |entry: &Descriptor| stated(entry).map(Platform::normalized);
    let others = choice.candidates.iter().filter(|candidate| {
        matches!(candidate.verdict, Verdict::Chosen(_) | Verdict::Behind(_))
            && normal(&candidate.descriptor) == normal(&choice.descriptor)
    });
    let alike: Vec<&Descriptor> = others.map(|candidate| &candidate.descriptor).collect();
    match alike.len() {
        1 => Ok(entries[choice.position].clone()),
        _ => Err(ambiguous("what was asked for", &alike)),
    }
}

/// The platform that an image's config states; an artifact is for none.
async fn platform_of(source: &Arc<dyn Source>, entry: &Descriptor) -> Result<Option<Platform>> {
    let read = async {
        let found = Ref::read_descriptor(source.clone(), entry).await?;
        Ok(found.as_image()?.index_entry().await?.platform)
    };
    read.await.map_err(|error: Error| error.context(format!("reading image {}", entry.digest)))
}

/// The error for a name that several manifests have.
pub(crate) fn ambiguous(name: &str, entries: &[&Descriptor]) -> Error {
    let shown = |entry: &&Descriptor| match stated(entry) {
        Some(platform) => format!("{} ({})", entry.digest, platform.to_string().escape_debug()),
        None => entry.digest.to_string(),
    };
    let mut all: Vec<String> = entries.iter().take(MAX_NAMED).map(shown).collect();
    if let Some(more) = entries.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        all.push(format!("{more} more"));
    }
    let message = format!("{name} names several manifests: {}", all.join(" and "));
    Error::new(ErrorKind::Invalid, message)
}
