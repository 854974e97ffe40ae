//! The database of replicas, as it is seen from beside them.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::postgres::{Databases, connect, tell};
use crate::process::Result;

/// No transaction of a killed server takes longer to end.
const LONGEST: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A fresh database.
pub(super) struct Database {
    server: Databases,
    name: String,
    client: Client,
}

impl Database {
    /// Makes one on the server of a URL, in place of the one that is named there.
    pub(super) async fn create(url: &str, name: &str) -> Result<Self> {
        let server = Databases::parse(url)?;
        server.create(name, "").await?;
        let client = connect(&server.other(name, &[])).await?;
        Ok(Self { server, name: name.to_owned(), client })
    }

    /// The URL for one who calls himself so.
    pub(super) fn url(&self, user: &str) -> String {
        self.server.other(&self.name, &[format!("application_name={user}")])
    }

    /// Waits until nothing is under way any more of what a killed server had sent.
    pub(super) async fn arrived(&self, user: &str) -> Result {
        let begun = Instant::now();
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        while self.number(count, &[&user]).await? > 0 {
            if begun.elapsed() > LONGEST {
                return Err(format!(
                    "a transaction of {user}, which was killed, has not ended after {} s",
                    LONGEST.as_secs()
                ));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn number(
        &self,
        query: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<i64> {
        let row = self.client.query_one(query, values).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| format!("{query}: {}", tell(&error)))
    }

    /// Takes some tag away, behind the servers' backs.
    pub(super) async fn lose_tag(&self) -> Result<bool> {
        let lose = "DELETE FROM tag WHERE (repository, name) IN (
                        SELECT repository, tag.name FROM tag JOIN repository ON repository.id = tag.repository
                        WHERE repository.name <> 'shared/tags' LIMIT 1)";
        let lost = self.client.execute(lose, &[]).await;
        lost.map(|lost| lost > 0).map_err(|error| format!("{lose}: {}", tell(&error)))
    }

    /// The key of some object that must be there.
    pub(super) async fn some_object(&self) -> Result<Option<String>> {
        let find = "SELECT blob.object FROM blob JOIN manifest_blob ON manifest_blob.blob = blob.id
                    WHERE blob.object IS NOT NULL LIMIT 1";
        let row = self.client.query_opt(find, &[]).await;
        let key = row.and_then(|row| row.map(|row| row.try_get(0)).transpose());
        key.map_err(|error| format!("{find}: {}", tell(&error)))
    }
}
