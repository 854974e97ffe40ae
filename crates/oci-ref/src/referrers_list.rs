//! The list of a manifest's referrers that clients keep under a tag, where a registry has no API
//! for it (distribution-spec, "Referrers Tag Schema").
//!
//! Nothing keeps others from giving the same tag to something else: mirrors name images so by their
//! digests, and some registries answer such a tag with the manifest of that digest. What the tag
//! names is a list if it has the form of one.

use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};

use crate::Manifest;

impl Manifest {
    /// This manifest as the list of the referrers of `subject`: an OCI image index that is neither
    /// the subject nor an artifact, and does not list the subject. An empty one is such a list.
    ///
    /// Its entries may still be something else than referrers, such as the images of an index:
    /// [`is_like_referrer`](Self::is_like_referrer) says which of them look so.
    ///
    /// # Errors
    /// When it is no such list; the text says what it is instead.
    pub fn as_referrers_list(&self, subject: &Digest) -> Result<&ImageIndex, String> {
        if self.digest() == subject {
            return Err("the subject itself".to_owned());
        }
        let media_type = self.media_type();
        let Some(index) = self.index().filter(|_| *media_type == MediaType::OCI_IMAGE_INDEX) else {
            return Err(format!("{} of type {media_type}", self.digest()));
        };
        if index.subject.is_some() || self.descriptor().artifact_type.is_some() {
            return Err(format!("the artifact {}", self.digest()));
        }
        match index.manifests.iter().any(|entry| entry.digest == *subject) {
            true => Err(format!("the index {}, which lists the subject", self.digest())),
            false => Ok(index),
        }
    }

    /// Says whether an entry of an index looks like one of a list of referrers: it has an artifact
    /// type and no platform.
    pub fn is_like_referrer(entry: &Descriptor) -> bool {
        entry.artifact_type.as_deref().is_some_and(|found| !found.is_empty())
            && entry.platform.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec_types::ImageManifest;

    fn sealed(document: serde_json::Result<Vec<u8>>) -> Manifest {
        Manifest::parse(document.unwrap().into(), None, None).unwrap()
    }

    fn index(document: &ImageIndex) -> Manifest {
        sealed(serde_json::to_vec(document))
    }

    // covers: O17
    #[test]
    fn lists_and_what_is_none() {
        let subject = Digest::sha256(b"subject");
        let about = Descriptor::new(MediaType::OCI_IMAGE_MANIFEST, subject.clone(), 7);
        let other = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"other");
        let empty = ImageIndex::new(Vec::new());
        let mut docker = empty.clone();
        docker.media_type = Some(MediaType::DOCKER_MANIFEST_LIST);
        let mut referrer = empty.clone();
        referrer.subject = Some(about.clone());
        let mut artifact = empty.clone();
        artifact.artifact_type = Some("a/b".into());
        let image = ImageManifest::new(Descriptor::empty_json(), Vec::new());
        for (found, is_list) in [
            (index(&empty), true),
            (index(&ImageIndex::new(vec![other.clone()])), true),
            (index(&ImageIndex::new(vec![other, about])), false),
            (index(&docker), false),
            (index(&referrer), false),
            (index(&artifact), false),
            (sealed(serde_json::to_vec(&image)), false),
        ] {
            let list = found.as_referrers_list(&subject);
            assert_eq!(list.is_ok(), is_list, "{found:?}: {list:?}");
        }
        let itself = index(&empty);
        assert!(itself.as_referrers_list(itself.digest()).is_err());
    }
}
