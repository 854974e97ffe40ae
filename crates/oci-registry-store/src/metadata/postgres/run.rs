//! Running transactions: connections from a pool, a limit of time, and another try where that is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use futures_util::future::join;
use oci_ref::Error;
use oci_spec_types::Name;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::failure::{Failure, Outcome, is_connection};

/// How often a transaction is tried that others keep from succeeding.
const TRIES: u32 = 10;

/// The longest pause before the first of those tries; each next one may be twice as long.
const PAUSE: Duration = Duration::from_millis(4);

/// The time for a transaction that may take long.
const LONG: Duration = Duration::from_secs(60 * 60);

/// The parameters of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection in use. It goes back to the pool when it is known to be clean, and is closed otherwise, which makes the server
/// roll back whatever was begun.
pub(super) struct Db {
    client: Option<Object>,
    clean: AtomicBool,
}

impl Db {
    fn new(client: Object) -> Self {
        Self { client: Some(client), clean: AtomicBool::new(false) }
    }

    fn client(&self) -> &Object {
        self.client.as_ref().expect("the connection is there until it is dropped")
    }

    pub(super) async fn rows(&self, statement: &str, values: Values<'_>) -> Outcome<Vec<Row>> {
        let client = self.client();
        tracing::trace!(statement);
        let statement = client.prepare_cached(statement).await?;
        Ok(client.query(&statement, values).await?)
    }

    /// The first row.
    pub(super) async fn row(&self, statement: &str, values: Values<'_>) -> Outcome<Option<Row>> {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// The only column of the first row.
    pub(super) async fn value<T>(&self, statement: &str, values: Values<'_>) -> Outcome<Option<T>>
    where
        T: for<'a> FromSql<'a>,
    {
        self.row(statement, values).await?.map(|row| get(&row, 0)).transpose()
    }

    pub(super) async fn execute(&self, statement: &str, values: Values<'_>) -> Outcome<u64> {
        let client = self.client();
        tracing::trace!(statement);
        let statement = client.prepare_cached(statement).await?;
        Ok(client.execute(&statement, values).await?)
    }

    /// A statement that is not kept prepared, since what it is about does not last.
    pub(super) async fn execute_once(&self, statement: &str, values: Values<'_>) -> Outcome<u64> {
        tracing::trace!(statement);
        Ok(self.client().execute(statement, values).await?)
    }

    /// The rows of a statement that is not kept prepared.
    pub(super) async fn rows_once(&self, statement: &str, values: Values<'_>) -> Outcome<Vec<Row>> {
        tracing::trace!(statement);
        Ok(self.client().query(statement, values).await?)
    }

    async fn commit(&self, deadline: tokio::time::Instant) -> Outcome<()> {
        match tokio::time::timeout_at(deadline, self.batch("COMMIT")).await {
            Ok(Ok(())) => {
                self.clean.store(true, Ordering::Relaxed);
                Ok(())
            }
            // The server says that it has not been done.
            Ok(Err(error)) if error.code().is_some() && !is_connection(&error) => Err(error.into()),
            Ok(Err(error)) => Err(Failure::Unknown(Some(error))),
            Err(_) => Err(Failure::Unknown(None)),
        }
    }

    /// Statements without parameters.
    pub(super) async fn batch(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        self.client().batch_execute(statements).await
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        if !self.clean.load(Ordering::Relaxed) {
            drop(self.client.take().map(Object::take));
        }
    }
}

/// A column of a row.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Outcome<T> {
    Ok(row.try_get(column)?)
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begin {
    lock: Option<(Lock, i64)>,
    lazily: bool,
    reading: Option<Reading>,
}

/// Reading of a single state of the database.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// All rows of some tables.
    Tables,
    /// Some rows, by indexes.
    Page,
}

/// The lock on a repository.
#[derive(Clone, Copy, Debug)]
enum Lock {
    Shared,
    Alone,
}

impl Begin {
    /// For one that adds to a repository, beside others that do.
    pub(super) fn adding(name: &Name) -> Self {
        Self { lock: Some((Lock::Shared, lock_key(name.as_str()))), ..Self::default() }
    }

    /// For one that must be alone in a repository, such as because it takes something away.
    pub(super) fn alone(name: &Name) -> Self {
        Self { lock: Some((Lock::Alone, lock_key(name.as_str()))), ..Self::default() }
    }

    /// For one that nothing depends on after a crash of the database server.
    pub(super) fn lazily() -> Self {
        Self { lazily: true, ..Self::default() }
    }

    /// For one that sees a single state of the database, changes nothing that lasts, and may take long.
    pub(super) fn long() -> Self {
        Self { reading: Some(Reading::Tables), ..Self::default() }
    }

    /// For one that reads some rows of a single state of the database, by the plans that everybody
    /// has: those of [`long`](Self::long) are made anew each time, which takes longer than reading
    /// the rows.
    pub(super) fn page() -> Self {
        Self { reading: Some(Reading::Page), ..Self::default() }
    }

    fn statements(self) -> String {
        let mut text = match self.reading {
            Some(Reading::Tables) => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SET LOCAL statement_timeout = 0; \
                 SET LOCAL plan_cache_mode = auto; \
                 SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on"
            }
            Some(Reading::Page) => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
            }
            None => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        }
        .to_owned();
        if self.lazily {
            text.push_str("; SET LOCAL synchronous_commit = off");
        }
        match self.lock {
            Some((Lock::Shared, key)) => {
                text.push_str(&format!("; SELECT pg_advisory_xact_lock_shared({key})"));
            }
            Some((Lock::Alone, key)) => {
                text.push_str(&format!("; SELECT pg_advisory_xact_lock({key})"));
            }
            None => {}
        }
        text
    }
}

