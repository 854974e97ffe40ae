//! What a collection would do, worked out in temporary tables on one state of the database, which others go on changing.

use super::collect::{above, unheld_by};
use super::failure::Outcome;
use super::run::{Db, get};
use crate::metadata::columns;
use crate::metadata::{Collected, Cuts};

const TABLES: &str = "
    CREATE TEMP TABLE queue (id bigint PRIMARY KEY) ON COMMIT DROP;
    CREATE TEMP TABLE gone (id bigint PRIMARY KEY, new boolean NOT NULL DEFAULT true) ON COMMIT DROP;
    CREATE TEMP TABLE gone_link (repository bigint, blob bigint, PRIMARY KEY (blob, repository)) ON COMMIT DROP";

/// What manifests that are newly gone held is looked at next.
const BELOW: &str = "
    INSERT INTO queue
    SELECT below.id FROM gone
    JOIN manifest_child AS child ON child.parent = gone.id
    JOIN manifest ON manifest.digest = child.child
    JOIN repository_manifest AS below ON below.manifest = manifest.id AND below.repository = child.repository
    WHERE gone.new AND below.id NOT IN (SELECT id FROM gone)
    UNION
    SELECT referrer.manifest FROM gone
    JOIN repository_manifest AS link ON link.id = gone.id
    JOIN manifest ON manifest.id = link.manifest
    JOIN referrer ON referrer.repository = link.repository AND referrer.subject = manifest.digest
    WHERE gone.new AND referrer.manifest NOT IN (SELECT id FROM gone)";

const MANIFESTS: &str = "
    SELECT (SELECT count(*) FROM gone), coalesce(sum(size), 0)::bigint FROM manifest
    WHERE id IN (SELECT manifest FROM repository_manifest WHERE id IN (SELECT id FROM gone))
    AND NOT EXISTS (SELECT 1 FROM repository_manifest AS other
                    WHERE other.manifest = manifest.id AND other.id NOT IN (SELECT id FROM gone))";

/// Candidates that nothing references. `$2` tells whether blobs go that the manifests held which are gone.
const CANDIDATES: &str = "
    INSERT INTO gone_link
    SELECT link.repository, link.blob FROM repository_blob AS link
    WHERE link.candidate_since <= $1
    AND NOT EXISTS (SELECT 1 FROM manifest_blob AS held
                    WHERE held.repository = link.repository AND held.blob = link.blob
                    AND NOT ($2 AND held.parent IN (SELECT id FROM gone)))";

const RELEASED: &str = "
    INSERT INTO gone_link
    SELECT DISTINCT link.repository, link.blob FROM gone JOIN manifest_blob AS link ON link.parent = gone.id
    WHERE NOT EXISTS (SELECT 1 FROM manifest_blob AS held
                      WHERE held.repository = link.repository AND held.blob = link.blob
                      AND held.parent NOT IN (SELECT id FROM gone))
    ON CONFLICT DO NOTHING";

const BLOBS: &str = "
    SELECT (SELECT count(*) FROM gone_link), count(*), coalesce(sum(size), 0)::bigint FROM blob
    WHERE id IN (SELECT blob FROM gone_link)
    AND NOT EXISTS (SELECT 1 FROM repository_blob AS other WHERE other.blob = blob.id
                    AND NOT EXISTS (SELECT 1 FROM gone_link WHERE gone_link.blob = other.blob
                                    AND gone_link.repository = other.repository))";

/// What a collection would do, in a transaction that sees one state.
pub(super) async fn preview(db: &Db, cuts: &Cuts) -> Outcome<Collected> {
    db.batch(TABLES).await?;
    if let Some(before) = cuts.manifests {
        manifests(db, before).await?;
    }
    // Their blobs become candidates only now, and go if there is no grace.
    let at_once = cuts.now <= cuts.blobs;
    db.execute_once(CANDIDATES, &[&cuts.blobs, &at_once]).await?;
    if at_once {
        db.execute_once(RELEASED, &[]).await?;
    }
    let mut collected = Collected::default();
    if let [row] = &*db.rows_once(MANIFESTS, &[]).await? {
        collected.manifests = columns::size(get(row, 0)?)?;
        collected.bytes = columns::size(get(row, 1)?)?;
    }
    if let [row] = &*db.rows_once(BLOBS, &[]).await? {
        collected.links = columns::size(get(row, 0)?)?;
        collected.blobs = columns::size(get(row, 1)?)?;
        collected.bytes = collected.bytes.saturating_add(columns::size(get(row, 2)?)?);
    }
    Ok(collected)
}

/// Notes which manifests go: those that nothing holds, with all that is above them, and then what they held.
async fn manifests(db: &Db, before: i64) -> Outcome<()> {
    let first = "INSERT INTO queue SELECT id FROM repository_manifest WHERE candidate_since <= $1";
    let mut queued = db.execute_once(first, &[&before]).await?;
    // Of the queue, what nothing holds goes, with all that is above it.
    let go = format!(
        "INSERT INTO gone (id)
         SELECT DISTINCT above.id FROM (SELECT id FROM queue WHERE {}) AS origin
         CROSS JOIN LATERAL ({} SELECT id FROM above) AS above ON CONFLICT DO NOTHING",
        unheld_by("queue.id", "$1"),
        above("origin.id")
    );
    while queued > 0 {
        db.execute_once(&go, &[&before]).await?;
        db.execute_once("DELETE FROM queue", &[]).await?;
        queued = db.execute_once(BELOW, &[]).await?;
        db.execute_once("UPDATE gone SET new = false WHERE new", &[]).await?;
    }
    Ok(())
}
