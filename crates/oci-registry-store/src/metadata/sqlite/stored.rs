//! Pages of what is stored, which a check reads from the first row to the last.

use bytes::Bytes;
use oci_spec_types::Descriptor;
use rusqlite::{CachedStatement, Connection};

use super::collect;
use super::failure::Outcome;
use crate::metadata::misfits::LINKS;
use crate::metadata::recorded::{self, MAX_TAGS, PAGE_BYTES, Reference};
use crate::metadata::{
    CheckedLinks, Content, ForgottenLink, Recorded, StoredBlob, StoredManifest, UnknownManifest,
    columns,
};

pub(super) fn blobs(db: &Connection, after: i64, limit: usize) -> Outcome<Vec<StoredBlob>> {
    let mut list = db.prepare_cached(
        "SELECT id, digest, size, object, data FROM blob WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let content = columns::content(row.get(3)?, row.get(4)?)?;
        if let Content::Inline(data) = &content {
            bytes += data.len();
        }
        page.push(StoredBlob {
            id: row.get(0)?,
            digest: columns::parse("a digest", &row.get::<_, String>(1)?)?,
            size: columns::size(row.get(2)?)?,
            content,
        });
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}

pub(super) fn links(
    db: &Connection,
    after: (i64, i64),
    last: i64,
    limit: usize,
) -> Outcome<CheckedLinks> {
    let mut list = db.prepare_cached(LINKS)?;
    let mut found = list.query((after.0, after.1, last, columns::stored_limit(limit)))?;
    let (mut checked, mut count) = (CheckedLinks::default(), 0);
    while let Some(row) = found.next()? {
        let blob = row.get(0)?;
        let forgotten = row.get::<_, Option<String>>(2)?.zip(row.get::<_, Option<String>>(3)?);
        if let Some((digest, repository)) = forgotten {
            checked.forgotten.push(ForgottenLink {
                blob,
                digest: columns::parse("a digest", &digest)?,
                repository: columns::parse("a repository name", &repository)?,
            });
        }
        count += 1;
        checked.next = Some((blob, row.get(1)?)).filter(|_| count == limit);
    }
    Ok(checked)
}

/// True of a manifest that will become a candidate, since its subject was deleted.
const UNMARKED: &str = "
    SELECT 1 FROM referrer
    JOIN deleted_subject AS gone
        ON gone.repository = referrer.repository AND gone.digest = referrer.subject
    WHERE referrer.manifest = ?1 AND referrer.digest > gone.marked";

pub(super) fn manifests(db: &Connection, after: i64, limit: usize) -> Outcome<Vec<StoredManifest>> {
    // A manifest and its references are of one state.
    let state = db.unchecked_transaction()?;
    let mut list = db.prepare_cached(
        "SELECT link.id, repository.name, manifest.digest, link.media_type, manifest.size, link.artifact_type,
                link.candidate_since IS NOT NULL, manifest.data
         FROM repository_manifest AS link
         JOIN repository ON repository.id = link.repository
         JOIN manifest ON manifest.id = link.manifest
         WHERE link.id > ?1 ORDER BY link.id LIMIT ?2",
    )?;
    let mut tags = db.prepare_cached("SELECT name FROM tag WHERE manifest = ?1 LIMIT ?2")?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let id = row.get(0)?;
        let media_type = columns::media_type(&row.get::<_, String>(3)?)?;
        let digest = columns::parse("a digest", &row.get::<_, String>(2)?)?;
        let mut descriptor = Descriptor::new(media_type, digest, columns::size(row.get(4)?)?);
        descriptor.artifact_type = row.get(5)?;
        let data: Vec<u8> = row.get(7)?;
        bytes += data.len();
        let mut manifest = StoredManifest {
            id,
            repository: columns::parse("a repository name", &row.get::<_, String>(1)?)?,
            descriptor,
            bytes: Bytes::from(data),
            tags: Vec::new(),
            recorded: Recorded::default(),
            forgotten: false,
        };
        let mut tags = tags.query((id, MAX_TAGS))?;
        while let Some(tag) = tags.next()? {
            manifest.tags.push(columns::parse("a tag", &tag.get::<_, String>(0)?)?);
        }
        // If only what is no candidate at all does not count as a root. Most have a tag.
        let is_root = !manifest.tags.is_empty() || row.get(6)?;
        manifest.forgotten = !is_root
            && !collect::is_held(db, id, i64::MIN)?
            && !db.prepare_cached(UNMARKED)?.exists([id])?;
        page.push(manifest);
        if bytes > PAGE_BYTES {
            break;
        }
    }
    add_references(db, &mut page)?;
    drop(found);
    drop(list);
    drop(state);
    Ok(page)
}