/// What stands for a repository among PostgreSQL's advisory locks. Two repositories may share one, and then wait for each other.
pub(super) fn lock_key(repository: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(b"repository\n");
    hash.update(repository);
    let hash = hash.finalize();
    let mut key = [0; 8];
    key.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(key)
}

/// Runs transactions on connections of a pool.
#[derive(Clone)]
pub(super) struct Runner {
    pool: Pool,
    limit: Duration,
}

impl Runner {
    /// Each try of a transaction may take as long as `limit`, without the time to get a connection.
    pub(super) fn new(pool: Pool, limit: Duration) -> Self {
        Self { pool, limit }
    }

    /// Runs a query of statements that stand each for itself and change nothing.
    pub(super) async fn read<T, F, W>(&self, doing: &'static str, query: F) -> Result<T, Error>
    where
        F: Fn(Arc<Db>) -> W,
        W: Future<Output = Outcome<T>>,
    {
        let mut tries = Tries::default();
        loop {
            match self.read_once(&query).await {
                Ok(value) => return Ok(value),
                Err(failure) => tries.again(failure).await.map_err(|it| it.into_error(doing))?,
            }
        }
    }

    async fn read_once<T, F, W>(&self, query: &F) -> Outcome<T>
    where
        F: Fn(Arc<Db>) -> W,
        W: Future<Output = Outcome<T>>,
    {
        let db = self.connect().await?;
        let outcome = tokio::time::timeout(self.limit, query(Arc::clone(&db))).await;
        let outcome = outcome.unwrap_or(Err(Failure::Slow(self.limit)));
        match &outcome {
            Err(Failure::Slow(_)) => {}
            Err(Failure::Sql(error)) if is_connection(error) => {}
            _ => db.clean.store(true, Ordering::Relaxed),
        }
        outcome
    }

    /// Runs a transaction. It is run again from its start if others were in its way.
    pub(super) async fn write<T, F, W>(
        &self,
        doing: &'static str,
        begin: Begin,
        work: F,
    ) -> Result<T, Error>
    where
        F: Fn(Arc<Db>) -> W,
        W: Future<Output = Outcome<T>>,
    {
        self.try_write(begin, work).await.map_err(|failure| failure.into_error(doing))
    }

    /// The same, with the failure itself.
    pub(super) async fn try_write<T, F, W>(&self, begin: Begin, work: F) -> Outcome<T>
    where
        F: Fn(Arc<Db>) -> W,
        W: Future<Output = Outcome<T>>,
    {
        let limit = if begin.reading.is_some() { LONG } else { self.limit };
        let begin = begin.statements();
        let mut tries = Tries::default();
        loop {
            match self.write_once(&begin, limit, &work).await {
                Ok(value) => return Ok(value),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    async fn write_once<T, F, W>(&self, begin: &str, limit: Duration, work: &F) -> Outcome<T>
    where
        F: Fn(Arc<Db>) -> W,
        W: Future<Output = Outcome<T>>,
    {
        let db = self.connect().await?;
        let deadline = tokio::time::Instant::now() + limit;
        // The beginning is sent first, and not waited for: what follows is executed after it.
        let all = join(db.batch(begin), work(Arc::clone(&db)));
        let all = tokio::time::timeout_at(deadline, all).await;
        let (begun, outcome) = all.map_err(|_| Failure::Slow(limit))?;
        match begun.map_err(Failure::from).and(outcome) {
            Ok(value) => {
                db.commit(deadline).await?;
                Ok(value)
            }
            Err(failure) => {
                let rolled_back = tokio::time::timeout_at(deadline, db.batch("ROLLBACK")).await;
                if matches!(rolled_back, Ok(Ok(()))) {
                    db.clean.store(true, Ordering::Relaxed);
                }
                Err(failure)
            }
        }
    }

    async fn connect(&self) -> Outcome<Arc<Db>> {
        Ok(Arc::new(Db::new(self.pool.get().await.map_err(Failure::NoConnection)?)))
    }
}

/// How often something was tried.
#[derive(Default)]
struct Tries {
    races: u32,
    reconnected: bool,
}

impl Tries {
    /// Pauses, if it is right to try again after this failure.
    async fn again(&mut self, failure: Failure) -> Outcome<()> {
        if failure.lost_connection() && !self.reconnected {
            // It was idle in the pool while the server went away and came back.
            self.reconnected = true;
            return Ok(());
        }
        if failure.is_race() && self.races < TRIES {
            tracing::debug!(races = self.races, ?failure, "a transaction is run again");
            tokio::time::sleep(pause(self.races)).await;
            self.races += 1;
            return Ok(());
        }
        Err(failure)
    }
}

/// A random pause, so that those that were in each other's way are not again.
fn pause(races: u32) -> Duration {
    let longest = PAUSE * 2_u32.pow(races.min(8));
    let random = crate::random::bytes::<1>().map_or(128, |[random]| random);
    longest * u32::from(random) / 256
}

/// An error that is no race and no refusal: the row must be there.
pub(super) fn absent(what: &'static str) -> Failure {
    Error::new(oci_ref::ErrorKind::Internal, format!("metadata database: there is no {what}"))
        .into()
}
