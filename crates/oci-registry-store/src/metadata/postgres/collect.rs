//! The transactions of the garbage collector.
//!
//! A step chooses candidates, locks their repositories alone, in the order of the locks, and only then decides. References
//! are within a repository, so nothing that a step has looked at changes before it has committed.

use std::collections::{BTreeSet, HashSet};

use oci_spec_types::{Digest, Name};

use super::failure::Outcome;
use super::run::{Db, get, lock_key};
use super::{blobs, remove};
use crate::metadata::columns;
use crate::metadata::{CollectStep, Collected};

/// A manifest with all that is above it, by an expression for the id of its link. UNION, and not
/// UNION ALL, ends it in a circle. Rows come one after the other (without OFFSET, a plan could read
/// all children of all parents first), so that whoever needs no more of them ends the walk.
pub(super) fn above(origin: &str) -> String {
    format!(
        "WITH RECURSIVE above (id) AS (
            SELECT {origin}
            UNION
            SELECT upper.id FROM above
            JOIN repository_manifest AS link ON link.id = above.id
            JOIN manifest ON manifest.id = link.manifest
            CROSS JOIN LATERAL (
                SELECT child.parent AS id FROM manifest_child AS child
                WHERE child.repository = link.repository AND child.child = manifest.digest
                UNION ALL
                SELECT subject.id FROM referrer
                JOIN manifest AS subject_manifest ON subject_manifest.digest = referrer.subject
                JOIN repository_manifest AS subject
                    ON subject.manifest = subject_manifest.id AND subject.repository = referrer.repository
                WHERE referrer.manifest = link.id
                OFFSET 0
            ) AS upper
        )"
    )
}

/// The condition that nothing holds a manifest: none of [`above`] has a tag, or is a candidate
/// since later than `before`, which is an expression, too.
pub(super) fn unheld_by(origin: &str, before: &str) -> String {
    format!(
        "NOT EXISTS (
            {} SELECT 1 FROM above CROSS JOIN LATERAL (
                SELECT candidate_since FROM repository_manifest WHERE id = above.id OFFSET 0) AS link
            WHERE link.candidate_since > {before}
            OR (SELECT true FROM tag WHERE tag.manifest = above.id LIMIT 1))",
        above(origin)
    )
}

/// Of several collectors, each takes the candidates of other repositories: those for which it gets
/// this advisory lock. It is not the one of [`lock_key`], which may only be taken in order.
const COLLECTING: i32 = 0x6f63_6972;

/// As many candidates as one step takes are looked for among the oldest so many.
const AHEAD: i64 = 8;

/// The statement for the oldest candidates of a table: each with its repository, what it is called
/// there, and the name of the repository. Those of other collectors are left out, unless `$3` says
/// that they are waited for.
fn candidates(table: &str, key: &str) -> String {
    format!(
        "SELECT link.repository, link.{key}, (SELECT name FROM repository WHERE id = link.repository)
         FROM (SELECT repository, {key} FROM {table}
               WHERE candidate_since <= $1 ORDER BY candidate_since LIMIT $2::bigint * {AHEAD}) AS link
         WHERE $3 OR pg_try_advisory_xact_lock({COLLECTING}, (link.repository & 2147483647)::integer)
         LIMIT $2"
    )
}

/// Chooses the candidates of a step. If others have all of them, it waits for those.
async fn choose(
    db: &Db,
    list: &str,
    before: i64,
    limit: usize,
) -> Outcome<Vec<tokio_postgres::Row>> {
    let limit = columns::stored_limit(limit);
    let found = db.rows(list, &[&before, &limit, &false]).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    db.rows(list, &[&before, &limit, &true]).await
}

pub(super) async fn collect_blobs(
    db: &Db,
    before: i64,
    delete_after: i64,
    limit: usize,
) -> Outcome<CollectStep> {
    let list = candidates("repository_blob", "blob");
    let found = choose(db, &list, before, limit).await?;
    let more = found.len() == limit;
    if found.is_empty() {
        return Ok(CollectStep::default());
    }
    let (mut repositories, mut linked) = (Vec::<i64>::new(), Vec::<i64>::new());
    for row in &found {
        repositories.push(get(row, 0)?);
        linked.push(get(row, 1)?);
    }
    lock_found(db, &found).await?;
    // Those that are candidates still, and whether something references them.
    let look = "SELECT link.repository, link.blob, EXISTS (
                    SELECT 1 FROM manifest_blob AS held
                    WHERE held.repository = link.repository AND held.blob = link.blob)
                FROM unnest($1::bigint[], $2::bigint[]) AS candidate (repository, blob)
                JOIN repository_blob AS link
                    ON link.repository = candidate.repository AND link.blob = candidate.blob
                WHERE link.candidate_since <= $3";
    let found = db.rows(look, &[&repositories, &linked, &before]).await?;
    let (mut held, mut garbage) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for row in &found {
        let (repositories, blobs) = if get(row, 2)? { &mut held } else { &mut garbage };
        repositories.push(get::<i64>(row, 0)?);
        blobs.push(get::<i64>(row, 1)?);
    }
    let keep = "UPDATE repository_blob SET candidate_since = NULL
                FROM unnest($1::bigint[], $2::bigint[]) AS held (repository, blob)
                WHERE repository_blob.repository = held.repository AND repository_blob.blob = held.blob";
    db.execute(keep, &[&held.0, &held.1]).await?;
    let collected = match garbage.0.is_empty() {
        true => Collected::default(),
        false => blobs::unlink(db, &garbage.0, &garbage.1, delete_after).await?,
    };
    Ok(CollectStep { collected, more })
}

