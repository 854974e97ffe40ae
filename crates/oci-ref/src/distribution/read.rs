//! Reading a repository.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use oci_spec_types::{Descriptor, Digest, MediaType, Name, Tag};

use super::DistributionRepository;
use super::files::{Files, data_name, tags, unknown_repository};
use super::list;
use crate::layout::unknown_manifest;
use crate::layout::view::{referrers_page, tags_page, unknown_blob};
use crate::{
    Blob, BlobRead, ByteRange, Cursor, Error, ErrorKind, Manifest, ManifestError, Page, Referrers,
    Result, Source, Target,
};

impl Files {
    fn resolve_target(&self, name: &Name, target: &Target) -> Result<Digest> {
        match target {
            Target::Digest(digest) | Target::Pinned(_, digest) => Ok(digest.clone()),
            Target::Tag(tag) => self
                .tag(name, tag)?
                .ok_or_else(|| unknown_manifest(format!("tag {tag} is not known in {name}"))),
        }
    }

    fn manifest_of(&self, name: &Name, target: &Target) -> Result<Manifest> {
        let digest = self.resolve_target(name, target)?;
        let stored = self.manifest(name, &digest)?.ok_or_else(|| {
            unknown_manifest(format!("manifest {digest} is not in repository {name}"))
        })?;
        let file = data_name(&stored);
        let bytes = self.document(&stored)?.ok_or_else(|| {
            unknown_manifest(format!(
                "manifest {digest} is in repository {name}, but there is no {file}"
            ))
        })?;
        // Its type is not kept beside it; distribution finds it in the document as well.
        Manifest::parse(bytes, None, Some(&digest)).map_err(|error| match &error {
            ManifestError::Digest(_) => {
                let message = format!("{file} is damaged: {error}");
                Error::new(ErrorKind::Internal, message).with_source(error)
            }
            _ => Error::from(error),
        })
    }

    fn blob_of(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<(Digest, crate::files::Part)>> {
        let Some(stored) = self.layer(name, digest)? else { return Ok(None) };
        Ok(self.blob(&stored)?.map(|part| (stored, part)))
    }
}

/// All of a blob, whose last bytes come only if all are right.
fn verified(
    files: &Arc<Files>,
    digest: &Digest,
    stored: Digest,
    read: BlobRead,
) -> Result<BlobRead> {
    let expected = Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), read.size);
    let (files, digest) = (files.clone(), digest.clone());
    let body = Blob::new(expected, read.body)?
        .map_err(move |error| match error.kind() {
            ErrorKind::Code(_) => files.note_damaged(&digest, &stored, &error),
            _ => error,
        })
        .boxed();
    Ok(BlobRead { body, ..read })
}

#[async_trait]
impl Source for DistributionRepository {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let target = target.clone();
        self.blocking(move |files, name| files.manifest_of(name, &target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = digest.clone();
        let size = move |files: &Files, name: &Name| {
            Ok(files.blob_of(name, &digest)?.map(|(_, part)| part.size()))
        };
        self.blocking(size).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let wanted = digest.clone();
        let open = move |files: &Files, name: &Name| {
            files.check_undamaged(&wanted)?;
            let found = files.blob_of(name, &wanted)?;
            let (stored, part) = found.ok_or_else(|| unknown_blob(&wanted))?;
            let read = part.open(range, &format!("blob {wanted}"), data_name(&stored))?;
            Ok((stored, read))
        };
        let (stored, read) = self.blocking(open).await?;
        match range {
            ByteRange::All => verified(&self.files, digest, stored, read),
            _ => Ok(read),
        }
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let all = |files: &Files, name: &Name| {
            let mut found = Vec::new();
            for (entry, _) in files.list(&tags(name))? {
                let Ok(tag) = entry.parse() else { continue };
                if files.tag(name, &tag)?.is_some() {
                    found.push(tag);
                }
            }
            match found.is_empty() && files.list(&super::files::repository(name))?.is_empty() {
                true => Err(unknown_repository(name)),
                false => Ok(found),
            }
        };
        tags_page(self.blocking(all).await?, after, limit)
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let subject = subject.clone();
        let search = move |files: &Files, name: &Name| {
            let mut found = Vec::new();
            for digest in list::contents(files, name)?.manifests.into_keys() {
                // Those that are damaged, or schema 1, are about nothing.
                let Ok(manifest) = files.manifest_of(name, &Target::Digest(digest)) else {
                    continue;
                };
                if manifest.subject().is_some_and(|about| about.digest == subject) {
                    found.extend(manifest.as_referrer());
                }
            }
            Ok(found)
        };
        referrers_page(self.blocking(search).await?, artifact_type, after, limit)
    }
}
