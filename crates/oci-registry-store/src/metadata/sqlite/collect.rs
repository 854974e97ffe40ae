//! The transactions of the garbage collector.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::blobs::Unlinked;
use super::failure::Outcome;
use super::recent::Held;
use super::{blobs, remove};
use crate::metadata::columns;
use crate::metadata::{CollectStep, Collected};

/// The candidates of blobs, the oldest first.
const BLOBS: &str = "
    SELECT repository, blob FROM repository_blob WHERE candidate_since <= ?1
    ORDER BY candidate_since LIMIT ?2";

/// The candidates of manifests, the oldest first.
const MANIFESTS: &str = "
    SELECT id FROM repository_manifest WHERE candidate_since <= ?1
    ORDER BY candidate_since LIMIT ?2";

/// A manifest and all that is above it, `?1` being the id of its link. UNION, and not UNION ALL, ends it in a circle.
pub(super) const ABOVE: &str = "
    WITH RECURSIVE above (id) AS (
        SELECT ?1
        UNION
        SELECT child.parent FROM above
        JOIN repository_manifest AS link ON link.id = above.id
        JOIN manifest ON manifest.id = link.manifest
        JOIN manifest_child AS child ON child.repository = link.repository AND child.child = manifest.digest
        UNION
        SELECT subject.id FROM above
        JOIN referrer ON referrer.manifest = above.id
        JOIN manifest ON manifest.digest = referrer.subject
        JOIN repository_manifest AS subject
            ON subject.manifest = manifest.id AND subject.repository = referrer.repository
    )";

/// Each of [`ABOVE`] with whether it has a tag, and since when it has been a candidate.
const ROOTS: &str = "
    SELECT above.id, EXISTS (SELECT 1 FROM tag WHERE tag.manifest = above.id), link.candidate_since
    FROM above JOIN repository_manifest AS link ON link.id = above.id";

/// True of a manifest that has a tag, or that an index with a tag lists. A walk would take all such
/// indexes before it looks at the first.
const TAGGED: &str = "
    SELECT EXISTS (SELECT 1 FROM tag WHERE tag.manifest = ?1) OR EXISTS (
        SELECT 1 FROM repository_manifest AS link
        JOIN manifest ON manifest.id = link.manifest
        JOIN manifest_child AS child ON child.repository = link.repository AND child.child = manifest.digest
        JOIN tag ON tag.manifest = child.parent
        WHERE link.id = ?1)";

pub(super) fn collect_blobs(
    db: &Connection,
    before: i64,
    delete_after: i64,
    limit: usize,
) -> Outcome<CollectStep> {
    let mut list = db.prepare_cached(BLOBS)?;
    let found = list.query_map((before, columns::stored_limit(limit)), |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    })?;
    let candidates = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut collected = Collected::default();
    for (repository, blob) in &candidates {
        match blobs::unlink(db, *repository, *blob, delete_after)? {
            Unlinked::Referenced => {
                db.prepare_cached(
                    "UPDATE repository_blob SET candidate_since = NULL
                     WHERE repository = ?1 AND blob = ?2",
                )?
                .execute((repository, blob))?;
            }
            Unlinked::Shared => collected.links += 1,
            Unlinked::Freed(size) => {
                collected.links += 1;
                collected.blobs += 1;
                collected.bytes += size;
            }
        }
    }
    Ok(CollectStep { collected, more: candidates.len() == limit })
}

pub(super) fn collect_manifests(
    db: &Connection,
    before: i64,
    now: i64,
    limit: usize,
) -> Outcome<CollectStep> {
    let mut list = db.prepare_cached(MANIFESTS)?;
    let found =
        list.query_map((before, columns::stored_limit(limit)), |row| row.get::<_, i64>(0))?;
    let candidates = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut step = CollectStep { more: candidates.len() == limit, ..CollectStep::default() };
    let deleted = &mut step.collected;
    for candidate in candidates {
        let Hold::Unheld(above) = hold(db, candidate, before, limit)? else {
            db.prepare_cached(
                "UPDATE repository_manifest SET candidate_since = NULL WHERE id = ?1",
            )?
            .execute([candidate])?;
            continue;
        };
        // What is far above goes first, so that a step that ends in the middle leaves no parent without its children.
        for link in above.into_iter().rev() {
            let mut find =
                db.prepare_cached("SELECT candidate_since FROM repository_manifest WHERE id = ?1")?;
            // What is in a circle need not be a candidate itself.
            let since: Option<i64> = find.query_row([link], |row| row.get(0))?;
            let freed = remove::unlink(db, link, since.unwrap_or(before), now)?;
            deleted.manifests += 1;
            deleted.bytes += freed.unwrap_or(0);
            // What it held may be due now.
            step.more = true;
            if deleted.manifests >= limit as u64 {
                return Ok(step);
            }
        }
    }
    Ok(step)
}

/// What keeps a manifest.
pub(super) enum Hold {
    /// One of the manifest and what is above it is a root.
    Held(Held),
    /// None is: all of them, from near to far; no more than the `keep` that are farthest.
    Unheld(VecDeque<i64>),
}

/// What keeps a manifest, if only tags and candidates since later than `before` are roots.
pub(super) fn hold(db: &Connection, link: i64, before: i64, keep: usize) -> Outcome<Hold> {
    if db.prepare_cached(TAGGED)?.query_row([link], |row| row.get(0))? {
        return Ok(Hold::Held(Held::FAST));
    }
    let mut walk = db.prepare_cached(&format!("{ABOVE}{ROOTS}"))?;
    let mut found = walk.query([link])?;
    let mut above = VecDeque::new();
    while let Some(row) = found.next()? {
        if row.get(1)? {
            return Ok(Hold::Held(Held::FAST));
        }
        if let Some(since) = row.get::<_, Option<i64>>(2)?.filter(|since| *since > before) {
            return Ok(Hold::Held(Held::since(since)));
        }
        if above.len() == keep {
            above.pop_front();
        }
        above.push_back(row.get(0)?);
    }
    Ok(Hold::Unheld(above))
}

/// Whether anything keeps a manifest.
pub(super) fn is_held(db: &Connection, link: i64, before: i64) -> Outcome<bool> {
    Ok(matches!(hold(db, link, before, 1)?, Hold::Held(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::sqlite::open;

    /// What a step looks at is found by the indexes of candidates, and each by what is around it.
    #[test]
    fn the_cost_follows_what_changed() {
        let directory = tempfile::tempdir().unwrap();
        let db = open::writer(&directory.path().join("db"), true).unwrap();
        let plan = |query: &str| -> Vec<String> {
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let values = vec![1; explain.parameter_count()];
            let lines =
                explain.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
            lines.map(Result::unwrap).collect()
        };
        for (query, index) in
            [(BLOBS, "repository_blob_candidate"), (MANIFESTS, "repository_manifest_candidate")]
        {
            let plan = plan(query);
            assert!(plan[0].contains(index), "{plan:?}");
            assert!(plan.len() == 1 && plan[0].starts_with("SEARCH"), "{plan:?}");
        }
        let plan = plan(&format!("{ABOVE}{ROOTS}"));
        let scanned: Vec<_> = plan.iter().filter(|line| line.starts_with("SCAN")).collect();
        // The walk itself, and nothing that is stored.
        assert!(
            scanned.iter().all(|line| line.contains("above") || line.contains("CONSTANT")),
            "{plan:#?}"
        );
    }
}
