//! Tries whether a server that speaks PostgreSQL's protocol keeps the promises that everything here
//! relies on. Some products take each statement and do less than it says; with them content would
//! be lost, and nobody would see it.
//!
//! It is tried, on two connections and once, when a database is opened. Nothing is left behind: the
//! lock is of a random key, the table is temporary, and the row that is locked stays as it is. So
//! replicas may do this at the same time.

use oci_ref::{Error, ErrorKind, Result};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::open::refusal;
use super::url::Url;

/// The oldest server that will do, as it gives its version.
const OLDEST: i32 = 150_000;

/// Products that call themselves PostgreSQL, or answer as if they were, each by a part of what
/// `version()` says.
const PRODUCTS: [(&str, &str); 7] = [
    ("CockroachDB", "CockroachDB"),
    ("-YB-", "YugabyteDB"),
    ("Redshift", "Redshift"),
    ("Greenplum", "Greenplum"),
    ("Materialize", "Materialize"),
    ("CrateDB", "CrateDB"),
    ("RisingWave", "RisingWave"),
];

/// Answers of the server, and the doings of two connections.
#[derive(Clone, Debug)]
struct Observed {
    version: i32,
    is_standby: bool,
    /// Transactions may write if nothing is said.
    writes: bool,
    /// Each connection has a session of its own, for as long as it is open.
    own_sessions: bool,
    settings_kept: bool,
    isolation: String,
    /// The lock was had alone while another transaction shared it.
    alone_beside_shared: bool,
    shared_beside_shared: bool,
    /// The lock could be shared while another transaction had it alone.
    shared_beside_alone: bool,
    /// It was free again after those that had it ended.
    freed: bool,
    /// A later statement of a transaction sees what was committed meanwhile.
    sees_commits: bool,
    keys_restrict: bool,
}

/// Locks on one row that were had while a transaction held it `FOR KEY SHARE`.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Another got it `FOR NO KEY UPDATE`.
    weak: bool,
    /// Another got it `FOR UPDATE`.
    strong: bool,
}

impl Observed {
    /// All as it has to be.
    fn right() -> Self {
        Self {
            version: OLDEST,
            is_standby: false,
            writes: true,
            own_sessions: true,
            settings_kept: true,
            isolation: "read committed".into(),
            alone_beside_shared: false,
            shared_beside_shared: true,
            shared_beside_alone: false,
            freed: true,
            sees_commits: true,
            keys_restrict: true,
        }
    }

    /// Names what is not as it has to be.
    fn wrong(&self) -> Option<String> {
        let isolation = &self.isolation;
        let wrongs = [
            (
                self.is_standby,
                "is a standby, which takes no changes: name the primary, or all hosts with target_session_attrs=read-write",
            ),
            (
                self.version < OLDEST,
                &format!(
                    "has version {}, expected {} or newer",
                    self.version / 10_000,
                    OLDEST / 10_000
                ),
            ),
            (
                !self.writes,
                "begins transactions that may not write: set default_transaction_read_only to off",
            ),
            (
                !self.own_sessions || !self.settings_kept,
                "does not keep a session for each connection: a pooler in between has to pool sessions, not transactions",
            ),
            (
                isolation != "read committed",
                &format!("runs transactions as {isolation}, expected read committed"),
            ),
            (
                self.alone_beside_shared || self.shared_beside_alone,
                "does not honour advisory locks: two transactions had one that excludes the other",
            ),
            (
                !self.shared_beside_shared || !self.freed,
                "does not honour advisory locks: one that was free, or shared, was not to be had",
            ),
            (
                !self.sees_commits,
                "does not honour READ COMMITTED: a statement did not see what was committed before it",
            ),
            (
                !self.keys_restrict,
                "does not honour foreign keys: a row went that another references (session_replication_role has to be origin)",
            ),
        ];
        wrongs.iter().find(|(wrong, _)| *wrong).map(|(_, what)| (*what).to_owned())
    }
}

impl Rows {
    fn wrong(self) -> Option<String> {
        let what = match self {
            Self { strong: true, .. } => {
                "does not honour FOR KEY SHARE: another transaction had the row FOR UPDATE"
            }
            Self { weak: false, .. } => {
                "does not honour FOR NO KEY UPDATE: it waits for FOR KEY SHARE, expected to go beside it"
            }
            Self { weak: true, strong: false } => return None,
        };
        Some(what.to_owned())
    }
}

/// Tries everything that needs no table, on two connections, and gives the name of the product.
///
/// # Errors
/// `Invalid`, with that name and what the product does not honour.
pub(super) async fn check(url: &Url, one: &Client, other: &Client) -> Result<String> {
    let key = i64::from_be_bytes(crate::random::bytes()?);
    let facts = row(one, FACTS).await.map_err(|error| refusal(url, error))?;
    let product = facts.first().map_or_else(String::new, |version| product(version));
    let observed = observe(one, other, &facts, key).await;
    let observed = observed.map_err(|error| failed(url, &product, error))?;
    tracing::debug!(product, ?observed, "what the database engine does");
    match observed.wrong() {
        None => Ok(product),
        Some(wrong) => Err(refused(url, &product, &wrong)),
    }
}

