//! Opening a database: what it must be, how its tables are made, and the connections to it.

use std::time::Duration;

use deadpool_postgres::{
    GenericClient, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode,
    RecyclingMethod, Runtime,
};
use futures_util::future::try_join;
use oci_ref::{Error, ErrorKind, Result};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use super::engine;
use super::migrate::migrate;
use super::run::Runner;
use super::tls::Tls;
use super::url::Url;
use crate::blocking;

/// The version of `schema.sql`.
pub(super) const SCHEMA: i32 = 4;

/// The advisory lock under which the tables are made: of several replicas that start at once, one does it.
const CREATION_LOCK: i64 = 0x6f63_6972_6567_0001;

/// How long a connection, or a free one of the pool, is waited for.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a statement may take, and how long it may wait for others.
const STATEMENT: Duration = Duration::from_secs(30);

/// How long a whole transaction may take.
const TRANSACTION: Duration = Duration::from_secs(40);

/// How connections are made.
pub(super) struct Settings {
    /// How many at most.
    pub(super) connections: usize,
    /// Whether a commit is durable before it is acknowledged.
    pub(super) sync: bool,
}

/// Connects to a database, makes the tables in an empty one, and brings those of an older version
/// to this one.
pub(super) async fn open(url: &Url, settings: &Settings) -> Result<Runner> {
    let pool = pool(url, settings).await?;
    let both = try_join(pool.get(), pool.get()).await;
    let (mut client, other) = both.map_err(|error| unreachable(url, error))?;
    let product = engine::check(url, &client, &other).await?;
    drop(other);
    prepare(url, &pool, &mut client).await?;
    let other = pool.get().await.map_err(|error| unreachable(url, error))?;
    engine::check_rows(url, &product, &client, &other).await?;
    Ok(Runner::new(pool, TRANSACTION))
}

async fn pool(url: &Url, settings: &Settings) -> Result<Pool> {
    let mut config = url.config.clone();
    config.connect_timeout(*config.get_connect_timeout().unwrap_or(&CONNECT));
    // Finds a server that is gone without a word; a query that is under way has its own limit of time.
    config.keepalives_idle(Duration::from_secs(30));
    if config.get_application_name().is_none() {
        config.application_name("oci-registry");
    }
    // What was begun on a connection that is not given back in order is never gone on with.
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match url.wants_tls() {
        false => Manager::from_config(config, NoTls, manager),
        true => {
            let verify = url.verify.clone();
            let tls = blocking::run(move || Tls::new(&verify)).await?;
            Manager::from_config(config, tls, manager)
        }
    };
    let set = session(settings);
    let set = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
        let set = set.clone();
        Box::pin(async move { client.batch_execute(&set).await.map_err(HookError::Backend) })
    });
    Pool::builder(manager)
        .max_size(settings.connections.max(2))
        .runtime(Runtime::Tokio1)
        // What the last query left in the processor's caches, here and there, helps the next.
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(CONNECT * 2))
        .recycle_timeout(Some(CONNECT))
        .post_create(set)
        .build()
        .map_err(|error| {
            let message = format!("database {url}: cannot make a pool of connections");
            Error::new(ErrorKind::Internal, message).with_source(error)
        })
}

/// What is set for each connection.
///
/// Each statement is planned once for a connection, since planning those for a single row takes
/// several times as long as running them. Such a plan may be older than the rows, so it uses
/// indexes even where a table is still small, and takes from them one entry after the other, so
/// that whoever needs no more than the first reads no more. Work that takes long sets this back
/// (see [`Begin::long`](super::run::Begin::long)). Nothing is worth compiling, which takes longer
/// than any of the statements.
fn session(settings: &Settings) -> String {
    let sync = if settings.sync { "on" } else { "off" };
    let statement = STATEMENT.as_millis();
    let transaction = TRANSACTION.as_millis();
    format!(
        "SET synchronous_commit = {sync};
         SET statement_timeout = {statement};
         SET lock_timeout = {statement};
         SET idle_in_transaction_session_timeout = {transaction};
         SET client_min_messages = warning;
         SET plan_cache_mode = force_generic_plan;
         SET enable_seqscan = off;
         SET enable_bitmapscan = off;
         SET jit = off"
    )
}

