//! From columns to types, and the rows that everything else hangs on.

use std::str::FromStr;

use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome, corrupt};
use super::run::Db;
use crate::metadata::Content;
use crate::objects::ObjectKey;

/// A text that was stored as a type.
pub(super) fn parse<T: FromStr>(what: &str, text: &str) -> Outcome<T> {
    text.parse().map_err(|_| corrupt(what, &text))
}

/// A size that was stored.
pub(super) fn size(found: i64) -> Outcome<u64> {
    u64::try_from(found).map_err(|_| corrupt("a size", &found))
}

/// A size as PostgreSQL stores it. No content comes near the limit.
pub(super) fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A limit as PostgreSQL takes it.
pub(super) fn stored_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Where bytes lie, from the columns `object` and `data`.
pub(super) fn content(object: Option<String>, data: Option<Vec<u8>>) -> Outcome<Content> {
    match (object, data) {
        (Some(key), None) => Ok(Content::Object(object_key(&key)?)),
        (None, Some(data)) => Ok(Content::Inline(data.into())),
        neither => Err(corrupt("a place of content", &neither.0)),
    }
}

/// The columns `object` and `data`.
pub(super) fn columns(content: &Content) -> (Option<&str>, Option<&[u8]>) {
    match content {
        Content::Inline(data) => (None, Some(data)),
        Content::Object(key) => (Some(key.as_str()), None),
    }
}

pub(super) fn object_key(text: &str) -> Outcome<ObjectKey> {
    ObjectKey::parse(text).ok_or_else(|| corrupt("an object key", &text))
}

/// A repository, if it exists.
pub(super) async fn repository(db: &Db, name: &Name) -> Outcome<Option<i64>> {
    db.value("SELECT id FROM repository WHERE name = $1", &[&name.as_str()]).await
}

/// A repository that exists from now on. Its lock must be held, so that nobody removes it meanwhile.
pub(super) async fn make_repository(db: &Db, name: &Name) -> Outcome<i64> {
    if let Some(id) = repository(db, name).await? {
        return Ok(id);
    }
    let made = db
        .value(
            "INSERT INTO repository (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id",
            &[&name.as_str()],
        )
        .await?;
    match made {
        Some(id) => Ok(id),
        // Somebody else was quicker, and has committed.
        None => repository(db, name).await?.ok_or(Failure::Raced),
    }
}

/// A blob that a repository has.
pub(super) async fn linked_blob(db: &Db, repository: i64, digest: &Digest) -> Outcome<Option<i64>> {
    db.value(
        "SELECT blob.id FROM blob JOIN repository_blob ON repository_blob.blob = blob.id
         WHERE blob.digest = $2 AND repository_blob.repository = $1",
        &[&repository, &digest.as_str()],
    )
    .await
}

/// A manifest that a repository has: the id of its link.
pub(super) async fn linked_manifest(
    db: &Db,
    repository: i64,
    digest: &Digest,
) -> Outcome<Option<i64>> {
    db.value(
        "SELECT link.id FROM manifest JOIN repository_manifest AS link ON link.manifest = manifest.id
         WHERE manifest.digest = $2 AND link.repository = $1",
        &[&repository, &digest.as_str()],
    )
    .await
}
