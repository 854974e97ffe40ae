//! The transactions about blobs.

use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome};
use super::run::{Db, get};
use super::{rows, sessions};
use crate::metadata::{
    BlobRecord, BlobSize, Collected, Content, NewBlob, Stored, columns, refusals,
};

pub(super) async fn size(
    db: &Db,
    repository: &Name,
    digest: &Digest,
    stale_before: i64,
) -> Outcome<Option<BlobSize>> {
    let find = "SELECT blob.size, coalesce(link.candidate_since < $3, false) AND NOT EXISTS (
                    SELECT 1 FROM manifest_blob
                    WHERE manifest_blob.repository = link.repository AND manifest_blob.blob = link.blob)
                FROM blob
                JOIN repository_blob AS link ON link.blob = blob.id
                WHERE blob.digest = $2
                AND link.repository = (SELECT id FROM repository WHERE name = $1)";
    let found = db.row(find, &[&repository.as_str(), &digest.as_str(), &stale_before]).await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(BlobSize { size: columns::size(get(&row, 0)?)?, stale: get(&row, 1)? }))
}

pub(super) async fn get_blob(
    db: &Db,
    repository: &Name,
    digest: &Digest,
) -> Outcome<Option<BlobRecord>> {
    let find = "SELECT blob.size, blob.object, blob.data FROM blob
                JOIN repository_blob AS link ON link.blob = blob.id
                WHERE blob.digest = $2
                AND link.repository = (SELECT id FROM repository WHERE name = $1)";
    let found = db.row(find, &[&repository.as_str(), &digest.as_str()]).await?;
    let Some(row) = found else { return Ok(None) };
    let content = columns::content(get(&row, 1)?, get(&row, 2)?)?;
    Ok(Some(BlobRecord { size: columns::size(get(&row, 0)?)?, content }))
}

pub(super) async fn renew(db: &Db, name: &Name, digest: &Digest, now: i64) -> Outcome<bool> {
    let Some(repository) = rows::repository(db, name).await? else { return Ok(false) };
    let Some(blob) = rows::linked_blob(db, repository, digest).await? else { return Ok(false) };
    renew_link(db, repository, blob, now).await?;
    Ok(true)
}

async fn renew_link(db: &Db, repository: i64, blob: i64, now: i64) -> Outcome<()> {
    // A comparison with NULL does not hold.
    db.execute(
        "UPDATE repository_blob SET candidate_since = $3
         WHERE repository = $1 AND blob = $2 AND candidate_since < $3",
        &[&repository, &blob, &now],
    )
    .await?;
    Ok(())
}

pub(super) async fn commit(db: &Db, new: &NewBlob, writer: &str) -> Outcome<Stored> {
    if let Some(session) = &new.session {
        sessions::close(db, session, Some(&new.digest), writer).await?;
    }
    let repository = rows::make_repository(db, &new.repository).await?;
    let (blob, stored) = match keep(db, &new.digest).await? {
        Some(blob) => (blob, Stored::Known),
        None => match insert(db, new).await? {
            Some(blob) => (blob, Stored::Taken),
            // Somebody else was quicker, and has committed.
            None => (keep(db, &new.digest).await?.ok_or(Failure::Raced)?, Stored::Known),
        },
    };
    link(db, repository, blob, &new.digest, new.now).await?;
    Ok(stored)
}

/// A blob that is here and stays, until it is linked. If it is just being removed, waits for that.
async fn keep(db: &Db, digest: &Digest) -> Outcome<Option<i64>> {
    db.value("SELECT id FROM blob WHERE digest = $1 FOR KEY SHARE", &[&digest.as_str()]).await
}

async fn insert(db: &Db, new: &NewBlob) -> Outcome<Option<i64>> {
    let (object, data) = columns::place(&new.content);
    let insert = "INSERT INTO blob (digest, size, object, data) VALUES ($1, $2, $3, $4)
                  ON CONFLICT (digest) DO NOTHING RETURNING id";
    let size = columns::stored_size(new.size);
    let inserted = db.value(insert, &[&new.digest.as_str(), &size, &object, &data]).await?;
    if let (Some(_), Content::Object(key)) = (inserted, &new.content) {
        // The object is the blob's from now on.
        let take = "DELETE FROM pending_object WHERE key = $1 AND delete_after IS NULL";
        if db.execute(take, &[&key.as_str()]).await? != 1 {
            return Err(sessions::not_pending(key));
        }
    }
    Ok(inserted)
}

