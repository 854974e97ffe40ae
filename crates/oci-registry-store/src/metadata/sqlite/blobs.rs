//! The transactions about blobs.

use oci_spec_types::{Digest, Name};
use rusqlite::{Connection, ErrorCode as Sql, OptionalExtension};

use super::failure::Outcome;
use super::recent::Held;
use super::{rows, sessions};
use crate::metadata::{BlobRecord, Content, NewBlob, Stored, columns, refusals};
use crate::objects::ObjectKey;

/// The size of a blob, and what holds it.
pub(super) fn size(
    db: &Connection,
    repository: &Name,
    digest: &Digest,
) -> Outcome<Option<(u64, Held)>> {
    // What is no candidate is referenced.
    let mut find = db.prepare_cached(
        "SELECT blob.size, CASE WHEN EXISTS (
             SELECT 1 FROM manifest_blob
             WHERE manifest_blob.repository = link.repository AND manifest_blob.blob = link.blob)
         THEN NULL ELSE link.candidate_since END
         FROM blob
         JOIN repository_blob AS link ON link.blob = blob.id
         JOIN repository ON repository.id = link.repository
         WHERE blob.digest = ?2 AND repository.name = ?1",
    )?;
    let values = (repository.as_str(), digest.as_str());
    let found: Option<(i64, Option<i64>)> =
        find.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match found {
        Some((size, since)) => {
            Ok(Some((columns::size(size)?, since.map_or(Held::FAST, Held::since))))
        }
        None => Ok(None),
    }
}

pub(super) fn renew(db: &Connection, name: &Name, digest: &Digest, now: i64) -> Outcome<bool> {
    let Some(repository) = rows::repository(db, name)? else { return Ok(false) };
    let Some(blob) = rows::linked_blob(db, repository, digest)? else { return Ok(false) };
    renew_link(db, repository, blob, now)?;
    Ok(true)
}

fn renew_link(db: &Connection, repository: i64, blob: i64, now: i64) -> Outcome<()> {
    // A comparison with NULL does not hold.
    db.prepare_cached(
        "UPDATE repository_blob SET candidate_since = ?3
         WHERE repository = ?1 AND blob = ?2 AND candidate_since < ?3",
    )?
    .execute((repository, blob, now))?;
    Ok(())
}

pub(super) fn get(
    db: &Connection,
    repository: &Name,
    digest: &Digest,
) -> Outcome<Option<BlobRecord>> {
    let mut find = db.prepare_cached(
        "SELECT blob.size, blob.object, blob.data FROM blob
         JOIN repository_blob ON repository_blob.blob = blob.id
         JOIN repository ON repository.id = repository_blob.repository
         WHERE blob.digest = ?2 AND repository.name = ?1",
    )?;
    let found = find.query_row((repository.as_str(), digest.as_str()), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    });
    match found.optional()? {
        Some((size, object, data)) => Ok(Some(BlobRecord {
            size: columns::size(size)?,
            content: columns::content(object, data)?,
        })),
        None => Ok(None),
    }
}

pub(super) fn commit(db: &Connection, new: &NewBlob) -> Outcome<Stored> {
    if let Some(session) = &new.session {
        sessions::close(db, session, Some(&new.digest))?;
    }
    let repository = rows::make_repository(db, &new.repository)?;
    let mut find = db.prepare_cached("SELECT id FROM blob WHERE digest = ?1")?;
    let known: Option<i64> = find.query_row([new.digest.as_str()], |row| row.get(0)).optional()?;
    let (blob, stored) = match known {
        Some(blob) => (blob, Stored::Known),
        None => (insert(db, new)?, Stored::Taken),
    };
    link(db, repository, blob, new.now)?;
    Ok(stored)
}

fn insert(db: &Connection, new: &NewBlob) -> Outcome<i64> {
    if let Content::Object(key) = &new.content {
        take_pending(db, key)?;
    }
    let (object, data) = columns::place(&new.content);
    db.prepare_cached("INSERT INTO blob (digest, size, object, data) VALUES (?1, ?2, ?3, ?4)")?
        .execute((new.digest.as_str(), columns::stored_size(new.size), object, data))?;
    Ok(db.last_insert_rowid())
}

/// The object is a blob's from now on.
fn take_pending(db: &Connection, key: &ObjectKey) -> Outcome<()> {
    let taken = db
        .prepare_cached("DELETE FROM pending_object WHERE key = ?1 AND delete_after IS NULL")?
        .execute([key.as_str()])?;
    match taken {
        1 => Ok(()),
        _ => Err(sessions::not_pending(key).into()),
    }
}