/// Tries locks on rows, by the only row that is always there.
///
/// # Errors
/// As [`check`].
pub(super) async fn check_rows(
    url: &Url,
    product: &str,
    one: &Client,
    other: &Client,
) -> Result<()> {
    let rows = observe_rows(one, other).await.map_err(|error| failed(url, product, error))?;
    rows.wrong().map_or(Ok(()), |wrong| Err(refused(url, product, &wrong)))
}

fn refused(url: &Url, product: &str, wrong: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("database {url}: {product} {wrong}"))
}

/// A statement failed that none should.
fn failed(url: &Url, product: &str, error: tokio_postgres::Error) -> Error {
    let lacks = [
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::SYNTAX_ERROR,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_TABLE,
    ];
    match error.code() {
        Some(code) if lacks.contains(code) => {
            refused(url, product, "does not know a statement that is relied on").with_source(error)
        }
        _ => refusal(url, error),
    }
}

const FACTS: &str = "SELECT version(), current_setting('server_version_num'), pg_is_in_recovery(),
    current_setting('default_transaction_read_only') = 'off', pg_backend_pid()";

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

async fn observe(
    one: &Client,
    other: &Client,
    facts: &[String],
    key: i64,
) -> std::result::Result<Observed, tokio_postgres::Error> {
    let fact = |place: usize| facts.get(place).map_or("", String::as_str);
    let mut observed = Observed {
        version: fact(1).parse().unwrap_or(0),
        is_standby: fact(2) == "t",
        writes: fact(3) == "t",
        ..Observed::right()
    };
    // What follows needs a server of this age that can be written to.
    if observed.wrong().is_some() {
        return Ok(observed);
    }
    // The other begins first, so that a pooler that lends out sessions gives it the first one's.
    let begun = row(
        other,
        &format!("{BEGIN}; SELECT pg_backend_pid(), current_setting('plan_cache_mode')"),
    )
    .await?;
    let shared = format!(
        "{BEGIN}; SELECT pg_backend_pid(), current_setting('plan_cache_mode'),
             current_setting('transaction_isolation'), pg_try_advisory_xact_lock_shared({key})"
    );
    let [session, mode, isolation, had] = four(row(one, &shared).await?);
    let of = |place: usize| begun.get(place).map_or("", String::as_str);
    observed.own_sessions = session == fact(4) && of(0) != session;
    observed.settings_kept = [mode.as_str(), of(1)] == ["force_generic_plan"; 2];
    observed.isolation = isolation;

    let tried = format!("SELECT pg_try_advisory_xact_lock({key})");
    let beside = format!(
        "{tried}, pg_try_advisory_xact_lock_shared({key}), pg_current_xact_id();
         SET LOCAL synchronous_commit = off"
    );
    let [alone, shared, transaction, _] = four(row(other, &beside).await?);
    let [alone_too, ..] = four(row(one, &tried).await?);
    observed.alone_beside_shared = alone == "t" || alone_too == "t";
    observed.shared_beside_shared = had == "t" && shared == "t";

    other.batch_execute("COMMIT").await?;
    let after =
        format!("{tried}, pg_visible_in_snapshot('{transaction}'::xid8, pg_current_snapshot())");
    let [freed, sees, ..] = four(row(one, &after).await?);
    observed.freed = freed == "t";
    observed.sees_commits = sees == "t";

    // A commit would wait for the disk, since the file of the table goes.
    let table = format!(
        "{BEGIN}; SELECT pg_try_advisory_xact_lock_shared({key});
         CREATE TEMPORARY TABLE oci_registry_try (
             id bigint PRIMARY KEY,
             parent bigint REFERENCES oci_registry_try ON DELETE RESTRICT
         ) ON COMMIT DROP;
         INSERT INTO oci_registry_try VALUES (1, NULL), (2, 1)"
    );
    observed.shared_beside_alone = row(other, &table).await? == ["t"];
    let deleted = other.batch_execute("DELETE FROM oci_registry_try WHERE id = 1").await;
    observed.keys_restrict = expected(deleted, &SqlState::FOREIGN_KEY_VIOLATION)?;
    other.batch_execute("ROLLBACK").await?;
    one.batch_execute("ROLLBACK").await?;
    Ok(observed)
}

