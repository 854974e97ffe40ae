//! Pages of what is stored, which a check reads from the first row to the last. A page takes a
//! fixed number of statements, however many rows it has.

use oci_spec_types::Descriptor;
use tokio_postgres::Row;

use super::collect;
use super::failure::Outcome;
use super::run::{Db, get};
use crate::metadata::misfits::LINKS;
use crate::metadata::recorded::{self, MAX_TAGS, PAGE_BYTES, Reference};
use crate::metadata::{
    CheckedLinks, ForgottenLink, Recorded, StoredBlob, StoredManifest, UnknownManifest, columns,
};

/// Those first rows of a page that have no more than [`PAGE_BYTES`], and the one after them: so the
/// first one always. Each has an `id`, and in `bytes` how many it has.
fn bounded(page: &str) -> String {
    format!(
        "SELECT * FROM (
             SELECT page.*, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - bytes AS before
             FROM ({page}) AS page
         ) AS page
         WHERE before <= {PAGE_BYTES} ORDER BY id"
    )
}

pub(super) async fn blobs(db: &Db, after: i64, limit: usize) -> Outcome<Vec<StoredBlob>> {
    let list = bounded(
        "SELECT id, digest, size, object, data, coalesce(octet_length(data), 0) AS bytes
         FROM blob WHERE id > $1 ORDER BY id LIMIT $2",
    );
    let found = db.rows(&list, &[&after, &columns::stored_limit(limit)]).await?;
    let blob = |row: &Row| {
        Ok(StoredBlob {
            id: get(row, 0)?,
            digest: columns::parse("a digest", get(row, 1)?)?,
            size: columns::size(get(row, 2)?)?,
            content: columns::content(get(row, 3)?, get(row, 4)?)?,
        })
    };
    found.iter().map(blob).collect()
}

pub(super) async fn links(
    db: &Db,
    after: (i64, i64),
    last: i64,
    limit: usize,
) -> Outcome<CheckedLinks> {
    let found = db.rows(LINKS, &[&after.0, &after.1, &last, &columns::stored_limit(limit)]).await?;
    let mut checked = CheckedLinks::default();
    for row in &found {
        let blob = get(row, 0)?;
        let forgotten: Option<(&str, &str)> = get::<Option<_>>(row, 2)?.zip(get(row, 3)?);
        if let Some((digest, repository)) = forgotten {
            checked.forgotten.push(ForgottenLink {
                blob,
                digest: columns::parse("a digest", digest)?,
                repository: columns::parse("a repository name", repository)?,
            });
        }
        checked.next = Some((blob, get(row, 1)?)).filter(|_| found.len() == limit);
    }
    Ok(checked)
}

/// Those of some manifests that will become candidates, since their subject was deleted.
const UNMARKED: &str = "
    SELECT referrer.manifest FROM referrer
    CROSS JOIN LATERAL (
        SELECT marked FROM deleted_subject AS gone
        WHERE gone.repository = referrer.repository AND gone.digest = referrer.subject
        LIMIT 1) AS gone
    WHERE referrer.manifest = ANY ($1) AND referrer.digest > gone.marked";

/// In a transaction that sees one state, so that a manifest and its references are of one.
pub(super) async fn manifests(db: &Db, after: i64, limit: usize) -> Outcome<Vec<StoredManifest>> {
    let list = bounded(
        "SELECT link.id, repository.name, manifest.digest, link.media_type, manifest.size, link.artifact_type,
                manifest.data, link.candidate_since IS NOT NULL AS is_candidate, octet_length(manifest.data) AS bytes
         FROM (SELECT * FROM repository_manifest WHERE id > $1 ORDER BY id LIMIT $2) AS link
         CROSS JOIN LATERAL (SELECT * FROM manifest WHERE manifest.id = link.manifest OFFSET 0) AS manifest
         CROSS JOIN LATERAL (SELECT * FROM repository WHERE repository.id = link.repository OFFSET 0) AS repository
         ORDER BY link.id",
    );
    let found = db.rows(&list, &[&after, &columns::stored_limit(limit)]).await?;
    let (mut page, mut ids, mut candidates) = (Vec::new(), Vec::<i64>::new(), Vec::new());
    for row in &found {
        let media_type = columns::media_type(get(row, 3)?)?;
        let digest = columns::parse("a digest", get(row, 2)?)?;
        let mut descriptor = Descriptor::new(media_type, digest, columns::size(get(row, 4)?)?);
        descriptor.artifact_type = get(row, 5)?;
        let id = get(row, 0)?;
        ids.push(id);
        candidates.push(get::<bool>(row, 7)?);
        page.push(StoredManifest {
            id,
            repository: columns::parse("a repository name", get(row, 1)?)?,
            descriptor,
            bytes: get::<Vec<u8>>(row, 6)?.into(),
            tags: Vec::new(),
            recorded: Recorded::default(),
            forgotten: false,
        });
    }
    drop(found);
    add_tags(db, &ids, &mut page).await?;
    add_references(db, &ids, &mut page).await?;
    // Most have a tag.
    let asked = page.iter().zip(candidates);
    let asked = asked.filter(|(manifest, candidate)| manifest.tags.is_empty() && !candidate);
    let asked: Vec<i64> = asked.map(|(manifest, _)| manifest.id).collect();
    if !asked.is_empty() {
        // If only what is no candidate at all does not count as a root.
        let mut forgotten = collect::unheld(db, &asked, i64::MIN).await?;
        for row in &db.rows(UNMARKED, &[&asked]).await? {
            forgotten.remove(&get(row, 0)?);
        }
        for manifest in &mut page {
            manifest.forgotten = forgotten.contains(&manifest.id);
        }
    }
    Ok(page)
}

