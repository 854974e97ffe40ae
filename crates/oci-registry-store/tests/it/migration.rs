//! Databases of older versions.

use std::fs;
use std::path::Path;

use oci_ref::{ByteRange, Source, Store};
use oci_registry_store::{DurableRegistry, EngineOptions};
use rusqlite::Connection;

use crate::support::*;

/// A data directory as version 1 left it: an index with an image and its layer, something that a manifest referenced
/// before, and what nobody had any more.
fn version_1(data: &Path) {
    let (object, lost) = ("0123456789abcdef0123456789abcdef", "ff23456789abcdef0123456789abcdef");
    fs::create_dir_all(data.join("objects/01")).unwrap();
    fs::create_dir_all(data.join("objects/ff")).unwrap();
    fs::write(data.join("objects/01").join(object), noise(100_000, 1)).unwrap();
    fs::write(data.join("objects/ff").join(lost), noise(100_000, 2)).unwrap();
    fs::write(data.join("format"), "oci-registry-store data directory, format 1\n").unwrap();

    let (config, layer) = (describe(b"{}"), describe(&noise(100_000, 1)));
    let child = image(&config, std::slice::from_ref(&layer), "x", None);
    let parent = index(&[&child]);
    let database = Connection::open(data.join("metadata.sqlite")).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    database.execute_batch(include_str!("../data/schema-1.sql")).unwrap();
    database.pragma_update(None, "application_id", 0x6f63_6972).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    let blob = "INSERT INTO blob (id, digest, size, object, data) VALUES (?1, ?2, ?3, ?4, ?5)";
    let inline = |bytes: &'static [u8]| Some(bytes);
    for (id, described, object, data) in [
        (1, &config, None, inline(b"{}")),
        (2, &layer, Some(object), None),
        (3, &describe(&noise(100_000, 2)), Some(lost), None),
        (4, &describe(b"alone"), None, inline(b"alone")),
    ] {
        database
            .execute(blob, (id, described.digest.as_str(), described.size as i64, object, data))
            .unwrap();
    }
    for (id, manifest) in [(1, &child), (2, &parent), (3, &index(&[&parent]))] {
        let bytes = manifest.bytes();
        database
            .execute(
                "INSERT INTO manifest (id, digest, size, data) VALUES (?1, ?2, ?3, ?4)",
                (id, manifest.digest().as_str(), bytes.len() as i64, bytes.as_ref()),
            )
            .unwrap();
    }
    let media_type = |manifest: &oci_ref::Manifest| manifest.descriptor().media_type.to_string();
    database.execute("INSERT INTO repository (id, name) VALUES (7, 'a/b')", []).unwrap();
    for (id, manifest) in [(1, &child), (2, &parent)] {
        database
            .execute(
                "INSERT INTO repository_manifest (id, repository, manifest, media_type) VALUES (?1, 7, ?1, ?2)",
                (id, media_type(manifest)),
            )
            .unwrap();
    }
    database
        .execute_batch(
            "INSERT INTO repository_blob (repository, blob) VALUES (7, 1), (7, 2), (7, 4);
             INSERT INTO manifest_blob (parent, repository, blob) VALUES (1, 7, 1), (1, 7, 2);
             INSERT INTO tag (repository, name, manifest) VALUES (7, 't', 2);
             INSERT INTO pending_object (key, condemned) VALUES ('00000000000000000000000000000000', 1);",
        )
        .unwrap();
    database
        .execute(
            "INSERT INTO manifest_child (parent, child) VALUES (2, ?1)",
            [child.digest().as_str()],
        )
        .unwrap();
    database.close().unwrap();
}

/// The columns and indexes of a database.
fn shape(database: &Connection) -> Vec<(String, String, Option<String>)> {
    let mut list = database
        .prepare(
            "SELECT entry.name, entry.type, part.name || part.type || part.\"notnull\" || part.pk
             FROM sqlite_schema AS entry LEFT JOIN pragma_table_info(entry.name) AS part
             ORDER BY 1, 2, 3",
        )
        .unwrap();
    let rows = list.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_becomes_this_one_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    version_1(directory.path());
    let options = EngineOptions::default();
    let registry = DurableRegistry::open(directory.path(), options.clone()).await.unwrap();
    let engine = TestEngine { registry, options, directory };
    let store = engine.repository("a/b").await;
    let layer = describe(&noise(100_000, 1));
    assert_eq!(pull(&*store, &layer.digest, ByteRange::All).await.unwrap(), noise(100_000, 1));
    let parent = store.manifest(&tag("t").into()).await.unwrap();
    let child = parent.manifests()[0].digest.clone();
    drop(store);
    let engine = engine.age(DAY).await;
    let report = engine.collect_untagged().await;
    // The blob of nobody, and one that was condemned before.
    assert_eq!((report.manifests, report.links, report.blobs), (0, 1, 1));
    assert_eq!((report.bytes, report.objects), (5, 2));
    assert_eq!(engine.objects().len(), 1);

    let store = engine.repository("a/b").await;
    store.delete_tag(&tag("t")).await.unwrap();
    drop(store);
    let engine = engine.age(DAY).await;
    assert_eq!(engine.collect_untagged().await.manifests, 2);
    let store = engine.repository("a/b").await;
    assert!(store.manifest(&child.into()).await.is_err());
    drop(store);

    let migrated = engine.close().await;
    let fresh = TestEngine::new().await.close().await;
    let [migrated, fresh] = [migrated, fresh]
        .map(|data| shape(&Connection::open(data.path().join("metadata.sqlite")).unwrap()));
    assert_eq!(migrated, fresh);
}
