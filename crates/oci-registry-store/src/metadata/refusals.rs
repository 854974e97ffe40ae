//! What both databases answer where something that is asked for cannot be.

use oci_ref::{Error, ErrorKind, Manifest, Precondition, Result, Target};
use oci_spec_types::{Digest, ErrorCode, Name, Tag};

use super::columns;
use crate::upload::SessionId;

/// The error for a target that stands for nothing.
pub(super) fn unknown(repository: &Name, target: &Target) -> Error {
    match target {
        Target::Digest(digest) | Target::Pinned(_, digest) => unknown_manifest(repository, digest),
        Target::Tag(tag) => unknown_tag(repository, tag),
    }
}

pub(super) fn unknown_manifest(repository: &Name, digest: &Digest) -> Error {
    let message = format!("manifest {digest} is not in repository {repository}");
    Error::new(ErrorCode::ManifestUnknown, message)
}

pub(super) fn unknown_tag(repository: &Name, tag: &Tag) -> Error {
    let message = format!("tag {tag} is not in repository {repository}");
    Error::new(ErrorCode::ManifestUnknown, message)
}

pub(super) fn unknown_blob(repository: &Name, digest: &Digest) -> Error {
    Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not in repository {repository}"))
}

/// The refusal to delete a blob that a manifest references.
pub(super) fn referenced(repository: &Name, digest: &Digest, parent: &str) -> Error {
    let message = format!(
        "blob {digest} is referenced by manifest {parent} of repository {repository}: delete that first"
    );
    Error::new(ErrorCode::Denied, message)
}

/// The error for a claim that does not hold any more, with the offset at which the session truly is; `None` if it has ended.
pub(super) fn lost_claim(id: &SessionId, offset: Option<i64>) -> Result<Error> {
    let Some(offset) = offset else {
        return Ok(Error::new(ErrorCode::BlobUploadUnknown, format!("upload {id} has ended")));
    };
    let size = columns::size(offset)?;
    let message = format!("upload {id} was written by another request, and is at {size} bytes");
    Ok(Error::new(ErrorKind::RangeInvalid { size }, message))
}

/// Whether a tag, which names a digest now or nothing, may be moved.
pub(super) fn check_tag(tag: &Tag, now: Option<&str>, when: &Precondition) -> Result<()> {
    let holds = match when {
        Precondition::None => true,
        Precondition::Exists => now.is_some(),
        Precondition::Absent => now.is_none(),
        Precondition::Matches(digests) => {
            now.is_some_and(|now| digests.iter().any(|digest| digest.as_str() == now))
        }
    };
    if holds {
        return Ok(());
    }
    let now = now.map_or_else(|| "does not exist".to_owned(), |now| format!("names {now}"));
    let message = format!("tag {tag} {now}, which is not what the request demands");
    Err(Error::new(ErrorKind::PreconditionFailed, message))
}

/// Refuses a type with a NUL, of which PostgreSQL takes none in a text, and which is no media type anyway.
pub(crate) fn check_artifact_type(manifest: &Manifest) -> Result<()> {
    let artifact_type = manifest.descriptor().artifact_type.as_deref();
    if artifact_type.is_none_or(|found| !found.contains('\0')) {
        return Ok(());
    }
    let message = format!(
        "the artifactType of manifest {} has a NUL, expected a media type",
        manifest.digest()
    );
    Err(Error::new(ErrorCode::ManifestInvalid, message))
}
