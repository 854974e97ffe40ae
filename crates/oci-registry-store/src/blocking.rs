//! Blocking work, away from the threads that drive everybody's requests.

use oci_ref::{Error, ErrorKind, Result};

/// Runs blocking work, and waits for it. The work runs to its end even if nobody waits any longer.
pub(crate) async fn run<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

/// The error of a task that did not come to its end: the runtime is shutting down, or the task panicked.
pub(crate) fn stopped(error: tokio::task::JoinError) -> Error {
    let kind = if error.is_cancelled() { ErrorKind::Cancelled } else { ErrorKind::Internal };
    Error::new(kind, "the work was stopped before its end").with_source(error)
}
