//! The resources that a server and its database have used, counted more finely than by ticks.

use std::fs;

use tokio_postgres::Client;

use crate::postgres::{connect, tell};
use crate::process::Result;

/// The resources used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Processor time of the server, in nanoseconds.
    server: f64,
    /// Reads of files by the server.
    reads: f64,
    /// The same of the database's processes.
    database: f64,
    /// Pages that statements of the database touched, in memory or not.
    pages: f64,
    /// Statements of the database.
    statements: f64,
    /// Bytes that the database wrote to its log.
    log: f64,
}

/// The resources of one operation, on average.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) server_us: f64,
    /// Reads of files by the server: with SQLite, of pages that it had not in its own memory.
    pub(crate) reads: f64,
    /// The figures that only PostgreSQL has.
    pub(crate) database: Option<Database>,
}

/// The resources of the database for an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Database {
    pub(crate) cpu_us: f64,
    /// The counts of statements, if the server keeps them.
    pub(crate) counted: Option<Statements>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Statements {
    pub(crate) pages: f64,
    pub(crate) statements: f64,
    pub(crate) log_bytes: f64,
}

/// Looks at a server and at its database.
pub(crate) struct Counters {
    pid: u32,
    database: Option<Watched>,
}

/// A database that is looked at from another one, so that looking does not count.
pub(crate) struct Watched {
    client: Client,
    name: String,
    /// True if the server has what counts statements.
    counts: bool,
}

impl Watched {
    /// Looks at a database by way of another one.
    pub(crate) async fn new(url: &str, name: &str) -> Result<Self> {
        let client = connect(url).await?;
        // Fails where it is not installed; then it cannot be asked either.
        let _ = client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
        let counts = client.query("SELECT 1 FROM pg_stat_statements LIMIT 1", &[]).await.is_ok();
        Ok(Self { client, name: name.to_owned(), counts })
    }

    /// True if pages and statements are counted.
    pub(crate) fn counts(&self) -> bool {
        self.counts
    }

    async fn count(&self, counted: &mut Counted) -> Result {
        let pids = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
        for row in self.client.query(pids, &[&self.name]).await.map_err(|error| tell(&error))? {
            let pid: i32 = row.try_get(0).map_err(|error| tell(&error))?;
            counted.database += cpu(pid.unsigned_abs());
        }
        if self.counts {
            let sums = "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8,
                               coalesce(sum(calls), 0)::float8, coalesce(sum(wal_bytes), 0)::float8
                        FROM pg_stat_statements AS statement
                        JOIN pg_database ON pg_database.oid = statement.dbid WHERE datname = $1";
            let row = self.client.query_one(sums, &[&self.name]).await;
            let row = row.map_err(|error| tell(&error))?;
            let get = |column: usize| row.try_get(column).map_err(|error| tell(&error));
            (counted.pages, counted.statements, counted.log) = (get(0)?, get(1)?, get(2)?);
        }
        Ok(())
    }
}

impl Counters {
    pub(crate) fn new(pid: u32, database: Option<Watched>) -> Self {
        Self { pid, database }
    }

    pub(crate) async fn count(&self) -> Result<Counted> {
        let mut counted =
            Counted { server: cpu(self.pid), reads: reads(self.pid), ..Counted::default() };
        if let Some(database) = &self.database {
            let done = database.count(&mut counted).await;
            done.map_err(|error| format!("looking at {}: {error}", database.name))?;
        }
        Ok(counted)
    }

    /// Returns the resources of each of some operations.
    pub(crate) fn used(&self, before: Counted, after: Counted, operations: usize) -> Used {
        let each = |of: fn(&Counted) -> f64| (of(&after) - of(&before)) / operations.max(1) as f64;
        let database = self.database.as_ref().map(|watched| Database {
            cpu_us: each(|counted| counted.database) / 1e3,
            counted: watched.counts.then(|| Statements {
                pages: each(|counted| counted.pages),
                statements: each(|counted| counted.statements),
                log_bytes: each(|counted| counted.log),
            }),
        });
        Used {
            server_us: each(|counted| counted.server) / 1e3,
            reads: each(|counted| counted.reads),
            database,
        }
    }
}

/// The processor time of a process's threads, in nanoseconds, as the scheduler counts it; 0 if it
/// is not there (any more).
fn cpu(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let times = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    times.sum()
}

fn reads(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("syscr:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_this_process_does_is_counted() {
        let pid = std::process::id();
        let (cpu, reads) = (super::cpu(pid), super::reads(pid));
        assert!(std::fs::read("/proc/self/status").is_ok());
        assert!(super::reads(pid) > reads);
        // Until the scheduler has counted some of it.
        while super::cpu(pid) <= cpu {}
        assert_eq!(super::cpu(u32::MAX), 0.0);
    }
}
