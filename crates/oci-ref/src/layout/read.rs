//! Reading a layout.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_spec_types::{Descriptor, Digest, ErrorCode, Tag};

use super::disk::Disk;
use super::{Layout, blocking, index, unknown_manifest};
use crate::{
    BlobRead, Body, ByteRange, Cursor, Error, ErrorKind, Manifest, Page, Referrers, Result, Source,
    Target,
};

/// How many bytes of a blob are read at a time.
const CHUNK: u64 = 256 << 10;

impl Disk {
    fn manifest(&self, target: &Target) -> Result<Manifest> {
        let index = self.read_index()?;
        let unknown_tag = |tag: &Tag| unknown_manifest(format!("tag {tag} is not known"));
        let entry = match target {
            Target::Digest(digest) => self
                .find(&index, digest)?
                .ok_or_else(|| unknown_manifest(format!("manifest {digest} is not known")))?,
            Target::Tag(tag) => {
                index.named(tag.as_str()).cloned().ok_or_else(|| unknown_tag(tag))?
            }
            Target::Pinned(tag, expected) => {
                let entry = index.named(tag.as_str()).ok_or_else(|| unknown_tag(tag))?;
                if entry.digest != *expected {
                    let found = &entry.digest;
                    let message = format!("tag {tag} names {found}, expected {expected}");
                    return Err(unknown_manifest(message));
                }
                entry.clone()
            }
        };
        self.listed_manifest(&entry)
    }

    fn open_range(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let (mut file, size) = self.open_blob(digest)?.ok_or_else(|| {
            Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known"))
        })?;
        let range = range.within(size).ok_or_else(|| {
            Error::new(
                ErrorKind::RangeInvalid { size },
                format!("blob {digest} has {size} bytes, none in {range:?}"),
            )
        })?;
        file.seek(SeekFrom::Start(range.start))
            .map_err(|error| self.failed(digest, "read", error))?;
        Ok(BlobRead {
            size,
            body: chunks(file, range.end - range.start, self.blob_name(digest)),
            range,
        })
    }
}

/// The next so many bytes of a file.
fn chunks(file: File, remaining: u64, name: String) -> Body {
    let state = Some((file, remaining));
    futures_util::stream::unfold(state, move |state| {
        let name = name.clone();
        async move {
            let (file, remaining) = state?;
            if remaining == 0 {
                return None;
            }
            match blocking(move || next_chunk(file, remaining, &name)).await {
                Ok((chunk, file)) => {
                    let left = remaining - chunk.len() as u64;
                    Some((Ok(chunk), Some((file, left))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

fn next_chunk(file: File, remaining: u64, name: &str) -> Result<(Bytes, File)> {
    let mut chunk = Vec::with_capacity(remaining.min(CHUNK) as usize);
    let mut part = file.take(remaining.min(CHUNK));
    part.read_to_end(&mut chunk)
        .map_err(|error| Error::io(format!("{name} cannot be read"), error))?;
    if chunk.is_empty() {
        let message =
            format!("{name} ends {remaining} bytes early: it was changed while it was read");
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok((chunk.into(), part.into_inner()))
}

#[async_trait]
impl Source for Layout {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.manifest(target).await?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        let target = target.clone();
        self.blocking(move |disk| disk.manifest(&target)).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let digest = digest.clone();
        self.blocking(move |disk| disk.blob_size(&digest)).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let digest = digest.clone();
        self.blocking(move |disk| disk.open_range(&digest, range)).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let after = after.map(Cursor::name).transpose()?;
        let index = self.blocking(Disk::read_index).await?;
        let names = index.entries().iter().filter_map(index::name);
        let mut tags: Vec<Tag> = names
            .filter(|name| after.is_none_or(|after| *name > after))
            .filter_map(|name| name.parse().ok())
            .collect();
        tags.sort_unstable();
        tags.dedup();
        Ok(Page::first(tags, limit, Tag::to_string))
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let after = after.map(Cursor::name).transpose()?;
        let subject = subject.clone();
        let found =
            self.blocking(move |disk| disk.referrers(&*disk.read_index()?, &subject)).await?;
        let wanted = found
            .into_values()
            .filter(|descriptor| after.is_none_or(|after| descriptor.digest.as_str() > after))
            .filter(|descriptor| {
                artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
            });
        Ok(Referrers {
            page: Page::first(wanted, limit, |descriptor| descriptor.digest.to_string()),
            filtered: artifact_type.is_some(),
        })
    }
}
