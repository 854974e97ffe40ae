//! The type in which a manifest is written: its own, one that was asked for, or one that the destination takes.

use oci_spec_types::{Descriptor, ErrorCode, MediaType, Tag};

use super::progress::CopyEvent;
use super::run::Run;
use crate::{Capabilities, Error, ErrorKind, List, ListUpdate, Manifest, Precondition, Result};

/// In which format manifests are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As they are, byte for byte.
    #[default]
    Preserve,
    /// As they are if the destination takes that and its format is made of that, else converted: a
    /// Docker image becomes an OCI one in a layout. If the destination refuses one type, or there is
    /// no like of something in it, the next is tried.
    Supported,
    /// OCI manifests and indexes.
    Oci,
    /// Docker schema 2 manifests and lists.
    Docker,
}

const TYPES: [[MediaType; 2]; 2] = [
    [MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST],
    [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST],
];

impl Format {
    /// The types as which a manifest of type `own` may be written, in the order in which they are tried.
    pub(super) fn candidates(self, own: &MediaType, to: &Capabilities) -> Vec<MediaType> {
        let [oci, docker] = &TYPES[usize::from(own.is_index())];
        match self {
            Self::Preserve => vec![own.clone()],
            // Only images and lists have another form.
            _ if !own.is_index() && !own.is_image() => vec![own.clone()],
            Self::Oci => vec![oci.clone()],
            Self::Docker => vec![docker.clone()],
            Self::Supported => {
                let has = |types: &Option<Vec<MediaType>>, media_type: &MediaType| {
                    types.as_ref().is_none_or(|types| types.contains(media_type))
                };
                let others = [oci, docker].into_iter().filter(|other| *other != own);
                let all = [own].into_iter().chain(others).cloned();
                let mut taken: Vec<_> = all.filter(|it| has(&to.manifest_types, it)).collect();
                taken.sort_by_key(|media_type| !has(&to.native_types, media_type));
                taken
            }
        }
    }
}

impl Run {
    /// Writes a manifest, whose entries may have become others, in the first of the types that the destination takes.
    pub(super) async fn write(
        &self,
        manifest: Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<Manifest> {
        let edited = self.with_entries(&manifest)?;
        let format = self.options.written_format();
        let candidates = format.candidates(manifest.media_type(), &self.to.capabilities());
        let mut attempts = Vec::new();
        for media_type in &candidates {
            let converted = match edited.convert_to(media_type, self.options.loss) {
                Err(error) if candidates.len() > 1 && is_refusal(&error) => {
                    attempts.push((media_type, error));
                    continue;
                }
                converted => converted?,
            };
            let written = converted.manifest;
            if written.digest() != manifest.digest() {
                self.may_change(&manifest).await?;
                for dropped in &converted.dropped {
                    self.options.tell(&CopyEvent::Dropped(manifest.descriptor(), dropped));
                }
            }
            match self.put_manifest(&written, tags, when).await {
                Ok(()) => return Ok(written),
                Err(error) if candidates.len() > 1 && is_refusal(&error) => {
                    attempts.push((media_type, error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused(&manifest, attempts))
    }

    /// A signature is for a digest: what carries one is not changed behind its back. Of an index
    /// that is stripped it has been told that they are left behind.
    pub(super) async fn may_change(&self, manifest: &Manifest) -> Result<()> {
        let digest = manifest.digest();
        if self.strips(manifest) {
            return Ok(());
        }
        if !self.options.drop_signatures && !self.from.signatures(digest).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{digest} is signed, and would have another digest in another format; its signatures can be dropped"
                ),
            ));
        }
        if self.options.referrers || self.options.tag_schemes {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{digest} would have another digest in another format, which what refers to it does not name"
                ),
            ));
        }
        Ok(())
    }

    /// The list with the entries that became others, and without those that are stripped.
    fn with_entries(&self, manifest: &Manifest) -> Result<Manifest> {
        let strips = self.strips(manifest);
        let became = |entry: &Descriptor| self.done.became(&entry.digest);
        let changes = manifest.manifests().iter().any(|entry| became(entry).is_some());
        if !strips && !changes {
            return Ok(manifest.clone());
        }
        let mut list = List::of(manifest)?;
        if strips && let Some(selected) = self.selected(manifest.digest()) {
            list.retain(|entry| selected.contains(&entry.digest));
        }
        if changes {
            let update = |entry: &Descriptor| {
                let now = became(entry).unwrap_or_else(|| entry.clone());
                ListUpdate { digest: now.digest, size: now.size, media_type: now.media_type }
            };
            let updates = list.instances().iter().map(update).collect();
            list.update_instances(updates)?;
        }
        list.to_manifest()
    }
}

/// A code that is no longer in the specification; some registries refuse the type of a manifest
/// with it.
const TAG_INVALID: &str = "TAG_INVALID";

/// Whether the destination said that it does not take such a manifest.
fn is_refusal(error: &Error) -> bool {
    let Some(code) = error.code() else { return false };
    matches!(code, ErrorCode::ManifestInvalid | ErrorCode::Unsupported)
        || code.as_str() == TAG_INVALID
}

fn refused(manifest: &Manifest, attempts: Vec<(&MediaType, Error)>) -> Error {
    let mut text = format!("the destination takes {} in no form", manifest.digest());
    for (media_type, error) in &attempts {
        text.push_str(&format!("; as {media_type}: {}", error.chain()));
    }
    let error = Error::new(ErrorCode::Unsupported, text);
    match attempts.into_iter().next_back() {
        Some((_, last)) => error.with_source(last),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: C7
    #[test]
    fn which_types_are_tried() {
        let [oci, docker] = &TYPES[1];
        let none = MediaType::OCTET_STREAM;
        let artifact = MediaType::OCI_ARTIFACT_MANIFEST;
        let both = [docker.clone(), oci.clone()];
        let docker_only = std::slice::from_ref(docker);
        let taking = |manifest_types: Option<&[MediaType]>| Capabilities {
            manifest_types: manifest_types.map(<[_]>::to_vec),
            ..Capabilities::default()
        };
        let made_of = |types: &[MediaType]| Capabilities {
            native_types: Some(types.to_vec()),
            ..taking(None)
        };
        for (native, own, expected) in [
            (oci, docker, vec![oci, docker]),
            (oci, oci, vec![oci, docker]),
            (docker, oci, vec![docker, oci]),
            (oci, &artifact, vec![&artifact]),
        ] {
            let to = made_of(std::slice::from_ref(native));
            let found = Format::Supported.candidates(own, &to);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{native} of {own}");
            assert_eq!(Format::Preserve.candidates(own, &to), std::slice::from_ref(own));
        }
        for (format, own, taken, expected) in [
            (Format::Preserve, oci, Some(docker_only), vec![oci]),
            (Format::Oci, docker, None, vec![oci]),
            (Format::Docker, oci, None, vec![docker]),
            (Format::Docker, &artifact, None, vec![&artifact]),
            (Format::Supported, oci, None, vec![oci, docker]),
            (Format::Supported, docker, Some(&both), vec![docker, oci]),
            (Format::Supported, oci, Some(docker_only), vec![docker]),
            (Format::Supported, oci, Some(std::slice::from_ref(&none)), vec![]),
        ] {
            let found = format.candidates(own, &taking(taken));
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{format:?} of {own}");
        }
    }
}
