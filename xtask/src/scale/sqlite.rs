//! Rows written to SQLite: the one place that knows its columns.

use std::path::Path;

use rusqlite::Connection;

use crate::process::Result;
use crate::scale::row::Row;

/// The number of rows in a transaction.
const TRANSACTION: usize = 200_000;

/// A database that is filled.
pub(crate) struct Sink {
    db: Connection,
    path: String,
    /// Rows since the last transaction began.
    rows: usize,
}

impl Sink {
    /// Opens a database whose tables are there, and which nobody else uses.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let open = || {
            let db = Connection::open(path)?;
            // Nothing is lost that could not be made again, and keys are checked when all is there.
            db.pragma_update(None, "synchronous", "OFF")?;
            db.pragma_update(None, "foreign_keys", false)?;
            // In KiB, if negative: what indexes of digests need, whose leaves are written in no
            // order.
            db.pragma_update(None, "cache_size", -(1 << 20))?;
            db.execute_batch("BEGIN")?;
            Ok(db)
        };
        let db = open().map_err(|error: rusqlite::Error| format!("{shown}: {error}"))?;
        Ok(Self { db, path: shown, rows: 0 })
    }

    pub(crate) fn write(&mut self, rows: &[Row]) -> Result {
        for row in rows {
            insert(&self.db, row)
                .map_err(|error| format!("{}: writing {row:?}: {error}", self.path))?;
        }
        self.rows += rows.len();
        if self.rows >= TRANSACTION {
            self.rows = 0;
            return self.run("COMMIT; BEGIN");
        }
        Ok(())
    }

    /// Ends with the last transaction, and merges the log.
    pub(crate) fn finish(self) -> Result {
        self.run("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn run(&self, statements: &str) -> Result {
        self.db.execute_batch(statements).map_err(|error| format!("{}: {error}", self.path))
    }
}

fn insert(db: &Connection, row: &Row) -> rusqlite::Result<usize> {
    match row {
        Row::Repository { id, name } => {
            let insert = "INSERT INTO repository (id, name) VALUES (?1, ?2)";
            db.prepare_cached(insert)?.execute((id, name))
        }
        Row::Blob { id, digest, data } => {
            let insert =
                "INSERT INTO blob (id, digest, size, data) VALUES (?1, ?2, length(?3), ?3)";
            db.prepare_cached(insert)?.execute((id, digest, data))
        }
        Row::Holding { repository, blob } => {
            let insert = "INSERT INTO repository_blob (repository, blob) VALUES (?1, ?2)";
            db.prepare_cached(insert)?.execute((repository, blob))
        }
        Row::Manifest { id, digest, data } => {
            let insert =
                "INSERT INTO manifest (id, digest, size, data) VALUES (?1, ?2, length(?3), ?3)";
            db.prepare_cached(insert)?.execute((id, digest, data))
        }
        Row::Link { id, repository, manifest, media_type, artifact_type } => {
            let insert = "INSERT INTO repository_manifest (id, repository, manifest, media_type, artifact_type)
                          VALUES (?1, ?2, ?3, ?4, ?5)";
            let values = (id, repository, manifest, media_type, artifact_type);
            db.prepare_cached(insert)?.execute(values)
        }
        Row::Reference { parent, repository, blob } => {
            let insert = "INSERT INTO manifest_blob (parent, repository, blob) VALUES (?1, ?2, ?3)";
            db.prepare_cached(insert)?.execute((parent, repository, blob))
        }
        Row::Child { parent, repository, child } => {
            let insert =
                "INSERT INTO manifest_child (parent, repository, child) VALUES (?1, ?2, ?3)";
            db.prepare_cached(insert)?.execute((parent, repository, child))
        }
        Row::Tag { repository, name, manifest } => {
            let insert = "INSERT INTO tag (repository, name, manifest) VALUES (?1, ?2, ?3)";
            db.prepare_cached(insert)?.execute((repository, name, manifest))
        }
        Row::Referrer { repository, subject, digest, artifact_type, manifest, descriptor } => {
            let insert = "INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
                          VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let values = (repository, subject, digest, artifact_type, manifest, descriptor);
            db.prepare_cached(insert)?.execute(values)
        }
    }
}