pub(super) async fn collect_manifests(
    db: &Db,
    before: i64,
    now: i64,
    limit: usize,
) -> Outcome<CollectStep> {
    let list = candidates("repository_manifest", "id");
    let found = choose(db, &list, before, limit).await?;
    let mut step = CollectStep { more: found.len() == limit, ..CollectStep::default() };
    if found.is_empty() {
        return Ok(step);
    }
    let candidates = found.iter().map(|row| get(row, 1)).collect::<Outcome<Vec<i64>>>()?;
    lock_found(db, &found).await?;
    let still = "SELECT id FROM repository_manifest WHERE id = ANY ($1) AND candidate_since <= $2
                 ORDER BY candidate_since";
    let candidates = ids(&db.rows(still, &[&candidates, &before]).await?)?;
    let unheld = unheld(db, &candidates, before).await?;
    let held: Vec<i64> = candidates.iter().copied().filter(|id| !unheld.contains(id)).collect();
    let keep = "UPDATE repository_manifest SET candidate_since = NULL WHERE id = ANY ($1)";
    db.execute(keep, &[&held]).await?;

    // Of each, from far to near: what is far above goes first, so that a step that ends in the
    // middle leaves no parent without its children.
    let garbage: Vec<i64> = candidates.into_iter().filter(|id| unheld.contains(id)).collect();
    if garbage.is_empty() {
        return Ok(step);
    }
    let walk = format!(
        "SELECT above.id FROM unnest($1::bigint[]) WITH ORDINALITY AS origin (id, number)
         CROSS JOIN LATERAL ({} SELECT id, row_number() OVER () AS place FROM above) AS above
         ORDER BY origin.number, above.place DESC",
        above("origin.id")
    );
    let (mut going, mut known) = (Vec::new(), HashSet::new());
    for above in ids(&db.rows(&walk, &[&garbage]).await?)? {
        if going.len() < limit && known.insert(above) {
            going.push(above);
        }
    }
    step.collected = remove::unlink(db, &going, before, now).await?;
    // What it held may be due now.
    step.more = true;
    Ok(step)
}

/// Those of some manifests that nothing holds.
pub(super) async fn unheld(db: &Db, links: &[i64], before: i64) -> Outcome<HashSet<i64>> {
    let unheld = unheld_by("origin.id", "$2");
    let find = format!("SELECT id FROM unnest($1::bigint[]) AS origin (id) WHERE {unheld}");
    Ok(ids(&db.rows(&find, &[&links, &before]).await?)?.into_iter().collect())
}

/// Locks the repositories of candidates that were chosen.
async fn lock_found(db: &Db, found: &[tokio_postgres::Row]) -> Outcome<()> {
    let names = found.iter().map(|row| get(row, 2)).collect::<Outcome<Vec<&str>>>()?;
    lock(db, names.into_iter()).await
}

/// Locks repositories, each alone, in the order of the locks.
pub(super) async fn lock(db: &Db, names: impl Iterator<Item = &str>) -> Outcome<()> {
    let keys: Vec<i64> = names.map(lock_key).collect::<BTreeSet<i64>>().into_iter().collect();
    let lock = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS locks (key)";
    db.execute(lock, &[&keys]).await?;
    Ok(())
}

pub(super) fn ids(found: &[tokio_postgres::Row]) -> Outcome<Vec<i64>> {
    found.iter().map(|row| get(row, 0)).collect()
}

/// Whether nothing above a manifest, nor itself, is a root.
pub(super) async fn is_stale(
    db: &Db,
    name: &Name,
    digest: &Digest,
    stale_before: i64,
) -> Outcome<bool> {
    let unheld = unheld_by("origin.id", "$3");
    let find = format!(
        "SELECT 1 FROM repository_manifest AS origin
         WHERE origin.repository = (SELECT id FROM repository WHERE name = $1)
         AND origin.manifest = (SELECT id FROM manifest WHERE digest = $2) AND {unheld}"
    );
    // Candidates since just that time are not stale yet.
    let before = stale_before.saturating_sub(1);
    Ok(!db.rows(&find, &[&name.as_str(), &digest.as_str(), &before]).await?.is_empty())
}