/// Puts a blob into a repository. What was referenced there before it came is referenced from now on.
fn link(db: &Connection, repository: i64, blob: i64, now: i64) -> Outcome<()> {
    let linked = db
        .prepare_cached(
            "INSERT INTO repository_blob (repository, blob, candidate_since) VALUES (?1, ?2, ?3)
             ON CONFLICT DO NOTHING",
        )?
        .execute((repository, blob, now))?;
    if linked == 0 {
        return renew_link(db, repository, blob, now);
    }
    let found = db
        .prepare_cached(
            "INSERT OR IGNORE INTO manifest_blob (parent, repository, blob)
             SELECT missing.parent, ?1, ?2 FROM missing_blob AS missing
             WHERE missing.repository = ?1 AND missing.digest = (SELECT digest FROM blob WHERE id = ?2)
             UNION ALL
             SELECT listed.parent, ?1, ?2 FROM manifest_child AS listed
             WHERE listed.repository = ?1 AND listed.child = (SELECT digest FROM blob WHERE id = ?2)",
        )?
        .execute((repository, blob))?;
    if found > 0 {
        db.prepare_cached(
            "DELETE FROM missing_blob
             WHERE repository = ?1 AND digest = (SELECT digest FROM blob WHERE id = ?2)",
        )?
        .execute((repository, blob))?;
    }
    Ok(())
}

pub(super) fn mount(
    db: &Connection,
    from: &Name,
    to: &Name,
    digest: &Digest,
    now: i64,
) -> Outcome<bool> {
    let Some(source) = rows::repository(db, from)? else { return Ok(false) };
    let Some(blob) = rows::linked_blob(db, source, digest)? else { return Ok(false) };
    let target = rows::make_repository(db, to)?;
    link(db, target, blob, now)?;
    Ok(true)
}

pub(super) fn delete(
    db: &Connection,
    name: &Name,
    digest: &Digest,
    delete_after: i64,
) -> Outcome<()> {
    let unknown = || refusals::unknown_blob(name, digest);
    let repository = rows::repository(db, name)?.ok_or_else(unknown)?;
    let blob = rows::linked_blob(db, repository, digest)?.ok_or_else(unknown)?;
    if let Some(parent) = referenced_by(db, repository, blob)? {
        return Err(refusals::referenced(name, digest, &parent).into());
    }
    unlink(db, repository, blob, delete_after)?;
    Ok(())
}

/// What came of taking a blob out of a repository.
pub(super) enum Unlinked {
    /// Nothing: a key holds it, since a manifest references it.
    Referenced,
    /// Other repositories have it.
    Shared,
    /// No repository has it any more; it had so many bytes.
    Freed(u64),
}

pub(super) fn unlink(
    db: &Connection,
    repository: i64,
    blob: i64,
    delete_after: i64,
) -> Outcome<Unlinked> {
    let unlinked = db
        .prepare_cached("DELETE FROM repository_blob WHERE repository = ?1 AND blob = ?2")?
        .execute((repository, blob));
    match unlinked {
        Err(error) if error.sqlite_error_code() == Some(Sql::ConstraintViolation) => {
            return Ok(Unlinked::Referenced);
        }
        unlinked => unlinked?,
    };
    rows::drop_if_empty(db, repository)?;
    Ok(match drop_unlinked(db, blob, delete_after)? {
        Some(size) => Unlinked::Freed(size),
        None => Unlinked::Shared,
    })
}

/// Deletes a blob that no repository has, and tells its size.
pub(super) fn drop_unlinked(db: &Connection, blob: i64, delete_after: i64) -> Outcome<Option<u64>> {
    let mut drop = db.prepare_cached(
        "DELETE FROM blob WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = ?1)
         RETURNING size, object",
    )?;
    let dropped: Option<(i64, Option<String>)> =
        drop.query_row([blob], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((size, object)) = dropped else { return Ok(None) };
    if let Some(key) = object {
        db.prepare_cached("INSERT INTO pending_object (key, delete_after) VALUES (?1, ?2)")?
            .execute((key, delete_after))?;
    }
    Ok(Some(columns::size(size)?))
}

/// The digest of one manifest of the repository that references the blob.
fn referenced_by(db: &Connection, repository: i64, blob: i64) -> Outcome<Option<String>> {
    let mut find = db.prepare_cached(
        "SELECT manifest.digest FROM manifest_blob
         JOIN repository_manifest AS link ON link.id = manifest_blob.parent
         JOIN manifest ON manifest.id = link.manifest
         WHERE manifest_blob.repository = ?1 AND manifest_blob.blob = ?2 LIMIT 1",
    )?;
    Ok(find.query_row((repository, blob), |row| row.get(0)).optional()?)
}
