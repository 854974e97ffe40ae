//! The rows that everything else hangs on.

use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome};
use super::run::Db;

/// A repository, if it exists.
pub(super) async fn repository(db: &Db, name: &Name) -> Outcome<Option<i64>> {
    db.value("SELECT id FROM repository WHERE name = $1", &[&name.as_str()]).await
}

/// A repository that exists from now on. Its lock must be held, so that nobody removes it meanwhile.
pub(super) async fn make_repository(db: &Db, name: &Name) -> Outcome<i64> {
    if let Some(id) = repository(db, name).await? {
        return Ok(id);
    }
    let made = db
        .value(
            "INSERT INTO repository (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id",
            &[&name.as_str()],
        )
        .await?;
    match made {
        Some(id) => Ok(id),
        // Somebody else was quicker, and has committed.
        None => repository(db, name).await?.ok_or(Failure::Raced),
    }
}

/// A blob that a repository has.
pub(super) async fn linked_blob(db: &Db, repository: i64, digest: &Digest) -> Outcome<Option<i64>> {
    db.value(
        "SELECT blob FROM repository_blob
         WHERE repository = $1 AND blob = (SELECT id FROM blob WHERE digest = $2)",
        &[&repository, &digest.as_str()],
    )
    .await
}

/// A manifest that a repository has: the id of its link.
pub(super) async fn linked_manifest(
    db: &Db,
    repository: i64,
    digest: &Digest,
) -> Outcome<Option<i64>> {
    db.value(
        "SELECT id FROM repository_manifest
         WHERE repository = $1 AND manifest = (SELECT id FROM manifest WHERE digest = $2)",
        &[&repository, &digest.as_str()],
    )
    .await
}
