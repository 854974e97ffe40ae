//! Writing to a directory.

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Tag};

use super::Directory;
use super::files::{Files, ROOT, Signatures, digests_of, hex, manifest_name};
use crate::files::{Upload, put_blob};
use crate::layout::unknown_manifest;
use crate::layout::view::{check_size, unknown_blob};
use crate::{Capabilities, Error, Form, Manifest, Precondition, Reopen, Result, Staged, Store};

impl Files {
    fn put_manifest(&self, manifest: &Manifest, tags: &[Tag], when: &Precondition) -> Result<()> {
        if *when != Precondition::None {
            return Err(Error::unsupported(
                "a directory has no tags, so they cannot be moved under a condition",
            ));
        }
        check_size(manifest)?;
        check_type(manifest)?;
        let _lock = self.lock()?;
        self.check_references(manifest)?;
        let digest = manifest.digest();
        let becomes_root = self.becomes_root(manifest, tags)?;
        if !becomes_root || digest.known_algorithm() != Some(Algorithm::Sha256) {
            let name = manifest_name(digest).ok_or_else(|| unnamable(digest))?;
            self.write(&name, manifest.bytes())?;
        }
        if becomes_root { self.replace_root(manifest) } else { Ok(()) }
    }

    fn becomes_root(&self, manifest: &Manifest, tags: &[Tag]) -> Result<bool> {
        let Some(size) = self.root_size()?.filter(|_| tags.is_empty()) else { return Ok(true) };
        if manifest.manifests().is_empty() && size != manifest.bytes().len() as u64 {
            return Ok(false);
        }
        let Some(root) = self.root_bytes()? else { return Ok(true) };
        Ok(root == manifest.bytes() || listed(manifest, &digests_of(&root)).is_some())
    }

    pub(super) fn set_root(&self, digest: &Digest) -> Result<()> {
        let _lock = self.lock()?;
        let manifest = self
            .manifest(digest)?
            .ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known")))?;
        self.replace_root(&manifest)
    }

    /// Makes a manifest the root. What was the root before gets its own name, with its signatures.
    fn replace_root(&self, manifest: &Manifest) -> Result<()> {
        let root = self.root_bytes()?;
        if root.as_ref() == Some(manifest.bytes()) {
            return Ok(());
        }
        if let Some(root) = root {
            let digests = digests_of(&root);
            let own = listed(manifest, &digests).unwrap_or(&digests[0]);
            let name = manifest_name(own).ok_or_else(|| unnamable(own))?;
            self.write(&name, &root)?;
            self.move_signatures(&Signatures::OfRoot, &own_signatures(own)?)?;
        }
        self.write(ROOT, manifest.bytes())?;
        let own = own_signatures(manifest.digest())?;
        self.move_signatures(&own, &Signatures::OfRoot)?;
        match manifest_name(&digests_of(manifest.bytes())[0]) {
            Some(name) => self.remove(&name).map(drop),
            None => Ok(()),
        }
    }

    fn move_signatures(&self, from: &Signatures, to: &Signatures) -> Result<()> {
        let count = self.signatures(from)?.len();
        (1..=count).try_for_each(|number| self.rename(&from.name(number), &to.name(number)))
    }

    fn check_references(&self, manifest: &Manifest) -> Result<()> {
        let sparse = self.options().sparse;
        let root = match manifest.references().any(|it| it.form == Form::Either) {
            true => self.root_bytes()?,
            false => None,
        };
        let digests = root.as_ref().map(|root| digests_of(root));
        for referenced in manifest.references() {
            let digest = referenced.digest;
            let mut found = self.blob_size(digest)?;
            if found.is_none() && referenced.form == Form::Either {
                let is_root = digests.as_ref().is_some_and(|digests| digests.contains(digest));
                found = match &root {
                    Some(root) if is_root => Some(root.len() as u64),
                    _ => self.manifest_size(digest)?,
                };
            }
            referenced.check(manifest, found, sparse && referenced.form == Form::Either)?;
        }
        Ok(())
    }

