//! Counts what operations cost.

use std::fmt::Write as _;

use tokio_postgres::Client;

/// The costs of operations.
pub(super) struct Costs {
    pub(super) client: Client,
    /// The operations so far, with what they cost.
    pub(super) told: String,
    /// The operations whose cost was not the expected one.
    pub(super) problems: Vec<String>,
}

/// The cost that one operation may have.
pub(super) struct Limit {
    /// Exactly so many statements, without those that begin and end a transaction.
    statements: i64,
    /// Exactly so many transactions that are committed, each with a sync of the log.
    commits: i64,
    /// The most pages that any statement touches, each time that it is run.
    pages: i64,
}

/// A look-up in an index of 10,000 rows touches two or three pages, and one for the row.
const FEW: i64 = 60;

pub(super) const fn reads(statements: i64) -> Limit {
    Limit { statements, commits: 0, pages: FEW }
}

pub(super) const fn writes(statements: i64) -> Limit {
    Limit { statements, commits: 1, pages: FEW }
}

impl Limit {
    pub(super) const fn pages(self, pages: i64) -> Self {
        Self { pages, ..self }
    }

    pub(super) const fn commits(self, commits: i64) -> Self {
        Self { commits, ..self }
    }
}

impl Costs {
    /// Of an operation that is run three times, each on what was prepared for it. The last counts:
    /// statements have been sent to the server by then.
    pub(super) async fn of<T>(
        &mut self,
        what: &str,
        limit: Limit,
        prepare: impl AsyncFn(usize) -> T,
        operation: impl AsyncFn(T),
    ) {
        for time in 0..3 {
            let prepared = prepare(time).await;
            self.client.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
            operation(prepared).await;
        }
        let list = "SELECT query, calls, (shared_blks_hit + shared_blks_read) / calls
                    FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
                    WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%'
                    AND query NOT LIKE '%replica%'";
        let (mut statements, mut commits, mut most) = (0, 0, 0);
        for row in self.client.query(list, &[]).await.unwrap() {
            let (query, calls, pages): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
            match query.split_whitespace().next() {
                Some("COMMIT") => commits += calls,
                Some("BEGIN" | "SET") => {
                    assert!(!query.contains("synchronous_commit"), "{what}: {query}");
                }
                _ => {
                    statements += calls;
                    most = most.max(pages);
                    if pages > limit.pages {
                        self.problems.push(format!("{what}: {pages} pages: {query}"));
                    }
                }
            }
        }
        writeln!(self.told, "{what}: {statements} statements, {commits} commits, {most} pages")
            .unwrap();
        if (statements, commits) != (limit.statements, limit.commits) {
            self.problems.push(format!(
                "{what}: {statements} statements and {commits} commits, expected {} and {}",
                limit.statements, limit.commits
            ));
        }
    }
}
