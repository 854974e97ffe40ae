//! Questions of a check about the database itself, and its repairs.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::failure::Outcome;
use super::{remove, rows};
use crate::metadata::{Content, columns};
use crate::objects::ObjectKey;

/// The most problems of the database that are told.
const MAX_PROBLEMS: usize = 100;

/// What SQLite finds wrong in its file.
pub(super) fn database(db: &Connection) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    let mut check = db.prepare(&format!("PRAGMA integrity_check({MAX_PROBLEMS})"))?;
    for line in check.query_map([], |row| row.get::<_, String>(0))? {
        problems.push(line?);
    }
    problems.retain(|line| line != "ok");
    let mut check = db.prepare("PRAGMA foreign_key_check")?;
    let keys =
        check.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?;
    for key in keys.take(MAX_PROBLEMS) {
        let (table, parent) = key?;
        problems.push(format!("a row of {table} names a row of {parent} that is not there"));
    }
    Ok(problems)
}

pub(super) fn last_ids(db: &Connection) -> Outcome<(i64, i64)> {
    let mut find = db.prepare_cached(
        "SELECT (SELECT coalesce(max(id), 0) FROM blob), (SELECT coalesce(max(id), 0) FROM repository_manifest)",
    )?;
    Ok(find.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

pub(super) fn unknown_objects(db: &Connection, keys: Vec<ObjectKey>) -> Outcome<Vec<ObjectKey>> {
    let mut known = db.prepare_cached(
        "SELECT 1 FROM blob WHERE object = ?1 UNION ALL SELECT 1 FROM pending_object WHERE key = ?1",
    )?;
    let mut unknown = Vec::new();
    for key in keys {
        if !known.exists([key.as_str()])? {
            unknown.push(key);
        }
    }
    Ok(unknown)
}

pub(super) fn discard_blob(
    db: &Connection,
    blob: i64,
    content: &Content,
    delete_after: i64,
) -> Outcome<bool> {
    let (object, data) = columns::place(content);
    let mut find =
        db.prepare_cached("SELECT 1 FROM blob WHERE id = ?1 AND object IS ?2 AND data IS ?3")?;
    if !find.exists((blob, object, data))? {
        return Ok(false);
    }
    let mut list = db.prepare_cached("SELECT repository FROM repository_blob WHERE blob = ?1")?;
    let repositories = list.query_map([blob], |row| row.get::<_, i64>(0))?;
    for repository in repositories.collect::<rusqlite::Result<BTreeSet<_>>>()? {
        for statement in [
            "INSERT OR IGNORE INTO missing_blob (parent, repository, digest)
             SELECT parent, repository, digest FROM manifest_blob JOIN blob ON blob.id = manifest_blob.blob
             WHERE manifest_blob.repository = ?1 AND manifest_blob.blob = ?2",
            "DELETE FROM manifest_blob WHERE repository = ?1 AND blob = ?2",
            "DELETE FROM repository_blob WHERE repository = ?1 AND blob = ?2",
        ] {
            db.prepare_cached(statement)?.execute((repository, blob))?;
        }
        rows::drop_if_empty(db, repository)?;
    }
    db.prepare_cached("DELETE FROM blob WHERE id = ?1")?.execute([blob])?;
    if let Some(key) = object {
        db.prepare_cached("INSERT INTO pending_object (key, delete_after) VALUES (?1, ?2)")?
            .execute((key, delete_after))?;
    }
    Ok(true)
}

pub(super) fn discard_manifest(db: &Connection, link: i64, now: i64) -> Outcome<bool> {
    let mut find = db.prepare_cached(
        "SELECT 1 FROM repository_manifest WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM tag WHERE manifest = ?1)",
    )?;
    if !find.exists([link])? {
        return Ok(false);
    }
    remove::unlink(db, link, now, now)?;
    Ok(true)
}

pub(super) fn setting(db: &Connection, name: &str) -> Outcome<Option<Vec<u8>>> {
    let mut find = db.prepare_cached("SELECT value FROM setting WHERE name = ?1")?;
    Ok(find.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn set_setting(db: &Connection, name: &str, value: Option<&[u8]>) -> Outcome<()> {
    match value {
        Some(value) => db
            .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES (?1, ?2)")?
            .execute((name, value))?,
        None => db.prepare_cached("DELETE FROM setting WHERE name = ?1")?.execute([name])?,
    };
    Ok(())
}
