//! The manifest that a destination gets under the tag made of a digest, so that nothing is lost
//! that it has there.

use oci_spec_types::{Digest, ErrorCode, Tag};

use super::run::Run;
use crate::{Error, ErrorKind, Manifest, Precondition, Result, Target};

impl Run {
    /// The manifest to write under the tag made of a digest, where the source has `manifest`, and
    /// the condition for it.
    ///
    /// Under the tag of the referrers tag schema a destination may have a list of its own: its
    /// entries stay. What is no such list, such as an image that a mirror named so, is left alone
    /// (distribution-spec, "Referrers Tag Schema"). Tags with a suffix are written over: `.sig` and
    /// its like belong to whoever signed.
    pub(super) async fn to_be_tagged(
        &self,
        subject: &Digest,
        tag: &Tag,
        manifest: Manifest,
    ) -> Result<(Manifest, Precondition)> {
        if *tag != Tag::of_referrers(subject) {
            return Ok((manifest, Precondition::None));
        }
        let there = match self.to.manifest(&Target::Tag(tag.clone())).await {
            Ok(there) if there.digest() != manifest.digest() => there,
            Ok(_) => return Ok((manifest, Precondition::None)),
            Err(error) if error.is_not_found() => return Ok((manifest, Precondition::None)),
            Err(error) => return Err(error),
        };
        let when = match self.to.capabilities().preconditions {
            true => Precondition::Matches(vec![there.digest().clone()]),
            false => Precondition::None,
        };
        Ok((merged(subject, tag, manifest, &there)?, when))
    }
}

/// The list of a source, with what only the list of the destination has.
fn merged(subject: &Digest, tag: &Tag, ours: Manifest, theirs: &Manifest) -> Result<Manifest> {
    let left_alone = |what: &str| {
        let message = format!(
            "tag {tag} of the destination names {what}; expected the list of the referrers of \
             {subject}, so it is left alone"
        );
        Error::new(ErrorKind::Unlisted, message)
    };
    let list = theirs.as_referrers_list(subject).map_err(|what| left_alone(&what))?;
    let Ok(own) = ours.as_referrers_list(subject) else {
        return match list.manifests.is_empty() {
            true => Ok(ours),
            false => Err(left_alone(&format!("a list, and that of the source {}", ours.digest()))),
        };
    };
    let has = |digest: &Digest| own.manifests.iter().any(|entry| entry.digest == *digest);
    let rest: Vec<_> = list.manifests.iter().filter(|entry| !has(&entry.digest)).cloned().collect();
    if let Some(stranger) = rest.iter().find(|entry| !Manifest::is_like_referrer(entry)) {
        return Err(left_alone(&format!("the index {} of {}", theirs.digest(), stranger.digest)));
    }
    if rest.is_empty() {
        return Ok(ours);
    }
    let mut both = own.clone();
    both.manifests.extend(rest);
    let bytes = serde_json::to_vec(&both).map_err(|error| {
        Error::new(ErrorCode::ManifestInvalid, "the list of both cannot be written")
            .with_source(error)
    })?;
    Ok(Manifest::parse(bytes.into(), Some(ours.media_type()), None)?)
}
