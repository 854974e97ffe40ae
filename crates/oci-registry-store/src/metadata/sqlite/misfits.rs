//! Rows that nobody would ever come upon: found and mended.

use rusqlite::Connection;

use super::failure::Outcome;
use super::{blobs, remove, rows};
use crate::metadata::Misfit;
use crate::metadata::columns;
use crate::metadata::misfits::FORGOTTEN_LINK;

pub(super) fn list(
    db: &Connection,
    kind: Misfit,
    after: i64,
    limit: usize,
) -> Outcome<Vec<(i64, String)>> {
    let mut list = db.prepare(kind.list())?;
    let found = list
        .query_map((after, columns::stored_limit(limit)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn mend(db: &Connection, kind: Misfit, id: i64, delete_after: i64) -> Outcome<bool> {
    match kind {
        Misfit::Condemned => {
            let keep =
                "DELETE FROM pending_object WHERE key = (SELECT object FROM blob WHERE id = ?1)";
            Ok(db.execute(keep, [id])? == 1)
        }
        Misfit::Blob => Ok(blobs::drop_unlinked(db, id, delete_after)?.is_some()),
        Misfit::Manifest => Ok(remove::drop_unlinked(db, id)?.is_some()),
        Misfit::Repository => rows::drop_if_empty(db, id),
    }
}

pub(super) fn mark_blob(db: &Connection, blob: i64, now: i64) -> Outcome<bool> {
    let mark = format!(
        "UPDATE repository_blob AS link SET candidate_since = ?2 WHERE link.blob = ?1 AND {FORGOTTEN_LINK}"
    );
    Ok(db.prepare_cached(&mark)?.execute((blob, now))? > 0)
}

pub(super) fn mark_manifest(db: &Connection, link: i64, now: i64) -> Outcome<bool> {
    let mark = "UPDATE repository_manifest SET candidate_since = ?2
                WHERE id = ?1 AND candidate_since IS NULL";
    Ok(db.prepare_cached(mark)?.execute((link, now))? == 1)
}
