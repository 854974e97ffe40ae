//! Taking manifests out of repositories that are locked alone: on request, and by the garbage collector.

use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome};
use super::run::{Db, get};
use super::{blobs, rows};
use crate::metadata::{Collected, columns, refusals};

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
                     SELECT link.id, link.repository, link.manifest, coalesce(link.candidate_since, $2) AS since
                     FROM repository_manifest AS link WHERE link.id = ANY ($1)),
                 held AS (
                     SELECT below.id, above.since FROM above
                     JOIN manifest_child AS child ON child.parent = above.id
                     JOIN manifest ON manifest.digest = child.child
                     JOIN repository_manifest AS below
                         ON below.manifest = manifest.id AND below.repository = above.repository
                     UNION ALL
                     SELECT referrer.manifest, above.since FROM above
                     JOIN manifest ON manifest.id = above.manifest
                     JOIN referrer ON referrer.repository = above.repository AND referrer.subject = manifest.digest)
                 UPDATE repository_manifest SET candidate_since = greatest(candidate_since, held.since)
                 FROM (SELECT id, max(since) AS since FROM held GROUP BY id) AS held
                 WHERE repository_manifest.id = held.id";
    db.execute(below, &[&links, &since]).await?;
    for statement in [
        "DELETE FROM manifest_blob WHERE parent = ANY ($1)",
        "DELETE FROM missing_blob WHERE parent = ANY ($1)",
        "DELETE FROM manifest_child WHERE parent = ANY ($1)",
        "DELETE FROM referrer WHERE manifest = ANY ($1)",
    ] {
        db.execute(statement, &[&links]).await?;
    }
    Ok(())
}
