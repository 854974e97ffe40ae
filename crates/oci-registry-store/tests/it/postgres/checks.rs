//! The cost of a check, which does not grow faster than what it looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_ref::{Access, Precondition, Registry, Store};
use oci_registry_store::{FsckEvent, FsckOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::pages::{entries_read, open};
use super::server;
use crate::support::*;

/// The number of repositories that have the shared blob.
const HOLDERS: usize = 2000;

/// Counts the statements on content that are run by this thread.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicUsize>);

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Named(self));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Named<'a>(&'a Statements);

impl Visit for Named<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let tables = ["manifest", "referrer", "tag", "blob"];
        if field.name() == "statement" && tables.iter().any(|table| value.contains(table)) {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// A page of many manifests takes as many statements as a page of one of each kind.
#[tokio::test]
async fn a_page_takes_the_same_statements_however_many_manifests_it_has() {
    if !server::is_there("a_page_takes_the_same_statements_however_many_manifests_it_has") {
        return;
    }
    let statements = Statements::default();
    let counting = tracing::subscriber::set_default(statements.clone());
    let (directory, url) = (tempfile::tempdir().unwrap(), server::fresh_url().await);
    let registry = open(&url, directory.path()).await;
    let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();
    let mut counts = Vec::new();
    for images in [1..2, 2..60] {
        for n in images {
            let image = push_image(&*store, &n.to_string(), &[tag(&format!("t{n}"))]).await;
            let list = index(&[&image]);
            let config = image.image().unwrap().config.clone();
            let signature = crate::support::image(&config, &[], "s", Some(image.descriptor()));
            for manifest in [&list, &signature] {
                store.put_manifest(manifest, &[], &Precondition::None).await.unwrap();
            }
        }
        server::execute(&url, "UPDATE repository_manifest SET candidate_since = NULL").await;
        // Other tests may meet with a statement's place for the first time at any moment, without
        // anybody who counts.
        tracing::callsite::rebuild_interest_cache();
        let before = statements.0.load(Ordering::Relaxed);
        let report = registry.fsck(&FsckOptions::default(), |_| {}).await.unwrap();
        counts.push((report.manifests, statements.0.load(Ordering::Relaxed) - before));
    }
    drop(counting);
    let [(3, few), (177, many)] = counts[..] else { panic!("{counts:?}") };
    assert!(few > 5 && few == many, "{counts:?}");
}

/// A blob that many repositories have costs a look at each of them, in steps, and not more.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_many_repositories_have_is_looked_at_in_steps() {
    if !server::is_there("a_blob_that_many_repositories_have_is_looked_at_in_steps") {
        return;
    }
    let (directory, url) = (tempfile::tempdir().unwrap(), server::fresh_url().await);
    let client = server::connect(&url).await;
    let registry = open(&url, directory.path()).await;
    let store = registry.repository(&name("a/b"), Access::Write).await.unwrap();
    push_image(&*store, "x", &[tag("t")]).await;
    drop(store);
    registry.close().await;
    let fill = format!(
        "INSERT INTO repository (name) SELECT 'r' || n FROM generate_series(1, {HOLDERS}) AS n;
         INSERT INTO repository_blob (repository, blob)
             SELECT repository.id, blob.id FROM repository, blob WHERE name LIKE 'r%';
         INSERT INTO repository_manifest (repository, manifest, media_type)
             SELECT repository.id, manifest.id, 'application/vnd.oci.image.manifest.v1+json'
             FROM repository, manifest WHERE name LIKE 'r%';
         INSERT INTO manifest_blob (parent, repository, blob)
             SELECT link.id, link.repository, blob.id FROM repository_manifest AS link, blob
             WHERE link.repository > 1;
         INSERT INTO tag (repository, name, manifest)
             SELECT repository, 't', id FROM repository_manifest WHERE repository > 1;
         ANALYZE"
    );
    client.batch_execute(&fill).await.unwrap();
    let before = entries_read(&client, "repository_blob").await;
    let registry = open(&url, directory.path()).await;
    let report = registry.fsck(&FsckOptions::default(), |_| {}).await.unwrap();
    registry.close().await;
    assert!(report.is_sound() && report.manifests == HOLDERS as u64 + 1, "{report:?}");
    let read = entries_read(&client, "repository_blob").await - before;
    // By the checks of keys, of misfits and of links, of which each step may read those of the blob
    // again to sort them.
    assert!(read < 10 * HOLDERS as i64, "{read} links were read");

    // One of them is forgotten: it is found, and told once.
    let forget = "DELETE FROM manifest_blob WHERE repository > 1990";
    client.batch_execute(forget).await.unwrap();
    let registry = open(&url, directory.path()).await;
    let told = std::sync::Mutex::new(Vec::new());
    let tell = |event: &FsckEvent<'_>| {
        if let FsckEvent::Problem(problem) = event
            && problem.what.contains("no collection would come upon it")
        {
            told.lock().unwrap().push(problem.what.clone());
        }
    };
    registry.fsck(&FsckOptions::default(), tell).await.unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.len() == 1 && told[0].contains("of repository r1990 "), "{told:?}");
}
