//! Questions of a check about the database itself, and its repairs.

use oci_ref::Manifest;
use oci_spec_types::Name;

use super::failure::{Failure, Outcome};
use super::run::{Db, get};
use super::{blobs, collect, manifests, remove};
use crate::metadata::{StoredBlob, columns};
use crate::objects::ObjectKey;

/// The tables as they are made.
const SCHEMA: &str = include_str!("schema.sql");

/// What is wrong with the keys, on which everything relies: that they are there, and hold.
pub(super) async fn database(db: &Db) -> Outcome<Vec<String>> {
    let keys = "SELECT child.relname::text, parent.relname::text, format(
                    'SELECT count(*) FROM %I AS child WHERE %s AND NOT EXISTS (SELECT 1 FROM %I AS parent WHERE %s)',
                    child.relname, string_agg(format('child.%I IS NOT NULL', one.attname), ' AND '),
                    parent.relname, string_agg(format('parent.%I = child.%I', other.attname, one.attname), ' AND '))
                FROM pg_constraint AS key
                JOIN pg_class AS child ON child.oid = key.conrelid
                JOIN pg_class AS parent ON parent.oid = key.confrelid
                CROSS JOIN LATERAL unnest(key.conkey, key.confkey) AS pair (one, other)
                JOIN pg_attribute AS one ON one.attrelid = key.conrelid AND one.attnum = pair.one
                JOIN pg_attribute AS other ON other.attrelid = key.confrelid AND other.attnum = pair.other
                WHERE key.contype = 'f' AND child.relnamespace = current_schema()::regnamespace
                GROUP BY key.oid, child.relname, parent.relname ORDER BY child.relname, parent.relname";
    let found = db.rows_once(keys, &[]).await?;
    let mut problems = Vec::new();
    let expected = SCHEMA.matches(" REFERENCES ").count();
    if found.len() < expected {
        problems.push(format!("it has {} of its {expected} foreign keys", found.len()));
    }
    for key in &found {
        let (table, parent): (&str, &str) = (get(key, 0)?, get(key, 1)?);
        let broken = db.rows_once(get(key, 2)?, &[]).await?;
        let broken: i64 = broken.first().map_or(Ok(0), |row| get(row, 0))?;
        if broken > 0 {
            problems
                .push(format!("{broken} rows of {table} name rows of {parent} that are not there"));
        }
    }
    Ok(problems)
}

pub(super) async fn last_ids(db: &Db) -> Outcome<(i64, i64)> {
    let find = "SELECT (SELECT coalesce(max(id), 0) FROM blob),
                       (SELECT coalesce(max(id), 0) FROM repository_manifest)";
    let found = db.row(find, &[]).await?.ok_or(Failure::Raced)?;
    Ok((get(&found, 0)?, get(&found, 1)?))
}

pub(super) async fn unknown_objects(db: &Db, keys: &[ObjectKey]) -> Outcome<Vec<ObjectKey>> {
    let keys: Vec<&str> = keys.iter().map(ObjectKey::as_str).collect();
    let find = "SELECT key FROM unnest($1::text[]) AS found (key)
                WHERE NOT EXISTS (SELECT 1 FROM blob WHERE object = found.key)
                AND NOT EXISTS (SELECT 1 FROM pending_object WHERE pending_object.key = found.key)";
    let found = db.rows(find, &[&keys]).await?;
    found.iter().map(|row| Ok(columns::object_key(get(row, 0)?)?)).collect()
}

/// The repositories that have a blob.
pub(super) async fn holders(db: &Db, blob: i64) -> Outcome<Vec<Name>> {
    let find = "SELECT repository.name FROM repository_blob
                JOIN repository ON repository.id = repository_blob.repository WHERE blob = $1";
    let found = db.rows(find, &[&blob]).await?;
    found.iter().map(|row| Ok(columns::parse("a repository name", get(row, 0)?)?)).collect()
}

