//! What pages of lists cost.

use std::path::Path;

use oci_ref::{Access, Cursor, Precondition, Registry};
use oci_registry_store::{DurableRegistry, EngineOptions};
use tokio_postgres::Client;

use super::server;
use crate::support::*;

/// How many tags and referrers there are.
const ALL: usize = 2000;

pub(super) async fn open(url: &str, directory: &Path) -> DurableRegistry {
    let mut options = EngineOptions::default();
    options.database = url.parse().unwrap();
    DurableRegistry::open(directory, options).await.unwrap()
}

/// How many entries of the indexes of a table have been read by connections that have ended, which all others have by then.
pub(super) async fn entries_read(client: &Client, table: &str) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                  AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    server::until(client, others, |count| count == 0).await;
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = $1";
    client.query_one(read, &[&table]).await.unwrap().get(0)
}

/// A page reads its own entries, and not all that come after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_the_same_however_much_comes_after_it() {
    if !server::is_there("a_page_costs_the_same_however_much_comes_after_it") {
        return;
    }
    let (directory, url) = (tempfile::tempdir().unwrap(), server::fresh_url().await);
    let client = server::connect(&url).await;
    let subject = {
        let registry = open(&url, directory.path()).await;
        let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();
        let subject = index(&[]);
        let tags: Vec<_> = (0..ALL).map(|n| tag(&format!("v{n:05}"))).collect();
        store.put_manifest(&subject, &tags, &Precondition::None).await.unwrap();
        subject.digest().clone()
    };
    // So many referrers would take long to push.
    let fill = format!(
        "INSERT INTO manifest (digest, size, data)
             SELECT 'sha256:' || lpad(n::text, 64, '0'), 2, '{{}}' FROM generate_series(1, {ALL}) AS n;
         INSERT INTO repository_manifest (repository, manifest, media_type)
             SELECT repository.id, manifest.id, 'application/x' FROM repository, manifest WHERE manifest.size = 2;
         INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
             SELECT link.repository, '{subject}', manifest.digest, 'application/x', link.id,
                 '{{\"mediaType\":\"application/x\",\"digest\":\"' || manifest.digest || '\",\"size\":2}}'
             FROM repository_manifest AS link JOIN manifest ON manifest.id = link.manifest WHERE manifest.size = 2;
         ANALYZE"
    );
    client.batch_execute(&fill).await.unwrap();

    for (table, artifact_type) in
        [("tag", None), ("referrer", None), ("referrer", Some("application/x"))]
    {
        let before = entries_read(&client, table).await;
        let registry = open(&url, directory.path()).await;
        let store = registry.repository(&name("a/b"), Access::Read).await.unwrap();
        let found = match table {
            "tag" => {
                let after = Cursor::After("v00100".into());
                store.tags(Some(&after), 10).await.unwrap().items.len()
            }
            _ => {
                let after = Cursor::After(format!("sha256:{:0>64}", 100));
                let page = store.referrers(&subject, artifact_type, Some(&after), 10);
                page.await.unwrap().page.items.len()
            }
        };
        assert_eq!(found, 10, "{table}");
        drop((store, registry));
        let read = entries_read(&client, table).await - before;
        assert!((10..100).contains(&read), "{read} entries read for a page of {table}");
    }
}
