//! The connections that read. A reader sees what was committed before it began, and never waits for the writer.

use std::sync::{Arc, Mutex, PoisonError};

use oci_ref::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Outcome;
use crate::blocking;

/// A fixed set of connections.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { idle: Arc::new(Mutex::new(connections)), permits }
    }

    /// Runs a query, which is one statement or does not mind what is committed between its statements.
    pub(super) async fn run<T, F>(&self, doing: &'static str, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the metadata database is closed"))?;
        let reader =
            Reader { connection: self.take(), idle: Arc::clone(&self.idle), _permit: permit };
        blocking::run(move || {
            let connection =
                reader.connection.as_ref().expect("there is a connection for each permit");
            query(connection).map_err(|failure| failure.into_error(doing))
        })
        .await
    }

    /// Keeps everybody else from reading until this is dropped.
    #[cfg(test)]
    pub(super) async fn hold_up(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(self.permits.available_permits()).unwrap();
        Arc::clone(&self.permits).acquire_many_owned(all).await.unwrap()
    }

    fn take(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// A connection in use, which goes back whatever happens.
struct Reader {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    // Dropped after the connection went back.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