/// Adds what is recorded of a page, in the order of the tables: between the first and the last
/// manifest of a page there are no others.
fn add_references(db: &Connection, page: &mut [StoredManifest]) -> Outcome<()> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(()) };
    let range = (first.id, last.id);
    let mut blobs = db.prepare_cached(
        "SELECT held.parent, blob.digest FROM manifest_blob AS held JOIN blob ON blob.id = held.blob
         WHERE held.parent BETWEEN ?1 AND ?2",
    )?;
    add(&mut blobs, range, page, |_| Reference::Blob)?;
    let mut missing = db.prepare_cached(
        "SELECT missing.parent, missing.digest, EXISTS (
             SELECT 1 FROM blob JOIN repository_blob AS link ON link.blob = blob.id
             WHERE blob.digest = missing.digest AND link.repository = missing.repository)
         FROM missing_blob AS missing WHERE missing.parent BETWEEN ?1 AND ?2",
    )?;
    add(&mut missing, range, page, Reference::Missing)?;
    let mut listed = db.prepare_cached(
        "SELECT listed.parent, listed.child, EXISTS (
             SELECT 1 FROM blob JOIN repository_blob AS link ON link.blob = blob.id
             WHERE blob.digest = listed.child AND link.repository = listed.repository
             AND NOT EXISTS (
                 SELECT 1 FROM manifest_blob AS held
                 WHERE held.parent = listed.parent AND held.blob = blob.id))
         FROM manifest_child AS listed WHERE listed.parent BETWEEN ?1 AND ?2",
    )?;
    add(&mut listed, range, page, Reference::Listed)?;
    let mut subjects = db.prepare_cached(
        "SELECT manifest, subject, descriptor FROM referrer WHERE manifest BETWEEN ?1 AND ?2",
    )?;
    let mut found = subjects.query(range)?;
    while let Some(row) = found.next()? {
        recorded::add_referrer(page, row.get(0)?, row.get(1)?, &row.get::<_, String>(2)?)?;
    }
    Ok(())
}

fn add(
    list: &mut CachedStatement<'_>,
    range: (i64, i64),
    page: &mut [StoredManifest],
    reference: impl Fn(bool) -> Reference,
) -> Outcome<()> {
    let marked = list.column_count() > 2;
    let mut found = list.query(range)?;
    while let Some(row) = found.next()? {
        let mark = marked && row.get(2)?;
        recorded::add(page, row.get(0)?, reference(mark), row.get(1)?);
    }
    Ok(())
}

pub(super) fn unknown_manifests(
    db: &Connection,
    after: i64,
    limit: usize,
) -> Outcome<Vec<UnknownManifest>> {
    let mut list = db.prepare(&columns::unknown_manifests())?;
    let mut found = list.query((after, columns::stored_limit(limit)))?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let data: Vec<u8> = row.get(4)?;
        bytes += data.len();
        let digest = columns::parse("a digest", &row.get::<_, String>(1)?)?;
        let media_type = columns::media_type(&row.get::<_, String>(2)?)?;
        let descriptor = Descriptor::new(media_type, digest, columns::size(row.get(3)?)?);
        page.push(UnknownManifest { id: row.get(0)?, descriptor, bytes: data.into() });
        if bytes > PAGE_BYTES {
            break;
        }
    }
    Ok(page)
}
