//! Databases of the version before, which replicas of that version go on using while they are
//! brought to this one.

use oci_ref::{Access, ByteRange, ErrorKind, Registry, Source};
use oci_registry_store::DurableRegistry;
use tokio_postgres::Client;

use super::opening::open;
use super::server;
use crate::support::*;

/// The tables of version 3, with an image and its layer.
async fn version_3() -> String {
    let url = server::fresh_url().await;
    let layer = noise(300, 1);
    let (config, described) = (describe(b"{}"), describe(&layer));
    let pushed = image(&config, std::slice::from_ref(&described), "x", None);
    let quoted = |bytes: &[u8]| format!("'\\x{}'", hex::encode(bytes));
    let (bytes, media_type) = (pushed.bytes(), &pushed.descriptor().media_type);
    server::execute(
        &url,
        &format!(
            "{schema}
             CREATE TABLE oci_registry_schema (version integer NOT NULL);
             INSERT INTO oci_registry_schema VALUES (3);
             INSERT INTO repository (name) VALUES ('a/b');
             INSERT INTO blob (digest, size, data) VALUES
                 ('{config}', 2, '{{}}'), ('{layer}', 300, {data});
             INSERT INTO repository_blob (repository, blob) SELECT repository.id, blob.id FROM repository, blob;
             INSERT INTO manifest (digest, size, data) VALUES ('{digest}', {size}, {manifest});
             INSERT INTO repository_manifest (repository, manifest, media_type)
                 SELECT repository.id, manifest.id, '{media_type}' FROM repository, manifest;
             INSERT INTO manifest_blob (parent, repository, blob) SELECT link.id, link.repository, blob.id
                 FROM repository_manifest AS link, blob;
             INSERT INTO tag (repository, name, manifest) SELECT repository, 't', id FROM repository_manifest",
            schema = include_str!("../../data/postgres-schema-3.sql"),
            config = config.digest,
            layer = described.digest,
            data = quoted(&layer),
            digest = pushed.digest(),
            size = bytes.len(),
            manifest = quoted(bytes),
        ),
    )
    .await;
    url
}

/// The tables, columns, indexes and constraints of a database.
async fn shape(client: &Client) -> Vec<String> {
    let list = "SELECT format('%s %s %s %s', relname, attname, atttypid::regtype, reloptions)
                FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
                WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                UNION SELECT format('%s %s', pg_get_indexdef(indexrelid), indisvalid) FROM pg_index
                JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
                UNION SELECT pg_get_constraintdef(oid) FROM pg_constraint
                WHERE connamespace = 'public'::regnamespace ORDER BY 1";
    client.query(list, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn version(client: &Client) -> i32 {
    client.query_one("SELECT version FROM oci_registry_schema", &[]).await.unwrap().get(0)
}

async fn assert_whole(registry: &DurableRegistry) {
    let store = registry.repository(&name("a/b"), Access::Read).await.unwrap();
    let found = store.manifest(&tag("t").into()).await.unwrap();
    let layer = &found.image().unwrap().layers[0].digest;
    assert_eq!(pull(&*store, layer, ByteRange::All).await.unwrap(), noise(300, 1));
}

/// The shape of a database that was made by this version.
async fn fresh_shape() -> Vec<String> {
    let url = server::fresh_url().await;
    open(&url).await.unwrap().close().await;
    shape(&server::connect(&url).await).await
}

/// A migration that is broken off anywhere leaves what both versions can use, and the next program
/// goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_at_every_statement() {
    if !server::is_there("a_migration_that_is_killed_at_every_statement") {
        return;
    }
    let expected = fresh_shape().await;
    // Counted also where the transaction is rolled back.
    let kill = |statement: u32| {
        format!(
            "CREATE SEQUENCE statement;
             CREATE FUNCTION kill() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('statement') = {statement} THEN
                     PERFORM pg_terminate_backend(pg_backend_pid());
                 END IF;
             END $$;
             CREATE FUNCTION kill_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('statement') = {statement} THEN
                     PERFORM pg_terminate_backend(pg_backend_pid());
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER kill AFTER UPDATE ON oci_registry_schema
                 FOR EACH ROW EXECUTE FUNCTION kill_row();
             CREATE EVENT TRIGGER kill_start ON ddl_command_start EXECUTE FUNCTION kill();
             CREATE EVENT TRIGGER kill_end ON ddl_command_end EXECUTE FUNCTION kill()"
        )
    };
    let mut killed = 0;
    for statement in 1.. {
        let url = version_3().await;
        let client = server::connect(&url).await;
        client.batch_execute(&kill(statement)).await.unwrap();
        let opened = open(&url).await;
        let done = opened.is_ok();
        match opened {
            Ok(registry) => registry.close().await,
            Err(error) => {
                assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert_eq!(version(&client).await, 3);
                killed += 1;
            }
        }
        let undo = "DROP EVENT TRIGGER kill_start; DROP EVENT TRIGGER kill_end;
                    DROP TRIGGER kill ON oci_registry_schema; DROP FUNCTION kill_row;
                    DROP FUNCTION kill; DROP SEQUENCE statement";
        client.batch_execute(undo).await.unwrap();
        let registry = open(&url).await.unwrap();
        assert_whole(&registry).await;
        registry.close().await;
        assert_eq!(version(&client).await, 4);
        assert_eq!(shape(&client).await, expected, "killed at statement {statement}");
        if done {
            break;
        }
    }
    // Nine changes, most with a beginning and an end, and the version.
    assert!(killed > 12, "{killed}");
}

/// Half an index, which a crash has left, is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_index_is_made_anew() {
    if !server::is_there("half_an_index_is_made_anew") {
        return;
    }
    let url = version_3().await;
    let client = server::connect(&url).await;
    let half = "CREATE INDEX repository_blob_holders ON repository_blob (blob, repository);
                UPDATE pg_index SET indisvalid = false
                WHERE indexrelid = 'repository_blob_holders'::regclass";
    client.batch_execute(half).await.unwrap();
    open(&url).await.unwrap().close().await;
    assert_eq!(shape(&client).await, fresh_shape().await);
}