/// Checks what the database is, and makes or changes its tables.
async fn prepare(url: &Url, pool: &Pool, client: &mut Object) -> Result<()> {
    let failed = |error: tokio_postgres::Error| refusal(url, error);
    match found(&*client).await.map_err(failed)? {
        Found::Version(SCHEMA) => return Ok(()),
        Found::Version(1..SCHEMA) => return migrate_apart(url, pool).await,
        _ => {}
    }
    let transaction = client.transaction().await.map_err(failed)?;
    let lock = "SELECT pg_advisory_xact_lock($1)";
    transaction.execute(lock, &[&CREATION_LOCK]).await.map_err(failed)?;
    // Whoever had the lock before may have made them.
    let wrong = match found(&transaction).await.map_err(failed)? {
        Found::Nothing => None,
        Found::Version(SCHEMA) => return Ok(()),
        Found::Version(newer) if newer > SCHEMA => Some(format!(
            "has schema version {newer}, and this program knows no newer one than {SCHEMA}: use the program that wrote it, or a newer one"
        )),
        Found::Version(other) => {
            Some(format!("has schema version {other}, expected 1 to {SCHEMA}"))
        }
        Found::Foreign(table) => Some(format!(
            "has tables of another program, such as {table:?}: give an empty database, or an empty schema by options=-csearch_path%3DNAME"
        )),
        Found::NoSchema => {
            Some("has no schema to make tables in: its search_path names none that exists".into())
        }
    };
    if let Some(wrong) = wrong {
        return Err(Error::new(ErrorKind::Invalid, format!("database {url} {wrong}")));
    }
    let make = format!(
        "{}
         CREATE TABLE oci_registry_schema (version integer NOT NULL);
         INSERT INTO oci_registry_schema VALUES ({SCHEMA})",
        include_str!("schema.sql")
    );
    transaction.batch_execute(&make).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Brings the tables to this version, on a connection of its own, with which the lock and the
/// settings go.
async fn migrate_apart(url: &Url, pool: &Pool) -> Result<()> {
    let mut client = pool.get().await.map_err(|error| unreachable(url, error))?;
    let migrated = migrate(&mut client).await.map_err(|error| refusal(url, error));
    drop(Object::take(client));
    migrated
}

#[derive(PartialEq, Eq)]
enum Found {
    Nothing,
    Version(i32),
    /// A table that is not ours.
    Foreign(String),
    NoSchema,
}

/// What the database has. Changes nothing.
async fn found(client: &impl GenericClient) -> std::result::Result<Found, tokio_postgres::Error> {
    let schema = client.query_one("SELECT current_schema()::text", &[]).await?;
    let Some(schema) = schema.try_get::<_, Option<String>>(0)? else { return Ok(Found::NoSchema) };
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1
                  ORDER BY table_name <> 'oci_registry_schema', table_name LIMIT 1";
    let table = client.query_opt(tables, &[&schema]).await?;
    Ok(match table.map(|row| row.try_get::<_, String>(0)).transpose()? {
        None => Found::Nothing,
        Some(ours) if ours == "oci_registry_schema" => {
            let version = client.query_opt("SELECT version FROM oci_registry_schema", &[]).await?;
            Found::Version(version.map_or(Ok(0), |row| row.try_get(0))?)
        }
        Some(other) => Found::Foreign(other),
    })
}

fn unreachable(url: &Url, error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            refusal(url, error)
        }
        other => {
            let message = format!("database {url} does not answer");
            Error::new(ErrorKind::Unavailable, message).with_source(other)
        }
    }
}

/// The error of a database that cannot be used, with what is to be done about it.
pub(super) fn refusal(url: &Url, error: tokio_postgres::Error) -> Error {
    let (kind, what) = match error.code() {
        Some(&SqlState::INVALID_PASSWORD) => {
            (ErrorKind::Invalid, "refuses the user or the password")
        }
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) if !url.wants_tls() => (
            ErrorKind::Invalid,
            "does not let this user in, at least not without encryption: sslmode is disable",
        ),
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            (ErrorKind::Invalid, "does not let this user in")
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            (ErrorKind::Invalid, "does not exist: make it with createdb, or CREATE DATABASE")
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            (ErrorKind::Invalid, "does not let this user make or use its tables")
        }
        Some(_) => (super::failure::kind(&error), "cannot be used"),
        // It has no other mark.
        None if std::error::Error::source(&error)
            .is_some_and(|it| it.to_string() == "password missing") =>
        {
            (ErrorKind::Invalid, "asks for a password, and the URL has none")
        }
        None => match super::tls::refusal(&error) {
            Some(what) => (ErrorKind::Invalid, what),
            None => (ErrorKind::Unavailable, "cannot be reached"),
        },
    };
    Error::new(kind, format!("database {url} {what}")).with_source(error)
}
