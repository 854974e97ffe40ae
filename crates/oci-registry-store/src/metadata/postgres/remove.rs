//! Taking manifests out of repositories that are locked alone: on request, and by the garbage collector.

use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome};
use super::run::{Db, get};
use super::{blobs, collect, rows};
use crate::metadata::{Collected, REFERRERS, columns, refusals};

pub(super) async fn delete(db: &Db, name: &Name, digest: &Digest, now: i64) -> Outcome<()> {
    let unknown = || refusals::unknown_manifest(name, digest);
    let repository = rows::repository(db, name).await?.ok_or_else(unknown)?;
    let link = rows::linked_manifest(db, repository, digest).await?.ok_or_else(unknown)?;
    db.execute("DELETE FROM tag WHERE manifest = $1", &[&link]).await?;
    db.execute("UPDATE repository_manifest SET candidate_since = $2 WHERE id = $1", &[&link, &now])
        .await?;
    unlink(db, &[link], now, now).await?;
    Ok(())
}

/// Takes untagged manifests, by their links, out of their repositories. What they held is a candidate: manifests since the one
/// above was (or since `since`, if that was none), and blobs since `now`, unless they have been only since later.
pub(super) async fn unlink(db: &Db, links: &[i64], since: i64, now: i64) -> Outcome<Collected> {
    release_referrers(db, links, since).await?;
    release(db, links, since, now).await?;
    let unlink =
        "DELETE FROM repository_manifest WHERE id = ANY ($1) RETURNING repository, manifest";
    let found = db.rows(unlink, &[&links]).await?;
    let (mut repositories, mut manifests) = (Vec::<i64>::new(), Vec::<i64>::new());
    for row in &found {
        repositories.push(get(row, 0)?);
        manifests.push(get(row, 1)?);
    }
    blobs::drop_empty(db, &repositories).await?;
    let (_, bytes) = drop_unlinked(db, &manifests).await?;
    Ok(Collected { manifests: found.len() as u64, bytes, ..Collected::default() })
}

/// Deletes those manifests that no repository has, and tells how many, and how many bytes they have.
pub(super) async fn drop_unlinked(db: &Db, manifests: &[i64]) -> Outcome<(u64, u64)> {
    // As with blobs: the first lock is against others who take away, the second waits for those who add.
    let lock = "SELECT 1 FROM manifest WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
    db.execute(lock, &[&manifests]).await?;
    let lock = "SELECT 1 FROM manifest WHERE id = ANY ($1)
                AND NOT EXISTS (SELECT 1 FROM repository_manifest AS link WHERE link.manifest = manifest.id)
                ORDER BY id FOR UPDATE";
    db.execute(lock, &[&manifests]).await?;
    let drop = "WITH gone AS (
                    DELETE FROM manifest WHERE id = ANY ($1)
                    AND NOT EXISTS (SELECT 1 FROM repository_manifest AS link WHERE link.manifest = manifest.id)
                    RETURNING size)
                SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone";
    let dropped = db.row(drop, &[&manifests]).await?.ok_or(Failure::Raced)?;
    Ok((columns::size(get(&dropped, 0)?)?, columns::size(get(&dropped, 1)?)?))
}

/// Makes what refers to some manifests, which are going, candidates: the first of each one's
/// referrers now, and the others in steps of their own (see [`finish_deletions`]).
async fn release_referrers(db: &Db, links: &[i64], since: i64) -> Outcome<()> {
    let mark = "WITH subject AS (
                    SELECT link.repository, manifest.digest, coalesce(link.candidate_since, $2) AS since
                    FROM repository_manifest AS link JOIN manifest ON manifest.id = link.manifest
                    WHERE link.id = ANY ($1)),
                first AS (
                    SELECT referrer.manifest, max(subject.since) AS since FROM subject
                    CROSS JOIN LATERAL (
                        SELECT manifest FROM referrer
                        WHERE repository = subject.repository AND referrer.subject = subject.digest
                        ORDER BY digest LIMIT $3) AS referrer
                    GROUP BY referrer.manifest),
                marked AS (
                    UPDATE repository_manifest AS link
                    SET candidate_since = greatest(link.candidate_since, first.since)
                    FROM first WHERE link.id = first.manifest)
                INSERT INTO deleted_subject AS known (repository, digest, since, marked)
                SELECT subject.repository, subject.digest, subject.since, last.digest FROM subject
                CROSS JOIN LATERAL (
                    SELECT referrer.digest FROM referrer
                    WHERE repository = subject.repository AND referrer.subject = subject.digest
                    ORDER BY digest OFFSET $3::bigint - 1 LIMIT 1) AS last
                ON CONFLICT (repository, digest) DO UPDATE
                SET since = greatest(known.since, excluded.since), marked = excluded.marked";
    db.execute(mark, &[&links, &since, &columns::stored_limit(REFERRERS)]).await?;
    Ok(())
}