/// Puts a blob into a repository. What was referenced there before it came is referenced from now on.
async fn link(db: &Db, repository: i64, blob: i64, digest: &Digest, now: i64) -> Outcome<()> {
    let link = "INSERT INTO repository_blob (repository, blob, candidate_since) VALUES ($1, $2, $3)
                ON CONFLICT DO NOTHING";
    if db.execute(link, &[&repository, &blob, &now]).await? == 0 {
        return renew_link(db, repository, blob, now).await;
    }
    let found = "WITH found AS (
                     DELETE FROM missing_blob WHERE repository = $1 AND digest = $3 RETURNING parent),
                 listed AS (
                     SELECT parent FROM found
                     UNION SELECT parent FROM manifest_child WHERE repository = $1 AND child = $3)
                 INSERT INTO manifest_blob (parent, repository, blob) SELECT parent, $1, $2 FROM listed";
    db.execute(found, &[&repository, &blob, &digest.as_str()]).await?;
    Ok(())
}

pub(super) async fn mount(
    db: &Db,
    from: &Name,
    to: &Name,
    digest: &Digest,
    now: i64,
) -> Outcome<bool> {
    let find = "SELECT blob.id FROM blob
                JOIN repository_blob AS link ON link.blob = blob.id
                WHERE blob.digest = $2
                AND link.repository = (SELECT id FROM repository WHERE name = $1)
                FOR KEY SHARE OF blob";
    let Some(blob) = db.value(find, &[&from.as_str(), &digest.as_str()]).await? else {
        return Ok(false);
    };
    let target = rows::make_repository(db, to).await?;
    link(db, target, blob, digest, now).await?;
    Ok(true)
}

pub(super) async fn delete(
    db: &Db,
    name: &Name,
    digest: &Digest,
    delete_after: i64,
) -> Outcome<()> {
    let unknown = || refusals::unknown_blob(name, digest);
    let repository = rows::repository(db, name).await?.ok_or_else(unknown)?;
    let blob = rows::linked_blob(db, repository, digest).await?.ok_or_else(unknown)?;
    if let Some(parent) = referenced_by(db, repository, blob).await? {
        return Err(refusals::referenced(name, digest, &parent).into());
    }
    unlink(db, &[repository], &[blob], delete_after).await?;
    Ok(())
}

/// The digest of one manifest of the repository that references the blob.
async fn referenced_by(db: &Db, repository: i64, blob: i64) -> Outcome<Option<String>> {
    let find = "SELECT manifest.digest FROM manifest_blob
                JOIN repository_manifest AS link ON link.id = manifest_blob.parent
                JOIN manifest ON manifest.id = link.manifest
                WHERE manifest_blob.repository = $1 AND manifest_blob.blob = $2 LIMIT 1";
    db.value(find, &[&repository, &blob]).await
}

/// Takes unreferenced blobs out of repositories that are locked alone: the first of the blobs out of the first of the
/// repositories, and so on. What no repository has any more goes.
pub(super) async fn unlink(
    db: &Db,
    repositories: &[i64],
    blobs: &[i64],
    delete_after: i64,
) -> Outcome<Collected> {
    let unlink = "DELETE FROM repository_blob USING unnest($1::bigint[], $2::bigint[]) AS gone (repository, blob)
                  WHERE repository_blob.repository = gone.repository AND repository_blob.blob = gone.blob";
    let links = db.execute(unlink, &[&repositories, &blobs]).await?;
    drop_empty(db, repositories).await?;
    // Nobody else looks whether these are still linked somewhere, so that of two who take away the last links one sees it.
    // This does not wait for those who link them.
    let lock = "SELECT 1 FROM blob WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE";
    db.execute(lock, &[&blobs]).await?;
    // And this waits for those who link them now.
    let lock = "SELECT id FROM blob WHERE id = ANY ($1)
                AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = blob.id)
                ORDER BY id FOR UPDATE";
    let found = db.rows(lock, &[&blobs]).await?;
    let unlinked = found.iter().map(|row| get(row, 0)).collect::<Outcome<Vec<i64>>>()?;
    let mut collected = Collected { links, ..Collected::default() };
    if unlinked.is_empty() {
        return Ok(collected);
    }
    let drop = "WITH gone AS (
                    DELETE FROM blob WHERE id = ANY ($1)
                    AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = blob.id)
                    RETURNING size, object),
                freed AS (
                    INSERT INTO pending_object (key, delete_after)
                    SELECT object, $2 FROM gone WHERE object IS NOT NULL)
                SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone";
    if let Some(row) = db.row(drop, &[&unlinked, &delete_after]).await? {
        collected.blobs = columns::size(get(&row, 0)?)?;
        collected.bytes = columns::size(get(&row, 1)?)?;
    }
    Ok(collected)
}

/// Removes those repositories that have nothing any more, and tells how many. They must be locked alone.
pub(super) async fn drop_empty(db: &Db, repositories: &[i64]) -> Outcome<u64> {
    db.execute(
        "DELETE FROM repository WHERE id = ANY ($1)
         AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.repository = repository.id)
         AND NOT EXISTS (SELECT 1 FROM repository_manifest WHERE repository_manifest.repository = repository.id)",
        &[&repositories],
    )
    .await
}
