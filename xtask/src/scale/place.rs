//! The place of a registry of some size, and the making of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::postgres::{Databases, connect, execute, tell};
use crate::process::{Result, Server, ask, run, say};
use crate::scale::generate::{Generator, pieces};
use crate::scale::shape::Shape;
use crate::scale::{postgres, sqlite};

/// The file of SQLite in the directory of a registry.
const METADATA: &str = "metadata.sqlite";

/// The database that the metadata is in.
#[derive(Clone)]
pub(crate) enum Engine {
    Sqlite,
    Postgres(Databases),
}

impl Engine {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }
}

/// A registry that is served from a directory, and perhaps a database.
pub(crate) struct Place {
    pub(crate) engine: Engine,
    pub(crate) data: PathBuf,
    /// The name of the PostgreSQL database.
    pub(crate) database: String,
    ocictl: PathBuf,
}

impl Place {
    fn new(engine: &Engine, ocictl: &Path, data: PathBuf, database: String) -> Self {
        Self { engine: engine.clone(), data, database, ocictl: ocictl.to_owned() }
    }

    /// Makes a registry of a size, to be measured once.
    pub(crate) async fn fill(
        engine: &Engine,
        ocictl: &Path,
        scratch: &Path,
        shape: Shape,
    ) -> Result<Self> {
        let data = scratch.join(format!("{}-{}", engine.name(), shape.manifests));
        let place = Self::new(engine, ocictl, data, format!("scale_{}", shape.manifests));
        place.make(shape).await?;
        Ok(place)
    }

    /// Makes a registry of a size in a directory where it stays, unless it is there, and gives a
    /// copy that can be changed.
    pub(crate) async fn keep(
        engine: &Engine,
        ocictl: &Path,
        (kept, scratch): (&Path, &Path),
        shape: Shape,
    ) -> Result<Self> {
        let name = format!("{}-{}", engine.name(), shape.manifests);
        let (data, mark) = (kept.join(&name), kept.join(format!("{name}.filled")));
        let database = format!("scale_kept_{}", shape.manifests);
        let whole = Self::new(engine, ocictl, data, database);
        if mark.exists() {
            say(&format!("{}: filled before", whole.data.display()));
        } else {
            let _ = fs::remove_dir_all(&whole.data);
            whole.make(shape).await?;
            fs::write(&mark, "").map_err(|error| format!("{}: {error}", mark.display()))?;
        }
        let database = format!("scale_{}", shape.manifests);
        let copy = Self::new(engine, ocictl, scratch.join(name), database);
        run(Command::new("cp").args(["-r", "--reflink=auto"]).arg(&whole.data).arg(&copy.data))?;
        if let Engine::Postgres(databases) = engine {
            let how = format!("TEMPLATE {}", whole.database);
            databases.create(&copy.database, &how).await?;
            let db = connect(&databases.other(&copy.database, &[])).await?;
            execute(&db, "ANALYZE").await?;
            postgres::settle(&db).await;
        }
        Ok(copy)
    }

    async fn make(&self, shape: Shape) -> Result {
        if let Engine::Postgres(databases) = &self.engine {
            databases.create(&self.database, "").await?;
        }
        // The program itself makes the tables.
        self.serve(&[])?.kill()?;
        let begun = Instant::now();
        let rows = self.write(shape).await?;
        say(&format!(
            "{} with {} manifests: {rows} rows in {:.1} s",
            self.engine.name(),
            shape.manifests,
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    async fn write(&self, shape: Shape) -> Result<usize> {
        let generator = Generator::new(shape);
        let mut count = 0;
        match &self.engine {
            Engine::Sqlite => {
                let mut sink = sqlite::Sink::open(&self.data.join(METADATA))?;
                for piece in pieces(shape) {
                    let rows = generator.rows(piece)?;
                    sink.write(&rows)?;
                    count += rows.len();
                }
                sink.finish()?;
            }
            Engine::Postgres(databases) => {
                let url = databases.other(&self.database, &[]);
                let mut sink = postgres::Sink::open(&url).await?;
                for piece in pieces(shape) {
                    let rows = generator.rows(piece)?;
                    sink.write(&rows).await?;
                    count += rows.len();
                }
                sink.finish().await?;
            }
        }
        Ok(count)
    }

    /// A command of the tool for this registry.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.ocictl);
        command.args(args).arg("--data").arg(&self.data);
        let database = match &self.engine {
            Engine::Sqlite => "sqlite:".to_owned(),
            Engine::Postgres(databases) => databases.other(&self.database, &[]),
        };
        command.env("OCICTL_DATABASE", database);
        command
    }

    /// Starts the server, which collects nothing by itself.
    pub(crate) fn serve(&self, options: &[&str]) -> Result<Server> {
        let mut command =
            self.command(&["serve", "--listen", "127.0.0.1:0", "--gc-interval", "0s"]);
        command.args(options);
        Server::spawn(command)
    }

    /// Runs a command of the tool, and gives the last document that it printed.
    pub(crate) async fn ask(&self, args: &[&str]) -> Result<serde_json::Value> {
        ask(self.command(args)).await
    }

    /// The bytes of the metadata.
    pub(crate) async fn size(&self) -> Result<u64> {
        match &self.engine {
            Engine::Sqlite => {
                let path = self.data.join(METADATA);
                let found = fs::metadata(&path).map(|found| found.len());
                found.map_err(|error| format!("{}: {error}", path.display()))
            }
            Engine::Postgres(databases) => {
                let db = connect(&databases.other(&self.database, &[])).await?;
                let size = "SELECT pg_database_size(current_database())";
                let row = db.query_one(size, &[]).await;
                let found = row.and_then(|row| row.try_get::<_, i64>(0));
                found.map(i64::unsigned_abs).map_err(|error| format!("{size}: {}", tell(&error)))
            }
        }
    }

    /// Removes what was made to be measured once.
    pub(crate) async fn remove(self) -> Result {
        if let Engine::Postgres(databases) = &self.engine {
            databases.remove(&self.database).await?;
        }
        fs::remove_dir_all(&self.data).map_err(|error| format!("{}: {error}", self.data.display()))
    }
}
