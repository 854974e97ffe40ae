//! Brings the tables of an older version to this one, while replicas of the older version go on.
//!
//! A step either is one transaction, which is quick or has no other way, or it runs *online*:
//! statement by statement, each of which blocks nobody for longer than a moment, and does nothing
//! where it has been done. One that was broken off is gone on with by the next program that starts.
//! A version is noted when all of its statements are done, and each leaves the tables so that
//! programs of the version before it, which are running, stay right; they refuse to start again
//! after that.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::error::SqlState;

use super::open::SCHEMA;

/// A step from one version to the next.
enum Step {
    /// Statements that are one transaction.
    Whole(&'static str),
    /// Changes that are made one after the other.
    Online(&'static [Change]),
}

/// A change that can be made while others use the tables.
enum Change {
    /// Makes an index: its name, and the statement. What is left of one that was broken off is
    /// removed first.
    Index(&'static str, &'static str),
    /// A statement that does nothing where it has been done.
    Statement(&'static str),
}

/// The steps by which each older version becomes the next, from version 1 on.
const STEPS: [Step; SCHEMA as usize - 1] = [
    Step::Whole(include_str!("migrations/2.sql")),
    Step::Whole(include_str!("migrations/3.sql")),
    Step::Online(&[
        // What many repositories have is looked up by both columns.
        Change::Index(
            "repository_blob_holders",
            "CREATE INDEX CONCURRENTLY repository_blob_holders ON repository_blob (blob, repository)",
        ),
        Change::Statement("DROP INDEX CONCURRENTLY IF EXISTS repository_blob_by_blob"),
        Change::Index(
            "repository_manifest_holders",
            "CREATE INDEX CONCURRENTLY repository_manifest_holders
             ON repository_manifest (manifest, repository)",
        ),
        Change::Statement("DROP INDEX CONCURRENTLY IF EXISTS repository_manifest_by_manifest"),
        // Most blobs have no object.
        Change::Index(
            "blob_object",
            "CREATE UNIQUE INDEX CONCURRENTLY blob_object ON blob (object)
             WHERE object IS NOT NULL",
        ),
        Change::Statement("ALTER TABLE blob DROP CONSTRAINT IF EXISTS blob_object_key"),
        Change::Statement(
            "CREATE TABLE IF NOT EXISTS deleted_subject (
                 repository bigint NOT NULL,
                 digest     text COLLATE \"C\" NOT NULL,
                 since      bigint NOT NULL,
                 marked     text COLLATE \"C\" NOT NULL,
                 PRIMARY KEY (repository, digest)
             )",
        ),
        Change::Statement(
            "ALTER TABLE repository_blob SET
             (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)",
        ),
        Change::Statement(
            "ALTER TABLE repository_manifest SET
             (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)",
        ),
    ]),
];

/// The advisory lock of whoever migrates.
const LOCK: i64 = 0x6f63_6972_6567_0002;

/// The pause before somebody who is in the way is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest time that a change which needs a table for a moment makes others wait, before it
/// lets them go on and tries again.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '1s'";

/// The settings while it runs: statements may take as long as they take, with plans for all rows of
/// a table.
const SETTINGS: &str =
    "SET statement_timeout = 0; SET enable_seqscan = on; SET enable_bitmapscan = on";

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Brings the tables to the current version, from whichever they have when it is this program's
/// turn. The connection is not to be used for anything else after that.
pub(super) async fn migrate(client: &mut Object) -> Result<()> {
    client.batch_execute(SETTINGS).await?;
    // Waiting for the lock in a statement would hold up whoever has it: an index is only done when
    // all statements that began before it have ended.
    while !client
        .query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK])
        .await?
        .try_get::<_, bool>(0)?
    {
        tracing::info!("waiting for another replica, which brings the metadata to a newer schema");
        tokio::time::sleep(PAUSE * 10).await;
    }
    let found = client.query_one("SELECT version FROM oci_registry_schema", &[]).await?;
    let found: i32 = found.try_get(0)?;
    for (to, step) in (2..).zip(&STEPS).filter(|(to, _)| *to > found) {
        tracing::info!(from = to - 1, to, "bringing the metadata to a newer schema");
        match step {
            Step::Whole(statements) => {
                let transaction = client.transaction().await?;
                transaction.batch_execute(statements).await?;
                set_version(&transaction, to).await?;
                transaction.commit().await?;
            }
            Step::Online(changes) => {
                for change in *changes {
                    patiently(client, change).await?;
                }
                set_version(&*client, to).await?;
            }
        }
    }
    Ok(())
}

async fn set_version(client: &impl GenericClient, version: i32) -> Result<()> {
    client.execute("UPDATE oci_registry_schema SET version = $1", &[&version]).await?;
    Ok(())
}

/// Makes a change as often as others are in its way.
async fn patiently(client: &Object, change: &Change) -> Result<()> {
    loop {
        match make(client, change).await {
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)
                ) =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            made => return made,
        }
    }
}

async fn make(client: &Object, change: &Change) -> Result<()> {
    match change {
        Change::Statement(statement) => {
            client.batch_execute(LOCK_TIMEOUT).await?;
            client.batch_execute(statement).await
        }
        Change::Index(name, create) => {
            let find = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
            match client.query_opt(find, &[name]).await?.map(|row| row.try_get(0)).transpose()? {
                Some(true) => return Ok(()),
                Some(false) => {
                    client.batch_execute(LOCK_TIMEOUT).await?;
                    client.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}")).await?;
                }
                None => {}
            }
            // It waits for transactions, and nobody waits for it.
            client.batch_execute("SET lock_timeout = 0").await?;
            client.batch_execute(create).await
        }
    }
}
