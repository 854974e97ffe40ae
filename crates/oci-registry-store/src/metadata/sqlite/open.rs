//! Opening the database file: what it must be, and how it is set up.

use std::path::Path;

use oci_ref::{Error, ErrorKind, Result};
use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::{Outcome, sql_error};
use super::writer::run_alone;

/// Marks the file as this engine's: "ocir".
const APPLICATION: i32 = 0x6f63_6972;

/// The version of `schema.sql`.
const SCHEMA: i32 = 6;

/// How each older version becomes the next, from version 1 on.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/2.sql"),
    include_str!("migrations/3.sql"),
    include_str!("migrations/4.sql"),
    include_str!("migrations/5.sql"),
    include_str!("migrations/6.sql"),
];

/// Prepared statements kept for each connection.
const STATEMENTS: usize = 64;

/// The least memory of a connection that reads, for pages of the database.
const READER_CACHE: usize = 2 << 20;

/// Opens the connection that writes, creates the tables in a new file, and brings those of an older version to this one.
pub(super) fn writer(path: &Path, sync: bool) -> Result<Connection> {
    let mut connection = connect(path).map_err(|error| unusable(path, error))?;
    let found = check(&connection).map_err(|error| unusable(path, error))?;
    let found = found.map_err(|found| foreign(path, &found))?;
    configure(&connection, sync).map_err(|error| unusable(path, error))?;
    match found {
        Found::Nothing => run_alone(&mut connection, "create the tables", create)?,
        Found::Version(SCHEMA) => {}
        Found::Version(older) => {
            tracing::info!(from = older, to = SCHEMA, "bringing the metadata to a newer schema");
            run_alone(&mut connection, "bring it to a newer schema", |db| migrate(db, older))?;
        }
    }
    Ok(connection)
}

/// Opens a connection that reads, with so many bytes for pages of the database.
pub(super) fn reader(path: &Path, cache: usize) -> Result<Connection> {
    let open = || {
        let connection = connect(path)?;
        keep_statements(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        // In KiB, if negative.
        let cache = i64::try_from(cache.max(READER_CACHE) >> 10).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -cache)?;
        Ok(connection)
    };
    open().map_err(|error| sql_error("open a connection", error))
}

/// Opens the connection that merges the log into the database. It syncs both, else a power cut could leave a database that is no
/// database.
pub(super) fn merger(path: &Path) -> Result<Connection> {
    let open = || {
        let connection = connect(path)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(connection)
    };
    open().map_err(|error| sql_error("open a connection", error))
}

/// Opens a connection for one piece of work, which keeps what it works out in temporary tables.
pub(super) fn scratch(path: &Path) -> Result<Connection> {
    connect(path).map_err(|error| sql_error("open a connection", error))
}

/// Copies one state of a database to a file that is not there, without what belongs to uploads or to this engine alone.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: rusqlite::Error| {
        let message = format!("metadata database: cannot copy it to {}", to.display());
        Error::new(super::failure::kind(&error), message).with_source(error)
    };
    let source = scratch(from)?;
    let mut copy = connect(to).map_err(failed)?;
    let clean = |copy: &mut Connection| {
        // All pages at once: whoever writes meanwhile would make it begin again.
        Backup::new(&source, copy)?.step(-1)?;
        copy.execute_batch(
            "DELETE FROM session; DELETE FROM closed_session; DELETE FROM pending_object; DELETE FROM setting;",
        )?;
        // Everything is in the one file from now on.
        copy.pragma_update(None, "journal_mode", "DELETE")
    };
    clean(&mut copy).map_err(failed)?;
    copy.close().map_err(|(_, error)| failed(error))
}

/// Opens the file, whatever is in its name: it is never a URI.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// What is in a file that can be used.
enum Found {
    Nothing,
    Version(i32),
}

/// What is in the file, or what it is if it cannot be used. Changes nothing.
fn check(connection: &Connection) -> rusqlite::Result<std::result::Result<Found, String>> {
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Ok(Found::Nothing),
        (APPLICATION, 1..=SCHEMA, _) => Ok(Found::Version(version)),
        (APPLICATION, newer, _) if newer > SCHEMA => Err(format!(
            "has schema version {newer}, and this program knows no newer one than {SCHEMA}: use the program that wrote it, or a newer one"
        )),
        (APPLICATION, other, _) => {
            Err(format!("has schema version {other}, expected 1 to {SCHEMA}"))
        }
        _ => Err("is the database of another program".into()),
    })
}

fn configure(connection: &Connection, sync: bool) -> rusqlite::Result<()> {
    keep_statements(connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL keeps the database whole through a power cut, but may lose the last commits.
    connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // In KiB, if negative.
    connection.pragma_update(None, "cache_size", -8192)
}

/// Prepares each statement once. Else SQLite prepares some anew for each value that is bound to them, to look for a better plan.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

fn create(connection: &Connection) -> Outcome<()> {
    connection.execute_batch(include_str!("schema.sql"))?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", SCHEMA)?;
    Ok(())
}

/// All versions in one transaction: it succeeds, or the file stays what it was.
fn migrate(connection: &Connection, from: i32) -> Outcome<()> {
    for (to, migration) in (2..).zip(MIGRATIONS) {
        if to > from {
            connection.execute_batch(migration)?;
        }
    }
    connection.pragma_update(None, "user_version", SCHEMA)?;
    Ok(())
}

fn unusable(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.display();
    let message = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            format!("metadata database {path} is damaged: restore it from a backup")
        }
        _ => format!("metadata database {path} cannot be opened"),
    };
    Error::new(super::failure::kind(&error), message).with_source(error)
}

fn foreign(path: &Path, found: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("metadata database {} {found}", path.display()))
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let writer = writer(&path, false).unwrap();
        let reader = reader(&path, 0).unwrap();
        for connection in [&writer, &reader] {
            let mut find = connection
                .prepare_cached(
                    "SELECT data FROM session
                     LEFT JOIN pending_object ON pending_object.key = session.object
                     WHERE id = ?1 AND repository = ?2",
                )
                .unwrap();
            for id in ["one", "two", "three"] {
                assert!(!find.exists((id, "a/b")).unwrap());
            }
            assert_eq!(find.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
