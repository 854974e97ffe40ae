//! What a collection would do, worked out in temporary tables on one state of the database, which the writer goes on changing.

use rusqlite::Connection;

use super::collect;
use super::failure::Outcome;
use crate::metadata::columns;
use crate::metadata::{Collected, Cuts};

/// How many manifests are looked at before it is noted what they held.
const BATCH: i64 = 1000;

/// In a temporary file, if it is much.
const TABLES: &str = "
    CREATE TEMP TABLE queue (id INTEGER PRIMARY KEY) STRICT;
    CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY, new INTEGER DEFAULT 1) STRICT;
    CREATE INDEX temp.gone_new ON gone (new) WHERE new;
    CREATE TEMP TABLE gone_link (repository INTEGER, blob INTEGER, PRIMARY KEY (blob, repository))
        STRICT, WITHOUT ROWID;";

/// What manifests that are newly gone held.
const BELOW: &str = "
    INSERT OR IGNORE INTO queue
    SELECT below.id FROM gone
    JOIN manifest_child AS child ON child.parent = gone.id
    JOIN manifest ON manifest.digest = child.child
    JOIN repository_manifest AS below ON below.manifest = manifest.id AND below.repository = child.repository
    WHERE gone.new
    UNION
    SELECT referrer.manifest FROM gone
    JOIN repository_manifest AS link ON link.id = gone.id
    JOIN manifest ON manifest.id = link.manifest
    JOIN referrer ON referrer.repository = link.repository AND referrer.subject = manifest.digest
    WHERE gone.new";

const MANIFESTS: &str = "
    SELECT (SELECT count(*) FROM gone), coalesce(sum(size), 0) FROM manifest
    WHERE id IN (SELECT manifest FROM repository_manifest WHERE id IN (SELECT id FROM gone))
    AND NOT EXISTS (SELECT 1 FROM repository_manifest AS other
                    WHERE other.manifest = manifest.id AND other.id NOT IN (SELECT id FROM gone))";

/// Candidates that nothing references. `?2` tells whether blobs go that the manifests held which are gone.
const CANDIDATES: &str = "
    INSERT INTO gone_link
    SELECT link.repository, link.blob FROM repository_blob AS link
    WHERE link.candidate_since <= ?1
    AND NOT EXISTS (SELECT 1 FROM manifest_blob AS held
                    WHERE held.repository = link.repository AND held.blob = link.blob
                    AND NOT (?2 AND held.parent IN (SELECT id FROM gone)))";

const RELEASED: &str = "
    INSERT OR IGNORE INTO gone_link
    SELECT link.repository, link.blob FROM gone JOIN manifest_blob AS link ON link.parent = gone.id
    WHERE NOT EXISTS (SELECT 1 FROM manifest_blob AS held
                      WHERE held.repository = link.repository AND held.blob = link.blob
                      AND held.parent NOT IN (SELECT id FROM gone))";

const BLOBS: &str = "
    SELECT (SELECT count(*) FROM gone_link), count(*), coalesce(sum(size), 0) FROM blob
    WHERE id IN (SELECT blob FROM gone_link)
    AND NOT EXISTS (SELECT 1 FROM repository_blob AS other WHERE other.blob = blob.id
                    AND NOT EXISTS (SELECT 1 FROM gone_link WHERE gone_link.blob = other.blob
                                    AND gone_link.repository = other.repository))";

/// What a collection would do. Nobody else may use the connection.
pub(super) fn preview(db: &Connection, cuts: &Cuts) -> Outcome<Collected> {
    // Until it is dropped, all that is read is of one state.
    let state = db.unchecked_transaction()?;
    db.execute_batch(TABLES)?;
    if let Some(before) = cuts.manifests {
        manifests(db, before)?;
    }
    // Their blobs become candidates only now, and go if there is no grace.
    let at_once = cuts.now <= cuts.blobs;
    db.execute(CANDIDATES, (cuts.blobs, at_once))?;
    if at_once {
        db.execute(RELEASED, [])?;
    }
    let (manifests, of_manifests) =
        db.query_row(MANIFESTS, [], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    let (links, blobs, of_blobs) =
        db.query_row(BLOBS, [], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))?;
    drop(state);
    Ok(Collected {
        manifests: columns::size(manifests)?,
        links: columns::size(links)?,
        blobs: columns::size(blobs)?,
        bytes: columns::size(of_manifests)?.saturating_add(columns::size(of_blobs)?),
    })
}

/// Notes which manifests go: those that nothing holds, with all that is above them, and then what they held.
fn manifests(db: &Connection, before: i64) -> Outcome<()> {
    db.execute(
        "INSERT INTO queue SELECT id FROM repository_manifest WHERE candidate_since <= ?1",
        [before],
    )?;
    let mut next = db.prepare("SELECT id FROM queue LIMIT ?1")?;
    let mut done = db.prepare("DELETE FROM queue WHERE id = ?1")?;
    let mut is_gone = db.prepare("SELECT 1 FROM gone WHERE id = ?1")?;
    let mut go = db.prepare(&format!(
        "INSERT OR IGNORE INTO gone (id) {above} SELECT id FROM above",
        above = collect::ABOVE
    ))?;
    loop {
        let found = next.query_map([BATCH], |row| row.get::<_, i64>(0))?;
        let queued = found.collect::<rusqlite::Result<Vec<_>>>()?;
        if queued.is_empty() {
            return Ok(());
        }
        for link in queued {
            done.execute([link])?;
            if !is_gone.exists([link])? && !collect::is_held(db, link, before)? {
                go.execute([link])?;
            }
        }
        db.execute(BELOW, [])?;
        db.execute("UPDATE gone SET new = 0 WHERE new", [])?;
    }
}
