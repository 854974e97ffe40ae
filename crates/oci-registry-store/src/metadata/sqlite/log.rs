//! Merging the write-ahead log into the database file, so that the log can begin anew.
//!
//! Nobody can commit while the thread that writes does that, and most of the time goes into writing pages and syncing them. So
//! another thread does it beside the writer. It cannot catch up with one that goes on: what is left then is little, and the
//! writer does it. Only a log that was merged wholly begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use oci_ref::{Error, Result};
use rusqlite::Connection;

use super::failure::sql_error;

/// How many pages the log may have before it is merged: 16 MiB.
const PAGES: u32 = 4096;

/// How many pages are little.
const LITTLE: u32 = 128;

/// How often the thread tries to leave no more than that.
const ROUNDS: usize = 4;

/// The log, as the thread that writes knows it.
pub(super) struct Log {
    state: Arc<State>,
    asked: bool,
    ask: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// How many pages were in the log after the last commit.
    pages: AtomicU32,
    /// Whether the thread has done what it was asked for.
    done: AtomicBool,
}

impl Log {
    /// Follows the commits of the connection that writes, and merges on another one.
    pub(super) fn follow(writer: &mut Connection, merger: Connection) -> Result<Self> {
        let state = Arc::new(State::default());
        let seen = Arc::clone(&state);
        let hook = move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            // Never below 0.
            seen.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        };
        writer.wal_hook(Some(hook)).map_err(|error| sql_error("follow the log", error))?;
        let (ask, asked) = mpsc::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("metadata-merger".into())
            .spawn(move || serve(&merger, &asked, &shared))
            .map_err(|error| Error::io("cannot start the thread that merges the log", error))?;
        Ok(Self { state, asked: false, ask: Some(ask), thread: Some(thread) })
    }

    /// To be called after each commit, on the thread that writes.
    pub(super) fn committed(&mut self, writer: &Connection) {
        if self.asked {
            if self.state.done.swap(false, Ordering::Acquire) {
                self.asked = false;
                merge(writer);
            }
        } else if self.state.pages.load(Ordering::Relaxed) >= PAGES
            && let Some(ask) = &self.ask
        {
            self.asked = ask.send(()).is_ok();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, if this fails; then there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

fn serve(merger: &Connection, asked: &Receiver<()>, state: &State) {
    while asked.recv().is_ok() {
        for _ in 0..ROUNDS {
            let merged = merge(merger);
            if state.pages.load(Ordering::Relaxed).saturating_sub(merged) <= LITTLE {
                break;
            }
        }
        state.done.store(true, Ordering::Release);
    }
}

/// Merges as much as no reader needs to stay in the log, and gives how many of the log's pages are merged now. A failure loses
/// nothing: the log has it all.
fn merge(connection: &Connection) -> u32 {
    let merged = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2));
    let merged: i64 = merged.unwrap_or_else(|error| {
        tracing::warn!(%error, "the metadata log could not be merged into the database");
        0
    });
    // Below 0 if somebody else is merging it.
    u32::try_from(merged).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: i64 = 100_000;

    fn open(path: &std::path::Path) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        connection
    }

    #[test]
    fn a_log_begins_anew_however_much_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut writer = open(&path);
        writer.execute_batch("CREATE TABLE t (data BLOB)").unwrap();
        let mut log = Log::follow(&mut writer, open(&path)).unwrap();
        let mut most = 0;
        let mut begun_anew = 0;
        while begun_anew < 3 {
            writer.execute("INSERT INTO t VALUES (zeroblob(?1))", [ROW]).unwrap();
            let pages = log.state.pages.load(Ordering::Relaxed);
            begun_anew += u32::from(pages < most);
            most = if pages < most { 0 } else { pages };
            log.committed(&writer);
        }
        drop(log);
        let whole: String =
            writer.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(whole, "ok");
    }

    #[test]
    fn a_log_that_a_reader_needs_grows_until_it_has_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut writer = open(&path);
        writer.execute_batch("CREATE TABLE t (data BLOB); INSERT INTO t VALUES ('')").unwrap();
        let reader = open(&path);
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        let mut log = Log::follow(&mut writer, open(&path)).unwrap();
        let mut write = || {
            writer.execute("INSERT INTO t VALUES (zeroblob(?1))", [ROW]).unwrap();
            log.committed(&writer);
            log.state.pages.load(Ordering::Relaxed)
        };
        while write() < 2 * PAGES {}
        let seen: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(seen, 1, "the reader sees what was there when it began");
        reader.execute_batch("COMMIT").unwrap();
        while write() >= 2 * PAGES {}
    }
}