/// The repository of a manifest.
pub(super) async fn holder(db: &Db, link: i64) -> Outcome<Option<Name>> {
    let find = "SELECT repository.name FROM repository_manifest AS link
                JOIN repository ON repository.id = link.repository WHERE link.id = $1";
    let name: Option<String> = db.value(find, &[&link]).await?;
    Ok(name.map(|name| columns::parse("a repository name", &name)).transpose()?)
}

/// Takes a blob out of all repositories, which are locked alone here.
pub(super) async fn discard_blob(db: &Db, blob: &StoredBlob, delete_after: i64) -> Outcome<bool> {
    let names = holders(db, blob.id).await?;
    collect::lock(db, names.iter().map(Name::as_str)).await?;
    let (object, data) = columns::place(&blob.content);
    let find = "SELECT 1 FROM blob WHERE id = $1 AND object IS NOT DISTINCT FROM $2
                AND data IS NOT DISTINCT FROM $3";
    if db.execute(find, &[&blob.id, &object, &data]).await? == 0 {
        return Ok(false);
    }
    if holders(db, blob.id).await?.len() != names.len() {
        return Err(Failure::Raced);
    }
    let find = "SELECT repository FROM repository_blob WHERE blob = $1";
    let found = db.rows(find, &[&blob.id]).await?;
    let repositories = found.iter().map(|row| get(row, 0)).collect::<Outcome<Vec<i64>>>()?;
    for statement in [
        "INSERT INTO missing_blob (parent, repository, digest)
         SELECT parent, repository, digest FROM manifest_blob JOIN blob ON blob.id = manifest_blob.blob
         WHERE manifest_blob.blob = $1 ON CONFLICT DO NOTHING",
        "DELETE FROM manifest_blob WHERE blob = $1",
    ] {
        db.execute(statement, &[&blob.id]).await?;
    }
    let links = vec![blob.id; repositories.len()];
    let gone = blobs::unlink(db, &repositories, &links, delete_after).await?;
    // Another repository has it since: it is to be taken out of that, too.
    if gone.blobs == 1 { Ok(true) } else { Err(Failure::Raced) }
}

/// Records the references of a manifest anew. Its repository must be locked alone.
pub(super) async fn repair_references(
    db: &Db,
    link: i64,
    manifest: &Manifest,
    now: i64,
) -> Outcome<bool> {
    let update = "UPDATE repository_manifest SET artifact_type = $3
                  WHERE id = $1 AND manifest = (SELECT id FROM manifest WHERE digest = $2) RETURNING repository";
    let artifact_type = manifest.descriptor().artifact_type.as_deref();
    let values: super::run::Values<'_> = &[&link, &manifest.digest().as_str(), &artifact_type];
    let Some(repository) = db.value(update, values).await? else { return Ok(false) };
    remove::release(db, &[link], now, now).await?;
    manifests::record_references(db, repository, link, manifest).await?;
    Ok(true)
}

/// Takes a manifest without a tag out of its repository, which must be locked alone.
pub(super) async fn discard_manifest(db: &Db, link: i64, now: i64) -> Outcome<bool> {
    let find = "SELECT 1 FROM repository_manifest WHERE id = $1
                AND NOT EXISTS (SELECT 1 FROM tag WHERE manifest = $1)";
    if db.execute(find, &[&link]).await? == 0 {
        return Ok(false);
    }
    remove::unlink(db, &[link], now, now).await?;
    Ok(true)
}

pub(super) async fn setting(db: &Db, name: &str) -> Outcome<Option<Vec<u8>>> {
    db.value("SELECT value FROM setting WHERE name = $1", &[&name]).await
}

pub(super) async fn set_setting(db: &Db, name: &str, value: Option<&[u8]>) -> Outcome<()> {
    let set = "INSERT INTO setting (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    match value {
        Some(value) => db.execute(set, &[&name, &value]).await?,
        None => db.execute("DELETE FROM setting WHERE name = $1", &[&name]).await?,
    };
    Ok(())
}
