//! Why a transaction failed, and what is to be done about it.

use std::time::Duration;

use deadpool_postgres::PoolError;
use oci_ref::{Error, ErrorKind};
use tokio_postgres::error::SqlState;

/// What a transaction gives.
pub(super) type Outcome<T> = Result<T, Failure>;

#[derive(Debug)]
pub(super) enum Failure {
    /// What was asked for cannot be.
    Refused(Error),
    /// The statement, or the connection, failed. Nothing has been committed.
    Sql(tokio_postgres::Error),
    /// No connection could be had.
    NoConnection(PoolError),
    /// There was no answer in this time. Nothing has been committed.
    Slow(Duration),
    /// A commit was sent and not answered: it may have been done.
    Unknown(Option<tokio_postgres::Error>),
    /// Another transaction was quicker. The same can be tried again.
    Raced,
    /// It has to be done while nobody else changes the repository.
    Alone,
}

impl Failure {
    /// Whether the same transaction may succeed if it is run again at once.
    pub(super) fn is_race(&self) -> bool {
        match self {
            Self::Raced => true,
            Self::Sql(error) => matches!(
                error.code(),
                Some(
                    &SqlState::T_R_SERIALIZATION_FAILURE
                        | &SqlState::T_R_DEADLOCK_DETECTED
                        | &SqlState::FOREIGN_KEY_VIOLATION
                        | &SqlState::UNIQUE_VIOLATION
                )
            ),
            _ => false,
        }
    }

    /// Whether the connection was lost before anything was committed. Another one may be there.
    pub(super) fn lost_connection(&self) -> bool {
        matches!(self, Self::Sql(error) if is_connection(error))
    }

    /// The error that a caller sees.
    pub(super) fn into_error(self, doing: &'static str) -> Error {
        let cannot =
            |kind, why: &str| Error::new(kind, format!("metadata database: cannot {doing}{why}"));
        match self {
            Self::Refused(error) => error,
            Self::Sql(error) => cannot(kind(&error), "").with_source(error),
            Self::NoConnection(error) => {
                cannot(ErrorKind::Unavailable, ": no connection").with_source(error)
            }
            Self::Slow(limit) => {
                let why = format!(": no answer in {} s", limit.as_secs_f32());
                cannot(ErrorKind::Unavailable, &why)
            }
            Self::Unknown(error) => {
                let why = ": the connection was lost while it was committed, so that it may have been done";
                let unknown = cannot(ErrorKind::Unavailable, why);
                match error {
                    Some(error) => unknown.with_source(error),
                    None => unknown,
                }
            }
            Self::Raced | Self::Alone => {
                cannot(ErrorKind::Unavailable, ": others change the same all the time")
            }
        }
    }
}

/// Whether an error says that the connection, or the server behind it, is gone.
pub(super) fn is_connection(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08")
                || matches!(
                    *code,
                    SqlState::ADMIN_SHUTDOWN
                        | SqlState::CRASH_SHUTDOWN
                        | SqlState::CANNOT_CONNECT_NOW
                        | SqlState::READ_ONLY_SQL_TRANSACTION
                )
        }
        None => error.is_closed() || is_caused_by_io(error),
    }
}

fn is_caused_by_io(error: &tokio_postgres::Error) -> bool {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

pub(super) fn kind(error: &tokio_postgres::Error) -> ErrorKind {
    match error.code() {
        Some(&SqlState::DISK_FULL) => ErrorKind::StorageFull,
        Some(&SqlState::IO_ERROR) => ErrorKind::Io,
        // No resources (53), an operator stepped in (57), locked by others (55), and races (40).
        Some(code)
            if ["53", "57", "55", "40"].iter().any(|class| code.code().starts_with(class)) =>
        {
            ErrorKind::Unavailable
        }
        _ if is_connection(error) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
