//! The database of replicas, as it is seen from beside them.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::process::Result;

/// No transaction of a killed server takes longer to end.
const LONGEST: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A fresh database.
pub(super) struct Database {
    /// Without the name of a database, and what came after it.
    server: (String, String),
    name: String,
    client: Client,
}

impl Database {
    /// Makes one on the server of a URL, in place of the one that is named there.
    pub(super) async fn create(url: &str, name: &str) -> Result<Self> {
        let (base, settings) = url.split_once('?').unwrap_or((url, ""));
        let (server, _) = base
            .rsplit_once('/')
            .filter(|(server, _)| !server.ends_with('/'))
            .ok_or("--database names no database: expected postgres://user@host:port/name")?;
        let admin = connect(url).await?;
        // The name is ours, and cannot be a parameter.
        for statement in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name}"),
        ] {
            let done = admin.batch_execute(&statement).await;
            done.map_err(|error| format!("{statement}: {}", tell(&error)))?;
        }
        let server = (server.to_owned(), settings.to_owned());
        let client = connect(&format!("{}/{name}?{settings}", server.0)).await?;
        Ok(Self { server, name: name.to_owned(), client })
    }

    /// The URL for one who calls himself so.
    pub(super) fn url(&self, user: &str) -> String {
        let (server, settings) = &self.server;
        let and = if settings.is_empty() { "" } else { "&" };
        format!("{server}/{}?{settings}{and}application_name={user}", self.name)
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

async fn connect(url: &str) -> Result<Client> {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) =
        connected.map_err(|error| format!("connecting to the database: {}", tell(&error)))?;
    // What fails here fails the queries, too.
    tokio::spawn(connection);
    Ok(client)
}

fn tell(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}
