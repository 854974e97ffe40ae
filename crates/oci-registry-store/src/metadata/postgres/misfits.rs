//! Rows that nobody would ever come upon: found and mended.

use super::failure::Outcome;
use super::run::{Db, get};
use super::{blobs, collect, remove};
use crate::metadata::Misfit;
use crate::metadata::columns;
use crate::metadata::misfits::FORGOTTEN_LINK;

pub(super) async fn list(
    db: &Db,
    kind: Misfit,
    after: i64,
    limit: usize,
) -> Outcome<Vec<(i64, String)>> {
    let found = db.rows(kind.list(), &[&after, &columns::stored_limit(limit)]).await?;
    found.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

pub(super) async fn mend(db: &Db, kind: Misfit, id: i64, delete_after: i64) -> Outcome<bool> {
    match kind {
        Misfit::Condemned => {
            let keep =
                "DELETE FROM pending_object USING blob WHERE blob.id = $1 AND key = blob.object";
            Ok(db.execute(keep, &[&id]).await? == 1)
        }
        Misfit::Blob => Ok(blobs::unlink(db, &[], &[id], delete_after).await?.blobs == 1),
        Misfit::Manifest => Ok(remove::drop_unlinked(db, &[id]).await?.0 == 1),
        Misfit::Repository => {
            let find = "SELECT name FROM repository WHERE id = $1";
            let Some(name) = db.value::<String>(find, &[&id]).await? else { return Ok(false) };
            collect::lock(db, std::iter::once(name.as_str())).await?;
            Ok(blobs::drop_empty(db, &[id]).await? == 1)
        }
    }
}

pub(super) async fn mark_blob(db: &Db, blob: i64, now: i64) -> Outcome<bool> {
    let mark = format!(
        "UPDATE repository_blob AS link SET candidate_since = $2 WHERE link.blob = $1 AND {FORGOTTEN_LINK}"
    );
    Ok(db.execute(&mark, &[&blob, &now]).await? > 0)
}

pub(super) async fn mark_manifest(db: &Db, link: i64, now: i64) -> Outcome<bool> {
    let mark = "UPDATE repository_manifest SET candidate_since = $2
                WHERE id = $1 AND candidate_since IS NULL";
    Ok(db.execute(mark, &[&link, &now]).await? == 1)
}
