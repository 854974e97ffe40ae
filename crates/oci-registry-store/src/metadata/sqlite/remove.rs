//! Taking manifests out of repositories: on request, and by the garbage collector.

use oci_spec_types::{Digest, Name};
use rusqlite::{Connection, OptionalExtension};

use super::failure::Outcome;
use super::rows;
use crate::metadata::{REFERRERS, columns, refusals};

/// Removes all references of a manifest. Blobs become candidates since `now`, and children since
/// `since`, unless they have been only since later.
pub(super) fn release(db: &Connection, link: i64, since: i64, now: i64) -> Outcome<()> {
    db.prepare_cached(
        "UPDATE repository_blob SET candidate_since = max(coalesce(candidate_since, ?2), ?2)
         WHERE (repository, blob) IN (SELECT repository, blob FROM manifest_blob WHERE parent = ?1)",
    )?
    .execute((link, now))?;
    db.prepare_cached(
        "UPDATE repository_manifest SET candidate_since = max(coalesce(candidate_since, ?2), ?2)
         WHERE (repository, manifest) IN
         (SELECT repository, manifest.id FROM manifest_child JOIN manifest ON manifest.digest = child
          WHERE parent = ?1)",
    )?
    .execute((link, since))?;
    for statement in [
        "DELETE FROM manifest_blob WHERE parent = ?1",
        "DELETE FROM missing_blob WHERE parent = ?1",
        "DELETE FROM manifest_child WHERE parent = ?1",
        "DELETE FROM referrer WHERE manifest = ?1",
    ] {
        db.prepare_cached(statement)?.execute([link])?;
    }
    Ok(())
}

pub(super) fn delete(db: &Connection, name: &Name, digest: &Digest, now: i64) -> Outcome<()> {
    let unknown = || refusals::unknown_manifest(name, digest);
    let repository = rows::repository(db, name)?.ok_or_else(unknown)?;
    let link = rows::linked_manifest(db, repository, digest)?.ok_or_else(unknown)?;
    db.prepare_cached("DELETE FROM tag WHERE manifest = ?1")?.execute([link])?;
    unlink(db, link, now, now)?;
    Ok(())
}

/// Takes an untagged manifest out of its repository. What it held is a candidate: manifests since
/// `since`, and blobs since `now`, unless they have been only since later. Gives its size if that
/// was the last repository that had it.
pub(super) fn unlink(db: &Connection, link: i64, since: i64, now: i64) -> Outcome<Option<u64>> {
    release_referrers(db, link, since)?;
    release(db, link, since, now)?;
    let mut delete = db.prepare_cached(
        "DELETE FROM repository_manifest WHERE id = ?1 RETURNING repository, manifest",
    )?;
    let (repository, manifest): (i64, i64) =
        delete.query_row([link], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows::drop_if_empty(db, repository)?;
    drop_unlinked(db, manifest)
}

/// Makes what refers to a manifest, which is going, candidates: the first now, and the others in
/// steps of their own.
fn release_referrers(db: &Connection, link: i64, since: i64) -> Outcome<()> {
    let mut find = db.prepare_cached(
        "SELECT repository, digest FROM repository_manifest AS link
         JOIN manifest ON manifest.id = link.manifest WHERE link.id = ?1",
    )?;
    let (repository, subject): (i64, String) =
        find.query_row([link], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(marked) = mark_referrers(db, repository, &subject, since, "")? else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO deleted_subject (repository, digest, since, marked) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET since = max(since, excluded.since), marked = excluded.marked",
    )?
    .execute((repository, subject, since, marked))?;
    Ok(())
}

/// Makes the next of a subject's referrers candidates. If there may be more, gives the digest of
/// the last.
fn mark_referrers(
    db: &Connection,
    repository: i64,
    subject: &str,
    since: i64,
    after: &str,
) -> Outcome<Option<String>> {
    let mut find = db.prepare_cached(
        "SELECT digest, manifest FROM referrer
         WHERE repository = ?1 AND subject = ?2 AND digest > ?3 ORDER BY digest LIMIT ?4",
    )?;
    let limit = columns::stored_limit(REFERRERS);
    let found = find.query_map((repository, subject, after, limit), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut mark = db.prepare_cached(
        "UPDATE repository_manifest SET candidate_since = max(coalesce(candidate_since, ?2), ?2)
         WHERE id = ?1",
    )?;
    for (_, referrer) in &found {
        mark.execute((referrer, since))?;
    }
    let full = found.len() == REFERRERS;
    Ok(found.into_iter().next_back().map(|(digest, _)| digest).filter(|_| full))
}

/// Goes on with one deletion of a subject that had many referrers. `false` if there is none.
pub(super) fn finish_deletions(db: &Connection) -> Outcome<bool> {
    let mut next = db.prepare_cached(
        "SELECT repository, digest, since, marked FROM deleted_subject
         ORDER BY repository, digest LIMIT 1",
    )?;
    let next = next.query_row([], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, String>(3)?))
    });
    let Some((repository, subject, since, marked)) = next.optional()? else { return Ok(false) };
    match mark_referrers(db, repository, &subject, since, &marked)? {
        Some(marked) => {
            let go_on =
                "UPDATE deleted_subject SET marked = ?3 WHERE repository = ?1 AND digest = ?2";
            db.prepare_cached(go_on)?.execute((repository, subject, marked))?;
        }
        None => {
            let done = "DELETE FROM deleted_subject WHERE repository = ?1 AND digest = ?2";
            db.prepare_cached(done)?.execute((repository, subject))?;
        }
    }
    Ok(true)
}

/// Deletes the bytes of a manifest that no repository has, and tells their number.
pub(super) fn drop_unlinked(db: &Connection, manifest: i64) -> Outcome<Option<u64>> {
    let mut drop = db.prepare_cached(
        "DELETE FROM manifest WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM repository_manifest WHERE repository_manifest.manifest = ?1)
         RETURNING size",
    )?;
    let size: Option<i64> = drop.query_row([manifest], |row| row.get(0)).optional()?;
    Ok(size.map(columns::size).transpose()?)
}
