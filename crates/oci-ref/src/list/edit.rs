//! Edits of a list.

use oci_spec_types::{Annotations, Descriptor, Digest, ErrorCode, MediaType, Platform};

use super::List;
use crate::{Error, ErrorKind, Result};

/// What becomes of an entry of a list: the same instance, stored as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListUpdate {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: MediaType,
}

impl List {
    /// Replaces digest, size and media type of every entry, in the list's order; all else of the entries stays.
    /// Embedded content does not, where the digest changes.
    ///
    /// # Errors
    /// Nothing is changed if there are not as many updates as entries, or if one has a digest that cannot be verified,
    /// a size above 2^63 - 1, or a media type that is neither an image's nor an index's. The error says which of how
    /// many.
    pub fn update_instances(&mut self, updates: Vec<ListUpdate>) -> Result<()> {
        let count = self.document.manifests.len();
        if updates.len() != count {
            let message = format!("{} updates for a list of {count} entries", updates.len());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        for (position, update) in updates.iter().enumerate() {
            check(update).map_err(|(kind, reason)| {
                Error::new(kind, format!("update {} of {count}: {reason}", position + 1))
            })?;
        }
        for (entry, update) in self.document.manifests.iter_mut().zip(updates) {
            if entry.digest != update.digest {
                entry.data = None;
            }
            entry.digest = update.digest;
            entry.size = update.size;
            entry.media_type = update.media_type;
        }
        Ok(())
    }

    /// Adds an entry at the end.
    pub fn add(&mut self, entry: Descriptor) {
        self.document.manifests.push(entry);
    }

    /// Removes all entries with this digest. `MANIFEST_UNKNOWN` if there is none.
    pub fn remove(&mut self, digest: &Digest) -> Result<Vec<Descriptor>> {
        let removed: Vec<_> =
            self.document.manifests.extract_if(.., |entry| entry.digest == *digest).collect();
        if removed.is_empty() { Err(not_listed(digest)) } else { Ok(removed) }
    }

    /// Removes the entries that a function does not keep.
    pub fn retain(&mut self, keep: impl FnMut(&Descriptor) -> bool) {
        self.document.manifests.retain(keep);
    }

    /// Puts an entry in the place of the one with this digest, which must be listed once.
    pub fn replace(&mut self, digest: &Digest, entry: Descriptor) -> Result<()> {
        *self.only(digest)? = entry;
        Ok(())
    }

    /// Sets an annotation of the list, or removes it.
    pub fn annotate(&mut self, key: impl Into<String>, value: Option<String>) {
        set(&mut self.document.annotations, key.into(), value);
    }

    /// Sets an annotation of all entries with this digest, or removes it. `MANIFEST_UNKNOWN` if there is none.
    pub fn annotate_instance(
        &mut self,
        digest: &Digest,
        key: impl Into<String>,
        value: Option<String>,
    ) -> Result<()> {
        let key = key.into();
        self.each(digest, |entry| set(&mut entry.annotations, key.clone(), value.clone()))
    }

    /// Sets or removes the platform of the entry with this digest, which must be listed once.
    pub fn set_platform(&mut self, digest: &Digest, platform: Option<Platform>) -> Result<()> {
        self.only(digest)?.platform = platform;
        Ok(())
    }

    /// Sets or removes the artifact type of the list.
    pub fn set_artifact_type(&mut self, artifact_type: Option<MediaType>) {
        self.document.artifact_type = artifact_type.map(|media_type| media_type.to_string());
    }

    /// Sets or removes the artifact type of all entries with this digest. `MANIFEST_UNKNOWN` if there is none.
    pub fn set_instance_artifact_type(
        &mut self,
        digest: &Digest,
        artifact_type: Option<MediaType>,
    ) -> Result<()> {
        let artifact_type = artifact_type.map(|media_type| media_type.to_string());
        self.each(digest, |entry| entry.artifact_type.clone_from(&artifact_type))
    }

    /// Sets or removes the manifest that the list says something about.
    pub fn set_subject(&mut self, subject: Option<Descriptor>) {
        self.document.subject = subject;
    }

    fn each(&mut self, digest: &Digest, mut edit: impl FnMut(&mut Descriptor)) -> Result<()> {
        let mut found = false;
        for entry in self.document.manifests.iter_mut().filter(|entry| entry.digest == *digest) {
            edit(entry);
            found = true;
        }
        if found { Ok(()) } else { Err(not_listed(digest)) }
    }

    fn only(&mut self, digest: &Digest) -> Result<&mut Descriptor> {
        let mut entries =
            self.document.manifests.iter_mut().filter(|entry| entry.digest == *digest);
        let only = entries.next().ok_or_else(|| not_listed(digest))?;
        match entries.count() {
            0 => Ok(only),
            more => {
                let message = format!("{digest} is listed {} times, expected once", more + 1);
                Err(Error::new(ErrorKind::Invalid, message))
            }
        }
    }
}

fn set(annotations: &mut Annotations, key: String, value: Option<String>) {
    match value {
        Some(value) => annotations.insert(key, value),
        None => annotations.remove(&key),
    };
}

fn check(update: &ListUpdate) -> Result<(), (ErrorKind, String)> {
    let ListUpdate { digest, size, media_type } = update;
    if digest.known_algorithm().is_none() {
        return Err((
            ErrorCode::DigestInvalid.into(),
            format!("digest {digest} cannot be verified"),
        ));
    }
    if *size > i64::MAX as u64 {
        return Err((
            ErrorCode::SizeInvalid.into(),
            format!("size {size} of {digest} is above {}", i64::MAX),
        ));
    }
    if !media_type.is_image() && !media_type.is_index() {
        return Err((
            ErrorKind::Invalid,
            format!("{digest} is of type {media_type}, expected an image or an index"),
        ));
    }
    Ok(())
}

pub(super) fn not_listed(digest: &Digest) -> Error {
    Error::new(ErrorCode::ManifestUnknown, format!("{digest} is not in the list"))
}
