//! What a check of the stored content reads, and what its repairs write.

use std::collections::BTreeSet;

use bytes::Bytes;
use oci_spec_types::Descriptor;
use rusqlite::{Connection, OptionalExtension};

use super::failure::Outcome;
use super::{collect, remove, rows};
use crate::metadata::columns;
use crate::metadata::misfits::FORGOTTEN_LINK;
use crate::metadata::{Content, Recorded, StoredBlob, StoredManifest, UnknownManifest};
use crate::objects::ObjectKey;

/// The most problems of the database that are told.
const MAX_PROBLEMS: usize = 100;

/// The most tags of a manifest that are told.
const MAX_TAGS: i64 = 10;

/// A page of manifests ends after so many bytes.
const PAGE_BYTES: usize = 4 << 20;

const TAGS: &str = "SELECT name FROM tag WHERE manifest = ?1 LIMIT ?2";

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

pub(super) fn blobs(db: &Connection, after: i64, limit: usize) -> Outcome<Vec<StoredBlob>> {
    let mut list = db.prepare_cached(&format!(
        "SELECT id, digest, size, object, data, (
             SELECT min(repository.name) FROM repository_blob AS link
             JOIN repository ON repository.id = link.repository
             WHERE link.blob = blob.id AND {FORGOTTEN_LINK})
         FROM blob WHERE id > ?1 ORDER BY id LIMIT ?2"
    ))?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let mut blobs = Vec::new();
    while let Some(row) = found.next()? {
        blobs.push(StoredBlob {
            id: row.get(0)?,
            digest: columns::parse("a digest", &row.get::<_, String>(1)?)?,
            size: columns::size(row.get(2)?)?,
            content: columns::content(row.get(3)?, row.get(4)?)?,
            forgotten_in: row
                .get::<_, Option<String>>(5)?
                .map(|name| columns::parse("a repository name", &name))
                .transpose()?,
        });
    }
    Ok(blobs)
}

pub(super) fn manifests(db: &Connection, after: i64, limit: usize) -> Outcome<Vec<StoredManifest>> {
    // A manifest and its references are of one state.
    let state = db.unchecked_transaction()?;
    let mut list = db.prepare_cached(
        "SELECT link.id, repository.name, manifest.digest, link.media_type, manifest.size, link.artifact_type,
                manifest.data
         FROM repository_manifest AS link
         JOIN repository ON repository.id = link.repository
         JOIN manifest ON manifest.id = link.manifest
         WHERE link.id > ?1 ORDER BY link.id LIMIT ?2",
    )?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let id = row.get(0)?;
        let media_type = columns::media_type(&row.get::<_, String>(3)?)?;
        let digest = columns::parse("a digest", &row.get::<_, String>(2)?)?;
        let mut descriptor = Descriptor::new(media_type, digest, columns::size(row.get(4)?)?);
        descriptor.artifact_type = row.get(5)?;
        let data: Vec<u8> = row.get(6)?;
        bytes += data.len();
        page.push(StoredManifest {
            id,
            repository: columns::parse("a repository name", &row.get::<_, String>(1)?)?,
            descriptor,
            bytes: Bytes::from(data),
            tags: texts::<Vec<_>>(db, TAGS, id, MAX_TAGS)?
                .iter()
                .map(|tag| Ok(columns::parse("a tag", tag)?))
                .collect::<Outcome<_>>()?,
            recorded: recorded(db, id)?,
            // If only what is no candidate at all does not count as a root.
            forgotten: !collect::is_held(db, id, i64::MIN)?,
        });
        if bytes > PAGE_BYTES {
            break;
        }
    }
    drop(found);
    drop(list);
    drop(state);
    Ok(page)
}

pub(super) fn unknown_manifests(
    db: &Connection,
    after: i64,
    limit: usize,
) -> Outcome<Vec<UnknownManifest>> {
    let mut list = db.prepare(&columns::unknown_manifests())?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let data: Vec<u8> = row.get(4)?;
        bytes += data.len();
        let digest = columns::parse("a digest", &row.get::<_, String>(1)?)?;
        let media_type = columns::media_type(&row.get::<_, String>(2)?)?;
        let descriptor = Descriptor::new(media_type, digest, columns::size(row.get(3)?)?);
        page.push(UnknownManifest { id: row.get(0)?, descriptor, bytes: data.into() });
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

fn recorded(db: &Connection, link: i64) -> Outcome<Recorded> {
    let all = i64::MAX;
    let mut recorded = Recorded {
        blobs: texts(
            db,
            "SELECT digest FROM manifest_blob JOIN blob ON blob.id = blob WHERE parent = ?1 LIMIT ?2",
            link,
            all,
        )?,
        misplaced: texts(
            db,
            "SELECT missing.digest FROM missing_blob AS missing
             JOIN blob ON blob.digest = missing.digest
             JOIN repository_blob AS link
                 ON link.repository = missing.repository AND link.blob = blob.id
             WHERE missing.parent = ?1 LIMIT ?2",
            link,
            all,
        )?,
        children: texts(
            db,
            "SELECT child FROM manifest_child WHERE parent = ?1 LIMIT ?2",
            link,
            all,
        )?,
        unheld: texts(
            db,
            "SELECT listed.child FROM manifest_child AS listed
             JOIN blob ON blob.digest = listed.child
             JOIN repository_blob AS link
                 ON link.repository = listed.repository AND link.blob = blob.id
             WHERE listed.parent = ?1 AND NOT EXISTS (
                 SELECT 1 FROM manifest_blob AS held
                 WHERE held.parent = listed.parent AND held.blob = blob.id) LIMIT ?2",
            link,
            all,
        )?,
        referrer: None,
    };
    let missing =
        texts(db, "SELECT digest FROM missing_blob WHERE parent = ?1 LIMIT ?2", link, all)?;
    recorded.misplaced.extend(recorded.blobs.intersection(&missing).cloned());
    recorded.blobs.extend(missing);
    let mut find =
        db.prepare_cached("SELECT subject, descriptor FROM referrer WHERE manifest = ?1")?;
    let found = find.query_row([link], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
    if let Some((subject, json)) = found.optional()? {
        let descriptor = serde_json::from_str(&json)
            .map_err(|_| columns::corrupt("the descriptor of a referrer", &json))?;
        recorded.referrer = Some((subject, descriptor));
    }
    Ok(recorded)
}

fn texts<C: FromIterator<String>>(
    db: &Connection,
    query: &str,
    link: i64,
    limit: i64,
) -> Outcome<C> {
    let mut list = db.prepare_cached(query)?;
    let found = list.query_map((link, limit), |row| row.get(0))?;
    Ok(found.collect::<rusqlite::Result<C>>()?)
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
