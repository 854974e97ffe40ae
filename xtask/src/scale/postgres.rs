//! Rows written to PostgreSQL: the one place that knows its columns.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::Client;

use crate::postgres::{connect, execute, tell};
use crate::process::Result;
use crate::scale::row::Row;

/// The tables and their columns, in an order in which nothing is referenced before it is there.
const TABLES: [&str; 9] = [
    "repository (id, name)",
    "blob (id, digest, size, data)",
    "manifest (id, digest, size, data)",
    "repository_blob (repository, blob)",
    "repository_manifest (id, repository, manifest, media_type, artifact_type)",
    "manifest_blob (parent, repository, blob)",
    "manifest_child (parent, repository, child)",
    "tag (repository, name, manifest)",
    "referrer (repository, subject, digest, artifact_type, manifest, descriptor)",
];

/// Tables whose ids the database numbers itself.
const NUMBERED: [&str; 4] = ["repository", "blob", "manifest", "repository_manifest"];

/// The number of bytes of rows that are written at a time.
const GATHERED: usize = 32 << 20;

/// A database that is filled.
pub(crate) struct Sink {
    db: Client,
    /// Rows that are not written yet, for each of the tables, as COPY takes them.
    gathered: [String; TABLES.len()],
}

impl Sink {
    /// Opens a database whose tables are there.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let db = connect(url).await?;
        execute(&db, "SET synchronous_commit = off").await?;
        // Without looking each key up, which only a superuser may. They are checked when all is
        // there.
        let _ = execute(&db, "SET session_replication_role = replica").await;
        Ok(Self { db, gathered: Default::default() })
    }

    pub(crate) async fn write(&mut self, rows: &[Row]) -> Result {
        for row in rows {
            self.gather(row);
        }
        match self.gathered.iter().map(String::len).sum::<usize>() > GATHERED {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Writes the rest, lets ids go on from the last, and tells the database how much it has.
    pub(crate) async fn finish(mut self) -> Result {
        self.flush().await?;
        for table in NUMBERED {
            let last = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            );
            execute(&self.db, &last).await?;
        }
        execute(&self.db, "VACUUM (ANALYZE)").await?;
        settle(&self.db).await;
        Ok(())
    }

    async fn flush(&mut self) -> Result {
        execute(&self.db, "BEGIN").await?;
        for (table, rows) in TABLES.into_iter().zip(&mut self.gathered) {
            let rows = Bytes::from(std::mem::take(rows));
            let copied = async {
                let copy = self.db.copy_in(&format!("COPY {table} FROM STDIN")).await?;
                let mut copy = std::pin::pin!(copy);
                copy.send(rows).await?;
                copy.finish().await
            };
            copied.await.map_err(|error| format!("COPY {table}: {}", tell(&error)))?;
        }
        execute(&self.db, "COMMIT").await
    }

    fn gather(&mut self, row: &Row) {
        let [
            repositories,
            blobs,
            manifests,
            holdings,
            links,
            references,
            children,
            tags,
            referrers,
        ] = &mut self.gathered;
        // Writing to a text does not fail.
        let _ = match row {
            Row::Repository { id, name } => writeln!(repositories, "{id}\t{}", text(name)),
            Row::Blob { id, digest, data } => {
                writeln!(blobs, "{id}\t{digest}\t{}\t{}", data.len(), bytea(data))
            }
            Row::Manifest { id, digest, data } => {
                writeln!(manifests, "{id}\t{digest}\t{}\t{}", data.len(), bytea(data))
            }
            Row::Holding { repository, blob } => writeln!(holdings, "{repository}\t{blob}"),
            Row::Link { id, repository, manifest, media_type, artifact_type } => {
                let (media_type, artifact_type) = (text(media_type), optional(artifact_type));
                writeln!(links, "{id}\t{repository}\t{manifest}\t{media_type}\t{artifact_type}")
            }
            Row::Reference { parent, repository, blob } => {
                writeln!(references, "{parent}\t{repository}\t{blob}")
            }
            Row::Child { parent, repository, child } => {
                writeln!(children, "{parent}\t{repository}\t{child}")
            }
            Row::Tag { repository, name, manifest } => {
                writeln!(tags, "{repository}\t{}\t{manifest}", text(name))
            }
            Row::Referrer { repository, subject, digest, artifact_type, manifest, descriptor } => {
                let (artifact_type, descriptor) = (optional(artifact_type), text(descriptor));
                writeln!(
                    referrers,
                    "{repository}\t{subject}\t{digest}\t{artifact_type}\t{manifest}\t{descriptor}"
                )
            }
        };
    }
}

/// Lets what was written before be on the disk before anything is measured, where that is allowed.
pub(crate) async fn settle(db: &Client) {
    let _ = execute(db, "CHECKPOINT").await;
}

/// A text as COPY takes it.
fn text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")
}

fn optional(value: &Option<String>) -> String {
    value.as_deref().map_or_else(|| "\\N".to_owned(), text)
}

/// Bytes as COPY takes them.
fn bytea(bytes: &[u8]) -> String {
    format!("\\\\x{}", hex::encode(bytes))
}
