//! Database engines that do not honour what is relied on.

use oci_ref::ErrorKind;

use super::opening::{open, refusal};
use super::server;

/// A server that is told not to mind keys, or to begin transactions that may not write, is refused
/// by name, with what it does not do; and nothing is made in its database.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_not_honour_is_named() {
    if !server::is_there("what_a_server_does_not_honour_is_named") {
        return;
    }
    let url = server::fresh_url().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    for (setting, expected) in [
        ("session_replication_role%3Dreplica", "foreign keys"),
        ("default_transaction_read_only%3Don", "default_transaction_read_only"),
    ] {
        let refused = format!("{url}&options=-c{setting}");
        for made in [false, true] {
            if made {
                open(&url).await.unwrap().close().await;
            }
            let (kind, message) = refusal(&refused).await;
            assert_eq!(kind, ErrorKind::Invalid);
            assert!(message.contains("PostgreSQL 1") && message.contains(expected), "{message}");
            assert_eq!(server::number(&url, tables).await > 0, made);
        }
        server::execute(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    }
}

/// Trying it changes nothing, and leaves no lock to those who come later.
#[tokio::test(flavor = "multi_thread")]
async fn trying_an_engine_leaves_nothing_behind() {
    if !server::is_there("trying_an_engine_leaves_nothing_behind") {
        return;
    }
    let url = server::fresh_url().await;
    let registry = open(&url).await.unwrap();
    for nothing in [
        "SELECT count(*) FROM pg_class WHERE relname = 'oci_registry_try'",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    ] {
        assert_eq!(server::number(&url, nothing).await, 0, "{nothing}");
    }
    registry.close().await;
}

/// A replica that starts waits for others that have the row that is tried, and does not take them
/// for an engine that lies.
#[tokio::test(flavor = "multi_thread")]
async fn others_that_have_the_row_are_waited_for() {
    if !server::is_there("others_that_have_the_row_are_waited_for") {
        return;
    }
    let url = server::fresh_url().await;
    open(&url).await.unwrap().close().await;
    let other = server::connect(&url).await;
    other
        .batch_execute("BEGIN; SELECT version FROM oci_registry_schema FOR NO KEY UPDATE")
        .await
        .unwrap();
    let waits = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'
                       AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        while server::number(&url, waiting).await == 0 {
            tokio::task::yield_now().await;
        }
        other.batch_execute("COMMIT").await.unwrap();
    };
    let (opened, ()) = tokio::join!(open(&url), waits);
    opened.unwrap().close().await;
}