async fn observe_rows(
    one: &Client,
    other: &Client,
) -> std::result::Result<Rows, tokio_postgres::Error> {
    let lock = |how: &str| format!("SELECT version FROM oci_registry_schema FOR {how}");
    one.batch_execute(&format!("{BEGIN}; {}", lock("KEY SHARE"))).await?;
    // Another replica may just be trying it, too, and has it for some milliseconds.
    let wait = format!("{BEGIN}; SET LOCAL lock_timeout = '5s'; {}", lock("NO KEY UPDATE"));
    let weak = other.batch_execute(&wait).await;
    let weak = !expected(weak, &SqlState::LOCK_NOT_AVAILABLE)?;
    let strong = match weak {
        true => {
            let strong = other.batch_execute(&lock("UPDATE NOWAIT")).await;
            !expected(strong, &SqlState::LOCK_NOT_AVAILABLE)?
        }
        false => false,
    };
    other.batch_execute("ROLLBACK").await?;
    one.batch_execute("ROLLBACK").await?;
    Ok(Rows { weak, strong })
}

/// Tells that a statement failed as it should. Any other failure is one of the check.
fn expected(
    done: std::result::Result<(), tokio_postgres::Error>,
    code: &SqlState,
) -> std::result::Result<bool, tokio_postgres::Error> {
    match done {
        Ok(()) => Ok(false),
        Err(error) if error.code() == Some(code) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Gives the values of statements, one row after the other, in one round trip.
async fn row(
    client: &Client,
    statements: &str,
) -> std::result::Result<Vec<String>, tokio_postgres::Error> {
    let mut values = Vec::new();
    for message in client.simple_query(statements).await? {
        if let SimpleQueryMessage::Row(row) = message {
            values.extend((0..row.len()).map(|place| row.get(place).unwrap_or("").to_owned()));
        }
    }
    Ok(values)
}

/// The first four values; empty ones where there are fewer.
fn four(values: Vec<String>) -> [String; 4] {
    let mut values = values.into_iter();
    std::array::from_fn(|_| values.next().unwrap_or_default())
}

/// The name of a product with its version, of what it says.
fn product(version: &str) -> String {
    let end = [" on ", " ("].iter().filter_map(|end| version.find(end)).min();
    let short = &version[..end.unwrap_or(version.len())];
    match PRODUCTS.iter().find(|(part, _)| version.contains(part)) {
        Some((_, name)) if !short.contains(name) => format!("{name} ({short})"),
        _ => short.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_honoured_is_named() {
        assert_eq!(Observed::right().wrong(), None);
        type Break = fn(&mut Observed);
        let cases: [(Break, &str); 12] = [
            (|it| it.is_standby = true, "standby"),
            (|it| it.version = 130_000, "has version 13, expected 15"),
            (|it| it.writes = false, "default_transaction_read_only"),
            (|it| it.own_sessions = false, "pool sessions"),
            (|it| it.settings_kept = false, "pool sessions"),
            (|it| it.isolation = "serializable".into(), "serializable, expected read committed"),
            (|it| it.alone_beside_shared = true, "advisory locks"),
            (|it| it.shared_beside_alone = true, "advisory locks"),
            (|it| it.shared_beside_shared = false, "advisory locks"),
            (|it| it.freed = false, "advisory locks"),
            (|it| it.sees_commits = false, "READ COMMITTED"),
            (|it| it.keys_restrict = false, "foreign keys"),
        ];
        for (change, expected) in cases {
            let mut observed = Observed::right();
            change(&mut observed);
            let wrong = observed.wrong().unwrap();
            assert!(wrong.contains(expected), "{wrong}");
        }
    }

    #[test]
    fn locks_of_rows_that_are_not_honoured_are_named() {
        assert_eq!(Rows { weak: true, strong: false }.wrong(), None);
        let wrong = Rows { weak: true, strong: true }.wrong().unwrap();
        assert!(wrong.contains("FOR KEY SHARE"), "{wrong}");
        let wrong = Rows { weak: false, strong: false }.wrong().unwrap();
        assert!(wrong.contains("FOR NO KEY UPDATE"), "{wrong}");
    }

    #[test]
    fn products_are_known_by_what_they_say() {
        for (says, expected) in [
            (
                "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu",
                "PostgreSQL 15.18",
            ),
            ("PostgreSQL 17.2 on aarch64, compiled by gcc", "PostgreSQL 17.2"),
            (
                "CockroachDB CCL v24.3.1 (x86_64-pc-linux-gnu, built 2024)",
                "CockroachDB CCL v24.3.1",
            ),
            (
                "PostgreSQL 11.2-YB-2.20.1.3-b0 on x86_64",
                "YugabyteDB (PostgreSQL 11.2-YB-2.20.1.3-b0)",
            ),
            (
                "PostgreSQL 8.0.2 on i686, compiled by GCC, Redshift 1.0.62312",
                "Redshift (PostgreSQL 8.0.2)",
            ),
            ("", ""),
        ] {
            assert_eq!(product(says), expected);
        }
    }
}
