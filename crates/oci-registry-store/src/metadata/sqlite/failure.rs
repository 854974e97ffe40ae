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
        Some(Sql::CannotOpen) => cannot_open(std::fs::File::open("/dev/null").err()),
        Some(Sql::SystemIoFailure | Sql::ReadOnly | Sql::PermissionDenied) => ErrorKind::Io,
        _ => ErrorKind::Internal,
    }
}

/// The reason for which SQLite, which does not tell it, cannot open a file: want of descriptors if
/// another cannot be opened for that either.
fn cannot_open(another: Option<std::io::Error>) -> ErrorKind {
    another.map_or(ErrorKind::Io, |error| Error::io("", error).kind().clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    // zot#359
    #[test]
    fn a_file_that_cannot_be_opened_for_want_of_descriptors_may_be_later() {
        const EMFILE: i32 = 24;
        let no_more = std::io::Error::from_raw_os_error(EMFILE);
        assert_eq!(cannot_open(Some(no_more)), ErrorKind::Unavailable);
        assert_eq!(cannot_open(None), ErrorKind::Io);
    }
}
