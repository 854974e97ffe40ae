//! A PostgreSQL server that tasks make databases on.

use tokio_postgres::{Client, NoTls};

use crate::process::Result;

/// The databases of a server, which is known by the URL of one of them.
#[derive(Clone)]
pub(crate) struct Databases {
    /// The URL that was given.
    pub(crate) url: String,
    /// Without the name of the database, and what came after it.
    base: String,
    settings: String,
}

impl Databases {
    /// Takes a URL of a database apart.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (base, settings) = url.split_once('?').unwrap_or((url, ""));
        let (base, _) = base
            .rsplit_once('/')
            .filter(|(base, _)| !base.ends_with('/'))
            .ok_or("--database names no database: expected postgres://user@host:port/name")?;
        Ok(Self { url: url.to_owned(), base: base.to_owned(), settings: settings.to_owned() })
    }

    /// The URL of another database of it, with more settings.
    pub(crate) fn other(&self, name: &str, settings: &[String]) -> String {
        let given = Some(self.settings.clone()).filter(|settings| !settings.is_empty());
        let settings: Vec<String> = given.into_iter().chain(settings.iter().cloned()).collect();
        let question = if settings.is_empty() { "" } else { "?" };
        format!("{}/{name}{question}{}", self.base, settings.join("&"))
    }

    /// Makes a database in place of one of that name, which is a task's own. `how` is what follows
    /// the name in the statement.
    pub(crate) async fn create(&self, name: &str, how: &str) -> Result {
        self.remove(name).await?;
        execute(&connect(&self.url).await?, &format!("CREATE DATABASE {name} {how}")).await
    }

    /// Removes a database, if it is there, and whoever is connected to it.
    pub(crate) async fn remove(&self, name: &str) -> Result {
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        execute(&connect(&self.url).await?, &statement).await
    }
}

/// Connects to a database, without TLS.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) =
        connected.map_err(|error| format!("connecting to the database: {}", tell(&error)))?;
    // What fails here fails the queries, too.
    tokio::spawn(connection);
    Ok(client)
}

/// Runs statements that take no values and give no rows.
pub(crate) async fn execute(client: &Client, statements: &str) -> Result {
    let done = client.batch_execute(statements).await;
    done.map_err(|error| format!("{statements}: {}", tell(&error)))
}

/// Tells what the database says of an error, or else what went wrong.
pub(crate) fn tell(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_of_a_server_keeps_its_settings() {
        let plain = Databases::parse("postgres://me@host:5432/one").unwrap();
        assert_eq!(plain.other("two", &[]), "postgres://me@host:5432/two");
        let set = Databases::parse("postgres://me@host/one?sslmode=disable").unwrap();
        let named = ["application_name=x".to_owned()];
        assert_eq!(
            set.other("two", &named),
            "postgres://me@host/two?sslmode=disable&application_name=x"
        );
        assert!(Databases::parse("postgres://host").is_err());
    }
}
