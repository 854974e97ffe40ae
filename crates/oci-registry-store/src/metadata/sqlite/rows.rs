//! The rows that everything else hangs on.

use oci_ref::{Form, Referenced};
use oci_spec_types::{Digest, Name};
use rusqlite::{Connection, OptionalExtension};

use super::failure::Outcome;
use crate::metadata::columns;

/// A repository, if it exists.
pub(super) fn repository(db: &Connection, name: &Name) -> Outcome<Option<i64>> {
    let mut find = db.prepare_cached("SELECT id FROM repository WHERE name = ?1")?;
    Ok(find.query_row([name.as_str()], |row| row.get(0)).optional()?)
}

/// A repository that exists from now on.
pub(super) fn make_repository(db: &Connection, name: &Name) -> Outcome<i64> {
    if let Some(id) = repository(db, name)? {
        return Ok(id);
    }
    db.prepare_cached("INSERT INTO repository (name) VALUES (?1)")?.execute([name.as_str()])?;
    Ok(db.last_insert_rowid())
}

/// Removes a repository that has nothing any more. `false` if it has.
pub(super) fn drop_if_empty(db: &Connection, repository: i64) -> Outcome<bool> {
    let dropped = db
        .prepare_cached(
            "DELETE FROM repository WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository = ?1)
         AND NOT EXISTS (SELECT 1 FROM repository_manifest WHERE repository = ?1)",
        )?
        .execute([repository])?;
    Ok(dropped == 1)
}

/// A blob that a repository has.
pub(super) fn linked_blob(
    db: &Connection,
    repository: i64,
    digest: &Digest,
) -> Outcome<Option<i64>> {
    let mut find = db.prepare_cached(
        "SELECT blob.id FROM blob JOIN repository_blob ON repository_blob.blob = blob.id
         WHERE blob.digest = ?2 AND repository_blob.repository = ?1",
    )?;
    Ok(find.query_row((repository, digest.as_str()), |row| row.get(0)).optional()?)
}

/// Content of a repository under a digest that a manifest references.
#[derive(Default)]
pub(super) struct Here {
    /// The blob.
    pub(super) blob: Option<i64>,
    /// The size of the blob, or of the manifest.
    pub(super) size: Option<u64>,
}

/// Looks once for what a repository has under a digest that a manifest references.
pub(super) fn referenced(
    db: &Connection,
    repository: i64,
    referenced: &Referenced<'_>,
) -> Outcome<Here> {
    let mut find = db.prepare_cached(match referenced.form {
        Form::Blob => {
            "SELECT blob.id, blob.size FROM blob JOIN repository_blob ON repository_blob.blob = blob.id
             WHERE blob.digest = ?2 AND repository_blob.repository = ?1"
        }
        Form::Either => {
            "SELECT blob.id, blob.size FROM blob JOIN repository_blob ON repository_blob.blob = blob.id
             WHERE blob.digest = ?2 AND repository_blob.repository = ?1
             UNION ALL
             SELECT NULL, manifest.size FROM manifest
             JOIN repository_manifest AS link ON link.manifest = manifest.id
             WHERE manifest.digest = ?2 AND link.repository = ?1"
        }
    })?;
    let mut found = find.query((repository, referenced.digest.as_str()))?;
    let mut here = Here::default();
    while let Some(row) = found.next()? {
        here.blob = here.blob.or(row.get(0)?);
        here.size = Some(columns::size(row.get(1)?)?);
    }
    Ok(here)
}

/// A manifest that a repository has: the id of its link.
pub(super) fn linked_manifest(
    db: &Connection,
    repository: i64,
    digest: &Digest,
) -> Outcome<Option<i64>> {
    let mut find = db.prepare_cached(
        "SELECT link.id FROM manifest JOIN repository_manifest AS link ON link.manifest = manifest.id
         WHERE manifest.digest = ?2 AND link.repository = ?1",
    )?;
    Ok(find.query_row((repository, digest.as_str()), |row| row.get(0)).optional()?)
}