/// Goes on with one deletion of a subject that had many referrers: the next of them become
/// candidates. `false` if there is none to go on with.
pub(super) async fn finish_deletions(db: &Db) -> Outcome<bool> {
    let next = "SELECT repository, digest, (SELECT name FROM repository WHERE id = repository)
                FROM deleted_subject ORDER BY repository, digest LIMIT 1";
    let Some(row) = db.row(next, &[]).await? else { return Ok(false) };
    let (repository, subject): (i64, String) = (get(&row, 0)?, get(&row, 1)?);
    // Without a name, the repository went away with the last of them.
    collect::lock(db, get::<Option<&str>>(&row, 2)?.into_iter()).await?;
    let mark = "WITH gone AS (
                    SELECT since, marked FROM deleted_subject
                    WHERE repository = $1 AND digest = $2 FOR UPDATE),
                next AS (
                    SELECT referrer.digest, referrer.manifest, gone.since FROM gone
                    CROSS JOIN LATERAL (
                        SELECT digest, manifest FROM referrer
                        WHERE repository = $1 AND subject = $2 AND digest > gone.marked
                        ORDER BY digest LIMIT $3) AS referrer),
                marked AS (
                    UPDATE repository_manifest AS link
                    SET candidate_since = greatest(link.candidate_since, next.since)
                    FROM next WHERE link.id = next.manifest)
                SELECT count(*), max(digest) FROM next";
    let limit = columns::stored_limit(REFERRERS);
    let marked = db.row(mark, &[&repository, &subject, &limit]).await?.ok_or(Failure::Raced)?;
    match get::<Option<&str>>(&marked, 1)? {
        Some(last) if get::<i64>(&marked, 0)? == limit => {
            let go_on =
                "UPDATE deleted_subject SET marked = $3 WHERE repository = $1 AND digest = $2";
            db.execute(go_on, &[&repository, &subject, &last]).await?;
        }
        _ => {
            let done = "DELETE FROM deleted_subject WHERE repository = $1 AND digest = $2";
            db.execute(done, &[&repository, &subject]).await?;
        }
    }
    Ok(true)
}

/// Removes all references of manifests, and what says that they are referrers.
pub(super) async fn release(db: &Db, links: &[i64], since: i64, now: i64) -> Outcome<()> {
    db.execute(
        "UPDATE repository_blob SET candidate_since = greatest(candidate_since, $2)
         FROM (SELECT DISTINCT repository, blob FROM manifest_blob WHERE parent = ANY ($1)) AS held
         WHERE repository_blob.repository = held.repository AND repository_blob.blob = held.blob",
        &[&links, &now],
    )
    .await?;
    let below = "WITH above AS (
                     SELECT link.id, link.repository, coalesce(link.candidate_since, $2) AS since
                     FROM repository_manifest AS link WHERE link.id = ANY ($1)),
                 held AS (
                     SELECT below.id, above.since FROM above
                     JOIN manifest_child AS child ON child.parent = above.id
                     CROSS JOIN LATERAL (
                         SELECT link.id FROM manifest
                         JOIN repository_manifest AS link ON link.manifest = manifest.id
                         WHERE manifest.digest = child.child AND link.repository = above.repository
                         LIMIT 1) AS below)
                 UPDATE repository_manifest SET candidate_since = greatest(candidate_since, held.since)
                 FROM (SELECT id, max(since) AS since FROM held GROUP BY id) AS held
                 WHERE repository_manifest.id = held.id";
    db.execute(below, &[&links, &since]).await?;
    let drop = "WITH blobs AS (DELETE FROM manifest_blob WHERE parent = ANY ($1)),
                missing AS (DELETE FROM missing_blob WHERE parent = ANY ($1)),
                children AS (DELETE FROM manifest_child WHERE parent = ANY ($1))
                DELETE FROM referrer WHERE manifest = ANY ($1)";
    db.execute(drop, &[&links]).await?;
    Ok(())
}
