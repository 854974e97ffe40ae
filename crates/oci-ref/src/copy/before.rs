//! What is asked of all that will be copied, before anything is: whether images are for an operating system that the
//! destination takes, whether the destination can keep what is signed, and whether what must stay
//! as it is may.

use std::collections::HashSet;
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, Platform};

use super::admission::Reached;
use super::formats::Format;
use super::referrers::{Listed, resolve_tag, scheme_tags};
use super::run::Run;
use super::select::Chosen;
use crate::graph::Entry;
use crate::{Capabilities, Error, ErrorKind, Manifest, Ref, Result, Source, Store};

/// What builders write in the config of what is no image to run, such as an attestation.
const UNKNOWN: &str = "unknown";

/// Refuses what the destination cannot take, as long as nothing has been copied.
///
/// Manifests are read for this where the destination asks for operating systems, cannot keep the
/// signatures that the source may have, or is named by the digest of what is to be converted; else
/// nothing is.
pub(super) async fn check(run: &Run, chosen: &Chosen) -> Result<()> {
    let Run { from, to, options, .. } = run;
    if let (false, Some(place)) = (options.drop_signatures, from.signatures_elsewhere()) {
        run.tell_elsewhere(&place);
    }
    let capabilities = to.capabilities();
    let systems = capabilities
        .operating_systems
        .map(|taken| Systems { from, taken: taken.iter().map(|os| normal(os)).collect() });
    let unsigned =
        !options.drop_signatures && !capabilities.signatures && from.may_have_signatures();
    let converts = matches!(options.format, Format::Oci | Format::Docker);
    let kept = options.digest.as_ref().filter(|_| converts);
    if systems.is_none() && !unsigned && kept.is_none() {
        return Ok(());
    }
    let (seen, next) = (HashSet::new(), Vec::new());
    let mut check = Check { run, systems, unsigned, kept, seen, next };
    let wanted = |entry: &&Descriptor| {
        chosen.entries.as_ref().is_none_or(|entries| entries.contains(&entry.digest))
    };
    check.next.extend(chosen.manifest.entries().filter(wanted).cloned().map(Next::entry));
    check.look_at(&chosen.manifest, 0, false).await?;
    while let Some(Next { descriptor, depth, reached, refers }) = check.next.pop() {
        // What is nested too deep is refused by the copy itself.
        if depth > options.max_depth || !check.seen.insert(descriptor.digest.clone()) {
            continue;
        }
        let entry = run
            .read_entry(&descriptor, reached)
            .await
            .map_err(|error| error.context(format!("reading manifest {}", descriptor.digest)))?;
        let Entry::Manifest(manifest) = entry else { continue };
        let reached = Reached::Listed;
        let next = |descriptor| Next { descriptor, depth: depth + 1, reached, refers };
        check.next.extend(manifest.entries().cloned().map(next));
        check.look_at(&manifest, depth, refers).await?;
    }
    Ok(())
}

/// A manifest that is still to be looked at.
struct Next {
    descriptor: Descriptor,
    depth: usize,
    reached: Reached,
    /// Set if it is copied because it, or what lists it, refers to another.
    refers: bool,
}

impl Next {
    fn entry(descriptor: Descriptor) -> Self {
        Self { descriptor, depth: 1, reached: Reached::Listed, refers: false }
    }
}

struct Check<'a> {
    run: &'a Run,
    systems: Option<Systems<'a>>,
    /// Whether nothing of it may be signed.
    unsigned: bool,
    /// The digest by which the destination is named, if a format was asked for that might change
    /// it.
    kept: Option<&'a Digest>,
    seen: HashSet<Digest>,
    next: Vec<Next>,
}

impl Check<'_> {
    async fn look_at(&mut self, manifest: &Manifest, depth: usize, refers: bool) -> Result<()> {
        let Run { from, options, .. } = self.run;
        if let (Some(systems), false) = (&self.systems, refers) {
            systems.look_at(manifest).await?;
        }
        if let Some(named) = self.kept {
            refuse_conversion(manifest, options.format, named)?;
        }
        if !self.unsigned && self.kept.is_none() {
            return Ok(());
        }
        let digest = manifest.digest();
        if self.unsigned {
            refuse_signatures(&from.signatures(digest).await?, digest)?;
        }
        let mut referrers = Vec::new();
        if options.referrers {
            let mut listed = Listed::of(digest);
            while let Some(page) = listed.next_page(&**from).await? {
                referrers.extend(page);
            }
        }
        if options.tag_schemes {
            for tag in scheme_tags(digest) {
                referrers.extend(resolve_tag(&**from, &tag).await?);
            }
        }
        let next = |descriptor| Next {
            descriptor,
            depth: depth + 1,
            reached: Reached::Refers,
            refers: true,
        };
        self.next.extend(referrers.into_iter().map(next));
        Ok(())
    }
}

/// Refuses a conversion for a destination that is named by a digest: whatever becomes another
/// changes what lists it, too.
fn refuse_conversion(manifest: &Manifest, format: Format, named: &Digest) -> Result<()> {
    let own = manifest.media_type();
    match format.candidates(own, &Capabilities::default()).first() {
        Some(other) if other != own => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "the destination is named {named}, so nothing can be converted, and {} of type \
                 {own} would become {other}",
                manifest.digest()
            ),
        )),
        _ => Ok(()),
    }
}

/// Refuses signatures for a destination that cannot keep them.
pub(super) fn refuse_signatures(signatures: &[bytes::Bytes], of: &Digest) -> Result<()> {
    match signatures.len() {
        0 => Ok(()),
        count => Err(Error::unsupported(format!(
            "the destination cannot keep the {count} signatures of {of}; they can be dropped"
        ))),
    }
}

/// The operating systems that a destination takes.
///
/// The image's config decides, as it does when the image is run; what an index says of it does not.
struct Systems<'a> {
    from: &'a Arc<dyn Source>,
    taken: Vec<String>,
}

impl Systems<'_> {
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