    fn put_signatures(&self, digest: &Digest, signatures: &[Bytes]) -> Result<()> {
        let _lock = self.lock()?;
        let names = self.names_of_signatures(digest)?;
        for (position, signature) in signatures.iter().enumerate() {
            self.write(&names.name(position + 1), signature)?;
        }
        self.remove_signatures(&names, signatures.len())
    }

    /// Where the signatures of a manifest go that is here.
    fn names_of_signatures(&self, digest: &Digest) -> Result<Signatures> {
        if self.is_root(digest)? {
            return Ok(Signatures::OfRoot);
        }
        if !self.has_own_file(digest)? {
            return Err(unknown_manifest(format!("manifest {digest} is not known")));
        }
        own_signatures(digest)
    }

    /// Removes the signatures after the first so many.
    fn remove_signatures(&self, names: &Signatures, keep: usize) -> Result<()> {
        let mut number = keep + 1;
        while self.remove(&names.name(number))? {
            number += 1;
        }
        Ok(())
    }

    fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let _lock = self.lock()?;
        let names = self.names_of_signatures(digest)?;
        self.remove_signatures(&names, 0)?;
        if let Signatures::OfRoot = names {
            self.remove(ROOT)?;
        }
        match manifest_name(digest) {
            Some(name) => self.remove(&name).map(drop),
            None => Ok(()),
        }
    }

    fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let _lock = self.lock()?;
        match hex(digest) {
            Some(name) if self.remove(name)? => Ok(()),
            _ => Err(unknown_blob(digest)),
        }
    }
}

/// Of some digests the one by which a list lists it.
fn listed<'a>(list: &Manifest, digests: &'a [Digest]) -> Option<&'a Digest> {
    let is_listed =
        |digest: &&Digest| list.manifests().iter().any(|child| child.digest == **digest);
    digests.iter().find(is_listed)
}

fn own_signatures(digest: &Digest) -> Result<Signatures> {
    Signatures::of(digest).ok_or_else(|| unnamable(digest))
}

fn unnamable(digest: &Digest) -> Error {
    let message = format!("digest {digest} cannot be a name: its algorithm is not known");
    Error::new(ErrorCode::DigestInvalid, message)
}

/// Refuses a manifest whose type is not what its bytes say.
fn check_type(manifest: &Manifest) -> Result<()> {
    let found = Manifest::parse(manifest.bytes().clone(), None, Some(manifest.digest()));
    match found {
        Ok(found) if found.media_type() == manifest.media_type() => Ok(()),
        _ => Err(Error::unsupported(format!(
            "manifest {} does not say that it is {}, and a directory keeps no media types",
            manifest.digest(),
            manifest.media_type()
        ))),
    }
}

#[async_trait]
impl Store for Directory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            sparse: Some(self.files.options().sparse),
            signatures: true,
            ..Capabilities::default()
        }
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        put_blob(&self.files, descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Ok(Box::new(Upload::begin(self.files.clone(), algorithm).await?))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let (manifest, tags, when) = (manifest.clone(), tags.to_vec(), when.clone());
        self.blocking(move |files| files.put_manifest(&manifest, &tags, &when)).await
    }

    async fn put_signatures(&self, manifest: &Digest, signatures: &[Bytes]) -> Result<()> {
        if signatures.is_empty() {
            return Ok(());
        }
        let (manifest, signatures) = (manifest.clone(), signatures.to_vec());
        self.blocking(move |files| files.put_signatures(&manifest, &signatures)).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        Err(unknown_manifest(format!("tag {tag} is not known: a directory has no tags")))
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.blocking(move |files| files.delete_manifest(&digest)).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let digest = digest.clone();
        self.blocking(move |files| files.delete_blob(&digest)).await
    }
}
