//! Why a transaction failed: SQLite did, or the request was refused.

use oci_ref::{Error, ErrorKind};
use rusqlite::ErrorCode as Sql;

/// What a transaction gives.
pub(super) type Outcome<T> = Result<T, Failure>;

#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite could not do it.
    Sql(rusqlite::Error),
    /// What was asked for cannot be.
    Refused(Error),
}

impl Failure {
    /// The error that a caller sees.
    pub(super) fn into_error(self, doing: &'static str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => sql_error(doing, error),
        }
    }
}

/// An error of SQLite, in the terms of a caller.
pub(super) fn sql_error(doing: &str, error: rusqlite::Error) -> Error {
    let why = match error.sqlite_error_code() {
        Some(Sql::NotADatabase | Sql::DatabaseCorrupt) => {
            ": it is damaged, restore it from a backup"
        }
        Some(Sql::ReadOnly) => ": the file, or the directory that it is in, may not be written to",
        _ => "",
    };
    Error::new(kind(&error), format!("metadata database: cannot {doing}{why}")).with_source(error)
}

pub(super) fn kind(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(Sql::DiskFull) => ErrorKind::StorageFull,
        Some(Sql::DatabaseBusy | Sql::DatabaseLocked) => ErrorKind::Unavailable,
        Some(Sql::SystemIoFailure | Sql::CannotOpen | Sql::ReadOnly | Sql::PermissionDenied) => {
            ErrorKind::Io
        }
        _ => ErrorKind::Internal,
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
