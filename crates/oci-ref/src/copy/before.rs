//! What is asked of all that will be copied, before anything is: whether images are for an operating system that the
//! destination takes, whether the destination can keep what is signed, and whether what must stay
//! as it is may.

use std::collections::HashSet;
use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, Platform};

use super::admission::Reached;
use super::done::first;
use super::formats::Format;
use super::options::CopyOptions;
use super::referrers::{Listed, resolve_tag, scheme_tags};
use super::run::Run;
use super::select::check_types;
use crate::graph::Entry;
use crate::{Capabilities, Error, ErrorKind, Manifest, Ref, Result, Source, Store};

/// What builders write in the config of what is no image to run, such as an attestation.
const UNKNOWN: &str = "unknown";

/// Refuses what the destination cannot take, as long as nothing has been copied.
///
/// All manifests are read for this where the destination asks for operating systems, cannot keep
/// the signatures that the source may have, takes certain types of manifests only, or where
/// something may be converted; else nothing is.
pub(super) async fn check(run: &Run, root: &Manifest) -> Result<()> {
    let Run { from, to, options, .. } = run;
    if let (false, Some(place)) = (options.drop_signatures, from.signatures_elsewhere()) {
        run.tell_elsewhere(&place);
    }
    let capabilities = to.capabilities();
    let systems = capabilities
        .operating_systems
        .as_ref()
        .map(|taken| Systems { from, taken: taken.iter().map(|os| normal(os)).collect() });
    let unsigned =
        !options.drop_signatures && !capabilities.signatures && from.may_have_signatures();
    let converts = match options.format {
        Format::Preserve => false,
        Format::Oci | Format::Docker => true,
        Format::Supported => capabilities.native_types.is_some() && options.digest.is_none(),
    };
    let typed = capabilities.manifest_types.is_some() && root.lists();
    if systems.is_some() || unsigned || converts || typed {
        let (seen, next) = (HashSet::new(), Vec::new());
        let changes = false;
        let mut check =
            Check { run, capabilities, systems, unsigned, converts, changes, seen, next };
        check.all(root).await?;
        if check.changes {
            run.may_change(root).await?;
        }
    }
    run.check_left_out(root).await
}

/// A manifest that is still to be looked at.
struct Next {
    descriptor: Descriptor,
    depth: usize,
    reached: Reached,
    /// Set if it is copied because it, or what lists it, refers to another.
    refers: bool,
    /// Set if it has been looked at, and some of what it lists has not.
    rest: bool,
}

struct Check<'a> {
    run: &'a Run,
    capabilities: Capabilities,
    systems: Option<Systems<'a>>,
    /// Whether nothing of it may be signed.
    unsigned: bool,
    /// True if a format was asked for that may change it.
    converts: bool,
    /// True if something becomes another, and so all that lists it.
    changes: bool,
    seen: HashSet<Digest>,
    next: Vec<Next>,
}

impl Check<'_> {
    async fn all(&mut self, root: &Manifest) -> Result<()> {
        let run = self.run;
        self.add_entries(root, 0, false);
        self.look_at(root, 0, false).await?;
        while let Some(Next { descriptor, depth, reached, refers, rest }) = self.next.pop() {
            if !rest && !self.seen.insert(descriptor.digest.clone()) {
                continue;
            }
            let entry = run.read_entry(&descriptor, reached).await.map_err(|error| {
                error.context(format!("reading manifest {}", descriptor.digest))
            })?;
            let Entry::Manifest(manifest) = entry else { continue };
            self.add_entries(&manifest, depth, refers);
            if !rest {
                self.look_at(&manifest, depth, refers).await?;
            }
        }
        Ok(())
    }

    /// Adds what is copied of the entries of a manifest: the first that have not been looked at, so
    /// that a large index does not lie here in pieces, and the manifest once more if there are
    /// others.
    fn add_entries(&mut self, manifest: &Manifest, depth: usize, refers: bool) {
        if depth >= self.run.options.max_depth {
            // What is nested too deep is refused by the copy itself.
            return;
        }
        let wanted = || self.run.wanted(manifest).filter(|it| !self.seen.contains(&it.digest));
        let listed = first(wanted());
        let next = |descriptor, depth, rest| Next {
            descriptor,
            depth,
            reached: Reached::Listed,
            refers,
            rest,
        };
        let rest = wanted().nth(listed.len()).map(|_| manifest.descriptor().clone());
        self.next.extend(rest.map(|manifest| next(manifest, depth, true)));
        self.next.extend(listed.into_iter().map(|entry| next(entry, depth + 1, false)));
    }

    async fn look_at(&mut self, manifest: &Manifest, depth: usize, refers: bool) -> Result<()> {
        let Run { from, to, options, .. } = self.run;
        if let (Some(systems), false) = (&self.systems, refers) {
            systems.look_at(manifest).await?;
        }
        check_types(manifest, &**to, options)?;
        if self.converts {
            self.check_conversion(manifest).await?;
        }
        if !self.unsigned && !self.converts {
            return Ok(());
        }
        let digest = manifest.digest();
        if self.unsigned && !self.run.strips(manifest) {
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
        if depth >= options.max_depth {
            return Ok(());
        }
        let next = |descriptor| Next {
            descriptor,
            depth: depth + 1,
            reached: Reached::Refers,
            refers: true,
            rest: false,
        };
        self.next.extend(referrers.into_iter().map(next));
        Ok(())
    }

    /// Refuses what cannot become what was asked for: for a destination that is named by a digest
    /// nothing, since whatever becomes another changes what lists it, too.
    async fn check_conversion(&mut self, manifest: &Manifest) -> Result<()> {
        let CopyOptions { format, digest, loss, .. } = &self.run.options;
        let own = manifest.media_type();
        let candidates = format.candidates(own, &self.capabilities);
        let Some(other) = candidates.first().filter(|other| *other != own) else { return Ok(()) };
        if let Some(named) = digest {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the destination is named {named}, so nothing can be converted, and {} of type \
                     {own} would become {other}",
                    manifest.digest()
                ),
            ));
        }
        match manifest.convert_to(other, *loss) {
            Ok(_) => {}
            // It stays as it is.
            Err(_) if candidates.len() > 1 => return Ok(()),
            Err(error) => return Err(error),
        }
        self.changes = true;
        self.run.may_change(manifest).await
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
