//! Content by its descriptor: a manifest or a blob, as its media type says.

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_ref::{
    Blob, Body, ErrorKind, Manifest, Precondition, Reopen, Result, Source, Store, Target,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Tag};

use super::Repository;
use crate::page;
use bytes::Bytes;

/// How many referrers are asked for at a time.
const PAGE: usize = 1000;

/// The most manifests that may refer to one.
const MAX_PREDECESSORS: usize = 100_000;

/// What a registry says of content ([`Repository::fetch_head`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The bytes that it has; as many as its descriptor says where the registry does not tell.
    pub size: u64,
    /// Whether parts of it can be asked for, so that a transfer that broke off can go on. Manifests come whole.
    pub ranges: bool,
}

impl Repository {
    /// Whether the content with this media type is a manifest here; all else is a blob.
    fn is_manifest(&self, descriptor: &Descriptor) -> bool {
        self.client().config().manifest_types.contains(&descriptor.media_type)
    }

    /// Reads a manifest or a blob, verified against its descriptor.
    pub async fn fetch(&self, descriptor: &Descriptor) -> Result<Blob> {
        if !self.is_manifest(descriptor) {
            return Blob::open(self, descriptor).await;
        }
        let target = Target::Digest(descriptor.digest.clone());
        let manifest = self.read_manifest_anywhere(&target, Some(&descriptor.media_type)).await?;
        let bytes = Manifest::verify(descriptor, manifest.bytes().clone())?.bytes().clone();
        let body: Body = stream::once(async move { Ok(bytes) }).boxed();
        Blob::new(descriptor.clone(), body)
    }

    /// Whether a manifest or a blob is there.
    pub async fn exists(&self, descriptor: &Descriptor) -> Result<bool> {
        if !self.is_manifest(descriptor) {
            return Ok(self.ask_blob(&descriptor.digest).await?.is_some());
        }
        match self.resolve(&Target::Digest(descriptor.digest.clone())).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a manifest or a blob, without asking whether it is there.
    pub async fn push(&self, descriptor: &Descriptor, content: Bytes) -> Result<()> {
        if !self.is_manifest(descriptor) {
            return self.put_blob(descriptor, &content as &dyn Reopen).await;
        }
        let manifest = Manifest::verify(descriptor, content)?;
        self.put_manifest(&manifest, &[], &Precondition::None).await
    }

    /// Writes a manifest or a blob, unless it is there.
    pub async fn push_if_missing(&self, descriptor: &Descriptor, content: Bytes) -> Result<()> {
        match self.exists(descriptor).await? {
            true => Ok(()),
            false => self.push(descriptor, content).await,
        }
    }

    /// Writes a manifest under what people write for it: a tag, a digest, `TAG@DIGEST` or a whole reference
    /// ([`parse_reference`](Self::parse_reference)). A digest in it must be the manifest's.
    pub async fn push_reference(
        &self,
        reference: &str,
        descriptor: &Descriptor,
        content: Bytes,
    ) -> Result<()> {
        let target = self.parse_reference(reference)?;
        let manifest = Manifest::verify(descriptor, content)?;
        if let Some(expected) = target.digest().filter(|digest| *digest != manifest.digest()) {
            return Err(oci_ref::Error::new(
                ErrorCode::DigestInvalid,
                format!(
                    "{reference} of {self}: the content has digest {}, expected {expected}",
                    manifest.digest()
                ),
            ));
        }
        let tags: Vec<Tag> = target.tag().cloned().into_iter().collect();
        self.put_manifest(&manifest, &tags, &Precondition::None).await
    }

    /// What the registry says of a manifest or a blob without sending it; `None` if it is not there.
    pub async fn fetch_head(&self, descriptor: &Descriptor) -> Result<Option<Head>> {
        if !self.is_manifest(descriptor) {
            let found = self.ask_blob(&descriptor.digest).await?;
            return Ok(found.map(|found| Head {
                size: found.size.unwrap_or(descriptor.size),
                ranges: found.ranges,
            }));
        }
        match self.resolve(&Target::Digest(descriptor.digest.clone())).await {
            Ok(found) => Ok(Some(Head { size: found.size, ranges: false })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a manifest or a blob.
    pub async fn delete(&self, descriptor: &Descriptor) -> Result<()> {
        match self.is_manifest(descriptor) {
            true => self.delete_manifest(&descriptor.digest).await,
            false => self.delete_blob(&descriptor.digest).await,
        }
    }

    /// Lets a tag name a manifest that is there.
    pub async fn tag(&self, target: &Target, tag: &Tag) -> Result<()> {
        // What is written is the registry's own, not what a mirror has.
        let manifest = self.read_manifest(target).await?;
        self.put_manifest(&manifest, std::slice::from_ref(tag), &Precondition::None).await
    }

    /// The manifests that refer to another, of any type, all of them.
    ///
    /// # Errors
    /// When there are more than 100,000, besides what [`Source::referrers`] says: the list may have no end.
    pub async fn predecessors(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let (repository, listed) = (self.clone(), subject.clone());
        let all = page::stream(None, move |after| {
            let (repository, subject) = (repository.clone(), listed.clone());
            async move {
                Ok(repository.list_referrers(&subject, None, after.as_ref(), PAGE).await?.page)
            }
        });
        let all: Vec<_> = all.take(MAX_PREDECESSORS + 1).try_collect().await?;
        match all.len() > MAX_PREDECESSORS {
            false => Ok(all),
            true => Err(oci_ref::Error::new(
                ErrorKind::TooLarge { limit: MAX_PREDECESSORS as u64 },
                format!("more than {MAX_PREDECESSORS} manifests of {self} refer to {subject}"),
            )),
        }
    }
}