/// Of several replicas that start at once, one does it, and the others wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_migrate_once() {
    if !server::is_there("replicas_that_start_at_once_migrate_once") {
        return;
    }
    let url = version_3().await;
    let opened = futures_util::future::join_all((0..4).map(|_| open(&url))).await;
    for registry in opened {
        assert_whole(&registry.unwrap()).await;
    }
    assert_eq!(shape(&server::connect(&url).await).await, fresh_shape().await);
}

/// Others go on using the tables while a migration waits for a transaction that began before it,
/// and longer than statements may take in this database.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_holds_nobody_up() {
    if !server::is_there("a_migration_holds_nobody_up") {
        return;
    }
    let url = version_3().await;
    let limit = "DO $$ BEGIN EXECUTE format(
                     'ALTER DATABASE %I SET statement_timeout = 500', current_database());
                 END $$";
    server::execute(&url, limit).await;
    let (slow, other) = (server::connect(&url).await, server::connect(&url).await);
    slow.batch_execute(
        "BEGIN; UPDATE blob SET size = size; UPDATE repository_blob SET blob = blob",
    )
    .await
    .unwrap();
    let migrating = tokio::spawn({
        let url = url.clone();
        async move { open(&url).await.map(drop) }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND state = 'active' AND query LIKE 'CREATE INDEX CONCURRENTLY%'
                 AND wait_event_type = 'Lock'";
    server::until(&other, waits, |count| count > 0).await;
    // What the version before does.
    other
        .batch_execute(
            "SET lock_timeout = '5s';
             INSERT INTO blob (digest, size, data) VALUES ('sha256:beside', 0, '');
             INSERT INTO repository_blob (repository, blob, candidate_since)
                 SELECT repository.id, blob.id, 1 FROM repository, blob WHERE digest = 'sha256:beside';
             DELETE FROM repository_blob WHERE candidate_since = 1;
             DELETE FROM blob WHERE digest = 'sha256:beside'",
        )
        .await
        .unwrap();
    other.batch_execute("SET statement_timeout = 0; SELECT pg_sleep(0.6)").await.unwrap();
    assert!(!migrating.is_finished());
    slow.batch_execute("COMMIT").await.unwrap();
    migrating.await.unwrap().unwrap();
    assert_eq!(shape(&other).await, fresh_shape().await);
}
