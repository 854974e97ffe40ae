//! The one thread that writes, and the commit that concurrent requests share.
//!
//! A commit costs a sync of the disk, whatever is in it. So each request runs under a savepoint of its own, those that wait
//! meanwhile run in the same transaction, and all are answered after the one COMMIT has returned. Nobody is answered before.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oci_ref::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::failure::{Failure, Outcome, kind, sql_error};
use super::log::Log;

/// How many requests may wait.
const QUEUE: usize = 1024;

/// How many requests may share a commit.
const MOST_PER_COMMIT: usize = 512;

/// How long requests are gathered before those that are done are committed.
const LONGEST_GATHERING: Duration = Duration::from_millis(20);

/// The writer. Dropping it waits until all that was asked for is committed.
pub(super) struct Writer {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. It calls `ended` after every transaction, before anybody hears of it. The `merger` is another connection,
    /// for the log.
    pub(super) fn start(
        mut connection: Connection,
        merger: Connection,
        ended: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let log = Log::follow(&mut connection, merger)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || serve(&connection, queue, log, ended))
            .map_err(|error| Error::io("cannot start the thread that writes metadata", error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Runs a transaction. Once it is queued it runs to its end, even if nobody waits for it any longer.
    pub(super) async fn run<T, F>(&self, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call { doing, work: Some(work), outcome: None, reply };
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(Box::new(call)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It panicked, if this fails; then there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Unavailable, "the metadata writer has stopped")
}

/// A transaction that waits, and then its outcome that waits for the commit.
trait Request: Send {
    /// Runs it, and tells whether it succeeded.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Answers, now that the commit has succeeded, or failed.
    fn answer(self: Box<Self>, failed: Option<&Failed>);
}

/// A commit that failed, for those who shared it.
struct Failed {
    kind: ErrorKind,
    reason: String,
}

impl Failed {
    fn new(error: &rusqlite::Error) -> Self {
        Self { kind: kind(error), reason: error.to_string() }
    }
}

struct Call<T, F> {
    doing: &'static str,
    work: Option<F>,
    outcome: Option<Outcome<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Request for Call<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Outcome<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.outcome = self.work.take().map(|work| work(connection));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, failed: Option<&Failed>) {
        let doing = self.doing;
        let answer = match (self.outcome, failed) {
            (Some(Err(failure)), _) => Err(failure.into_error(doing)),
            (Some(Ok(value)), None) => Ok(value),
            (Some(Ok(_)), Some(failed)) => {
                let message = format!("metadata database: cannot {doing}: {}", failed.reason);
                Err(Error::new(failed.kind.clone(), message))
            }
            (None, _) => Err(stopped()),
        };
        // Whoever asked may have gone away.
        let _ = self.reply.send(answer);
    }
}

fn serve(
    connection: &Connection,
    mut queue: mpsc::Receiver<Box<dyn Request>>,
    mut log: Log,
    ended: impl Fn(),
) {
    let mut waiting = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        waiting.push(first);
        let failed = transaction(connection, &mut waiting, &mut queue).err();
        if let Some(failed) = &failed {
            tracing::error!(reason = %failed.reason, "metadata transaction failed");
            if !connection.is_autocommit()
                && let Err(error) = execute(connection, "ROLLBACK")
            {
                tracing::error!(%error, "metadata transaction could not be rolled back");
            }
        }
        ended();
        for request in waiting.drain(..) {
            request.answer(failed.as_ref());
        }
        log.committed(connection);
    }
}

/// Runs the first request, and those that come meanwhile, in one transaction.
fn transaction(
    connection: &Connection,
    waiting: &mut Vec<Box<dyn Request>>,
    queue: &mut mpsc::Receiver<Box<dyn Request>>,
) -> std::result::Result<(), Failed> {
    let begun = Instant::now();
    let failed = |error| Failed::new(&error);
    execute(connection, "BEGIN IMMEDIATE").map_err(failed)?;
    let mut next = 0;
    let mut changed = false;
    while let Some(request) = waiting.get_mut(next) {
        execute(connection, "SAVEPOINT request").map_err(failed)?;
        if request.run(connection) {
            changed = true;
        } else if connection.is_autocommit() {
            // SQLite has given up the whole transaction, as it does when the disk is full.
            return Err(Failed {
                kind: ErrorKind::Unavailable,
                reason: "the transaction that it shared was rolled back".into(),
            });
        } else {
            execute(connection, "ROLLBACK TO request").map_err(failed)?;
        }
        execute(connection, "RELEASE request").map_err(failed)?;
        next += 1;
        if next < MOST_PER_COMMIT
            && begun.elapsed() < LONGEST_GATHERING
            && let Ok(another) = queue.try_recv()
        {
            waiting.push(another);
        }
    }
    execute(connection, if changed { "COMMIT" } else { "ROLLBACK" }).map_err(failed)
}

fn execute(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}

/// Runs a single transaction on a connection that nobody else uses yet.
pub(super) fn run_alone<T>(
    connection: &mut Connection,
    doing: &'static str,
    work: impl FnOnce(&Connection) -> Outcome<T>,
) -> Result<T> {
    let run = |connection: &mut Connection| -> Outcome<T> {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    };
    run(connection).map_err(|failure| match failure {
        Failure::Sql(error) => sql_error(doing, error),
        Failure::Refused(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::mpsc;

    use super::*;

    /// The log grows only when a transaction commits, so those that see it at the same length share one.
    #[tokio::test(flavor = "multi_thread")]
    async fn requests_that_wait_share_a_commit() {
        const REQUESTS: usize = 100;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        let writer = Writer::start(connection, Connection::open(&path).unwrap(), || ()).unwrap();
        let log = directory.path().join("db-wal");

        let (go, wait) = mpsc::channel::<()>();
        let first = writer.run("wait", move |_| Ok(wait.recv().is_err()));
        let rest = (0..REQUESTS).map(|n| {
            let log = log.clone();
            writer.run("insert", move |db| {
                db.execute("INSERT INTO t VALUES (?1)", [n as i64])?;
                Ok(std::fs::metadata(log).unwrap().len())
            })
        });
        // All are queued before the first is let go, since each future is polled in turn.
        let release = async { drop(go) };
        let (first, seen, ()) =
            futures_util::future::join3(first, futures_util::future::join_all(rest), release).await;
        assert!(first.unwrap());
        let seen: HashSet<u64> = seen.into_iter().map(Result::unwrap).collect();
        assert!(seen.len() < REQUESTS / 2, "{REQUESTS} requests took {} commits", seen.len());
    }

    /// Whatever a request has written before it is refused, is undone, and nothing else is.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_request_is_undone_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        let writer = Writer::start(connection, Connection::open(&path).unwrap(), || ()).unwrap();
        let requests = (0..20).map(|n: i64| {
            writer.run("insert", move |db| {
                db.execute("INSERT INTO t VALUES (?1)", [n])?;
                match n % 2 {
                    0 => Ok(()),
                    _ => Err(Error::new(ErrorKind::Invalid, "odd").into()),
                }
            })
        });
        for (n, result) in futures_util::future::join_all(requests).await.into_iter().enumerate() {
            assert_eq!(result.is_ok(), n % 2 == 0);
        }
        drop(writer);
        let sum = "SELECT count(*), sum(n % 2) FROM t";
        let found = Connection::open(&path)
            .unwrap()
            .query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(found, Ok((10, 0)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn dropping_waits_for_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        let writer = Writer::start(connection, Connection::open(&path).unwrap(), || ()).unwrap();
        let insert = writer.run("insert", |db| Ok(db.execute("INSERT INTO t VALUES (1)", [])?));
        // Polled once, which queues it, and then forgotten.
        futures_util::future::select(Box::pin(insert), std::future::ready(())).await;
        drop(writer);
        let count =
            Connection::open(&path)
                .unwrap()
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        assert_eq!(count, Ok(1));
    }
}
