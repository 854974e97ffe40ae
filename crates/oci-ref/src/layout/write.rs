//! Writing to a layout.

use async_trait::async_trait;
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Tag};

use super::disk::Disk;
use super::index::Entries;
use super::reach::find;
use super::view::{Blobs, read_manifest};
use super::{Layout, marker, unknown_manifest};
use crate::files::{Upload, put_blob};
use crate::{
    Capabilities, Error, ErrorKind, Form, Manifest, Precondition, Reopen, Result, Staged, Store,
};

/// Fails if a condition does not hold for a name.
pub(super) fn demand(entries: &Entries, name: &str, when: &Precondition) -> Result<()> {
    entries.check(name, when).map_err(|found| {
        let message = format!("{found}, which is not what the request demands");
        Error::new(ErrorKind::PreconditionFailed, message)
    })
}

impl Disk {
    /// Changes the entries of `index.json` as they are now. Nobody else changes them meanwhile. `change` may write
    /// blobs, which get listed after it; what `index.json` no longer lists is removed by `then`.
    pub(super) fn update(
        &self,
        change: impl FnOnce(&mut Entries) -> Result<()>,
        then: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let _lock = marker::lock(self.root())?;
        let before = self.read_index()?;
        let mut entries = Entries::clone(&before);
        change(&mut entries)?;
        if entries != *before {
            self.write_index(&entries)?;
        }
        then()
    }

    fn put_manifest(&self, manifest: &Manifest, tags: &[Tag], when: &Precondition) -> Result<()> {
        let change = |entries: &mut Entries| {
            for tag in tags {
                demand(entries, tag.as_str(), when)?;
            }
            self.check_references(manifest)?;
            self.write_manifest(manifest)?;
            entries.put(manifest, tags);
            Ok(())
        };
        self.update(change, || Ok(()))
    }

    fn check_references(&self, manifest: &Manifest) -> Result<()> {
        let sparse = self.options().sparse;
        for referenced in manifest.references() {
            // Manifests and blobs lie in one place.
            let found = self.blob_size(referenced.digest)?;
            referenced.check(manifest, found, sparse && referenced.form == Form::Either)?;
        }
        Ok(())
    }

    fn delete_tag(&self, tag: &Tag) -> Result<()> {
        let change = |entries: &mut Entries| match entries.unname(tag.as_str()) {
            true => Ok(()),
            false => Err(unknown_manifest(format!("tag {tag} is not known"))),
        };
        self.update(change, || Ok(()))
    }

    fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let shared = self.options().shared_blobs.is_some();
        let change = |entries: &mut Entries| {
            let entry = find(self, entries, digest)?
                .ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known")))?;
            entries.remove(digest);
            if shared && find(self, entries, digest)?.is_some() {
                return Err(Error::unsupported(format!(
                    "manifest {digest} is listed by an index, and its file, in a directory that layouts share, cannot be removed"
                )));
            }
            // A manifest that is broken can be deleted too; what it listed is then not known.
            if let Ok(Some(manifest)) = read_manifest(self, &entry) {
                for child in manifest.manifests() {
                    // Blobs go when nothing references them any more, as those of images do.
                    let is_blob = child.media_type.is_layer() || child.media_type.is_config();
                    if !is_blob && self.blob_size(&child.digest)?.is_some() {
                        entries.keep(child);
                    }
                }
            }
            Ok(())
        };
        self.update(change, || match shared {
            true => Ok(()),
            false => self.remove_blob(digest).map(|_| ()),
        })
    }

    fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let unknown = |what: &str| {
            Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known{what}"))
        };
        if self.options().shared_blobs.is_some() {
            return Err(Error::unsupported(format!(
                "blob {digest} lies in a directory that layouts share, where nothing is removed"
            )));
        }
        let change = |entries: &mut Entries| match find(self, entries, digest)? {
            Some(entry) if entry.media_type.is_manifest() => Err(unknown(", it is a manifest")),
            Some(_) => {
                let message = format!("blob {digest} is listed by an index, or in index.json");
                Err(Error::new(ErrorCode::Denied, message))
            }
            None => Ok(()),
        };
        self.update(change, || match self.remove_blob(digest)? {
            true => Ok(()),
            false => Err(unknown("")),
        })
    }
}

#[async_trait]
impl Store for Layout {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_types: Some(vec![MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX]),
            sparse: Some(self.disk.options().sparse),
            preconditions: true,
            ..Capabilities::default()
        }
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        put_blob(&self.disk, descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Ok(Box::new(Upload::begin(self.disk.clone(), algorithm).await?))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let (manifest, tags, when) = (manifest.clone(), tags.to_vec(), when.clone());
        self.blocking(move |disk| disk.put_manifest(&manifest, &tags, &when)).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        let tag = tag.clone();
        self.blocking(move |disk| disk.delete_tag(&tag)).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.blocking(move |disk| disk.delete_manifest(&digest)).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.blocking(move |disk| disk.delete_blob(&digest)).await
    }
}