async fn add_tags(db: &Db, ids: &[i64], page: &mut [StoredManifest]) -> Outcome<()> {
    let list = "SELECT asked.id, tag.name FROM unnest($1::bigint[]) AS asked (id)
                CROSS JOIN LATERAL (SELECT name FROM tag WHERE tag.manifest = asked.id LIMIT $2) AS tag";
    for row in &db.rows(list, &[&ids, &MAX_TAGS]).await? {
        recorded::add_tag(page, get(row, 0)?, get(row, 1)?)?;
    }
    Ok(())
}

/// Adds the references of a page. Look-ups for each row are behind LATERAL, so that no plan reads a
/// whole table to join it.
async fn add_references(db: &Db, ids: &[i64], page: &mut [StoredManifest]) -> Outcome<()> {
    const HERE: &str = "SELECT blob.id FROM blob
                        JOIN repository_blob AS link ON link.blob = blob.id
                        WHERE blob.digest = named.digest AND link.repository = named.repository LIMIT 1";
    let blobs = "SELECT held.parent, blob.digest FROM manifest_blob AS held
                 CROSS JOIN LATERAL (SELECT digest FROM blob WHERE blob.id = held.blob OFFSET 0) AS blob
                 WHERE held.parent = ANY ($1)";
    let missing = format!(
        "SELECT named.parent, named.digest, here.id IS NOT NULL FROM missing_blob AS named
         LEFT JOIN LATERAL ({HERE}) AS here ON true
         WHERE named.parent = ANY ($1)"
    );
    let listed = format!(
        "SELECT named.parent, named.digest, here.id IS NOT NULL AND held.blob IS NULL
         FROM (SELECT parent, repository, child AS digest FROM manifest_child WHERE parent = ANY ($1)) AS named
         LEFT JOIN LATERAL ({HERE}) AS here ON true
         LEFT JOIN LATERAL (
             SELECT blob FROM manifest_blob WHERE parent = named.parent AND blob = here.id LIMIT 1
         ) AS held ON true"
    );
    let subjects = "SELECT manifest, subject, descriptor FROM referrer WHERE manifest = ANY ($1)";
    for row in &db.rows(blobs, &[&ids]).await? {
        recorded::add(page, get(row, 0)?, Reference::Blob, get(row, 1)?);
    }
    for row in &db.rows(&missing, &[&ids]).await? {
        recorded::add(page, get(row, 0)?, Reference::Missing(get(row, 2)?), get(row, 1)?);
    }
    for row in &db.rows(&listed, &[&ids]).await? {
        recorded::add(page, get(row, 0)?, Reference::Listed(get(row, 2)?), get(row, 1)?);
    }
    for row in &db.rows(subjects, &[&ids]).await? {
        recorded::add_referrer(page, get(row, 0)?, get(row, 1)?, get(row, 2)?)?;
    }
    Ok(())
}

pub(super) async fn unknown_manifests(
    db: &Db,
    after: i64,
    limit: usize,
) -> Outcome<Vec<UnknownManifest>> {
    let list = bounded(&format!(
        "SELECT page.*, octet_length(data) AS bytes FROM ({}) AS page",
        columns::unknown_manifests()
    ));
    let found = db.rows(&list, &[&after, &columns::stored_limit(limit)]).await?;
    let manifest = |row: &Row| {
        let digest = columns::parse("a digest", get(row, 1)?)?;
        let media_type = columns::media_type(get(row, 2)?)?;
        Ok(UnknownManifest {
            id: get(row, 0)?,
            descriptor: Descriptor::new(media_type, digest, columns::size(get(row, 3)?)?),
            bytes: get::<Vec<u8>>(row, 4)?.into(),
        })
    };
    found.iter().map(manifest).collect()
}
