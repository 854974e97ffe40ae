//! The transactions about manifests and tags.

use std::ops::Range;

use bytes::Bytes;
use oci_ref::{Form, Manifest, Precondition, Referenced, Result, Target};
use oci_spec_types::{Descriptor, Digest, Name, Tag};
use rusqlite::{Connection, OptionalExtension, Row};

use super::collect::Hold;
use super::failure::Outcome;
use super::recent::Held;
use super::{collect, remove, rows};
use crate::metadata::refusals::{self, check_tag};
use crate::metadata::{NewManifest, columns};

/// The columns from which [`descriptor`] reads.
const DESCRIBED: &str = "manifest.digest, link.media_type, manifest.size, link.artifact_type";

type Described = (String, String, i64, Option<String>);

fn described(row: &Row<'_>) -> rusqlite::Result<Described> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn descriptor((digest, media_type, size, artifact_type): Described) -> Outcome<Descriptor> {
    let media_type = columns::media_type(&media_type)?;
    let mut descriptor =
        Descriptor::new(media_type, columns::parse("a digest", &digest)?, columns::size(size)?);
    descriptor.artifact_type = artifact_type;
    Ok(descriptor)
}

pub(super) fn resolve(db: &Connection, repository: &Name, target: &Target) -> Outcome<Descriptor> {
    let found = match target {
        Target::Digest(digest) | Target::Pinned(_, digest) => by_digest(db, repository, digest)?,
        Target::Tag(tag) => by_tag(db, repository, tag)?,
    };
    let found = found.map(descriptor).transpose()?;
    Ok(found.ok_or_else(|| refusals::unknown(repository, target))?)
}

fn by_digest(db: &Connection, repository: &Name, digest: &Digest) -> Outcome<Option<Described>> {
    let mut find = db.prepare_cached(&format!(
        "SELECT {DESCRIBED} FROM manifest
         JOIN repository_manifest AS link ON link.manifest = manifest.id
         JOIN repository ON repository.id = link.repository
         WHERE manifest.digest = ?2 AND repository.name = ?1"
    ))?;
    Ok(find.query_row((repository.as_str(), digest.as_str()), described).optional()?)
}

fn by_tag(db: &Connection, repository: &Name, tag: &Tag) -> Outcome<Option<Described>> {
    let mut find = db.prepare_cached(&format!(
        "SELECT {DESCRIBED} FROM repository
         JOIN tag ON tag.repository = repository.id
         JOIN repository_manifest AS link ON link.id = tag.manifest
         JOIN manifest ON manifest.id = link.manifest
         WHERE repository.name = ?1 AND tag.name = ?2"
    ))?;
    Ok(find.query_row((repository.as_str(), tag.as_str()), described).optional()?)
}

pub(super) fn bytes(db: &Connection, digest: &Digest) -> Outcome<Option<Bytes>> {
    let mut find = db.prepare_cached("SELECT data FROM manifest WHERE digest = ?1")?;
    let found: Option<Vec<u8>> = find.query_row([digest.as_str()], |row| row.get(0)).optional()?;
    Ok(found.map(Bytes::from))
}

/// Reads a part into a buffer, without the rest, which may be megabytes.
pub(super) fn part(
    db: &Connection,
    repository: &Name,
    digest: &Digest,
    range: Range<u64>,
    mut buffer: Vec<u8>,
) -> Outcome<Option<Bytes>> {
    // In one state of the database: the number of a row that has gone may be given again.
    let state = db.unchecked_transaction()?;
    let mut find = state.prepare_cached(
        "SELECT manifest.id FROM manifest
         JOIN repository_manifest AS link ON link.manifest = manifest.id
         JOIN repository ON repository.id = link.repository
         WHERE manifest.digest = ?2 AND repository.name = ?1",
    )?;
    let id: Option<i64> =
        find.query_row((repository.as_str(), digest.as_str()), |row| row.get(0)).optional()?;
    let Some(id) = id else { return Ok(None) };
    let data = state.blob_open("main", "manifest", "data", id, true)?;
    let place = |at: u64| usize::try_from(at).map_or(data.len(), |at| at.min(data.len()));
    let (start, end) = (place(range.start), place(range.end));
    buffer.resize(end.saturating_sub(start), 0);
    data.read_at_exact(&mut buffer, start)?;
    Ok(Some(buffer.into()))
}

pub(super) fn put(db: &Connection, new: &NewManifest) -> Outcome<()> {
    let repository = rows::make_repository(db, &new.repository)?;
    check_precondition(db, repository, &new.tags, &new.when)?;
    let blobs = find_blobs(db, repository, &new.manifest, |referenced, size| {
        let sparse = new.references.allow_absence_of(referenced);
        referenced.check(&new.manifest, size, sparse)
    })?;
    let Link { id: link, known } = link(db, repository, new)?;
    if !known {
        // As another type, the same bytes may reference something else.
        remove::release(db, link, new.now, new.now)?;
        add_references(db, repository, link, &new.manifest, &blobs)?;
    }
    let mut find =
        db.prepare_cached("SELECT manifest FROM tag WHERE repository = ?1 AND name = ?2")?;
    let mut name = db.prepare_cached(
        "INSERT INTO tag (repository, name, manifest) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET manifest = excluded.manifest",
    )?;
    for tag in &new.tags {
        let old: Option<i64> =
            find.query_row((repository, tag.as_str()), |row| row.get(0)).optional()?;
        if let Some(old) = old.filter(|old| *old != link) {
            renew_link(db, old, new.now)?;
        }
        name.execute((repository, tag.as_str(), link))?;
    }
    Ok(())
}

fn check_precondition(
    db: &Connection,
    repository: i64,
    tags: &[Tag],
    when: &Precondition,
) -> Outcome<()> {
    if *when == Precondition::None {
        return Ok(());
    }
    let mut find = db.prepare_cached(
        "SELECT manifest.digest FROM tag
         JOIN repository_manifest AS link ON link.id = tag.manifest
         JOIN manifest ON manifest.id = link.manifest
         WHERE tag.repository = ?1 AND tag.name = ?2",
    )?;
    for tag in tags {
        let now: Option<String> =
            find.query_row((repository, tag.as_str()), |row| row.get(0)).optional()?;
        check_tag(tag, now.as_deref(), when)?;
    }
    Ok(())
}

/// The blobs that a manifest references: those that are here, and those that are not and can be
/// nothing but blobs.
#[derive(Default)]
struct Blobs {
    here: Vec<i64>,
    missing: Vec<Digest>,
}

/// Looks for what a manifest references. Each reference is checked with the size of what is here of
/// it.
fn find_blobs(
    db: &Connection,
    repository: i64,
    manifest: &Manifest,
    check: impl Fn(&Referenced<'_>, Option<u64>) -> Result<()>,
) -> Outcome<Blobs> {
    let mut blobs = Blobs::default();
    for referenced in manifest.references() {
        let here = rows::referenced(db, repository, &referenced)?;
        check(&referenced, here.size)?;
        match here.blob {
            Some(blob) => blobs.here.push(blob),
            None if referenced.form == Form::Blob => blobs.missing.push(referenced.digest.clone()),
            // Once it comes, it is known by its digest, whatever it is.
            None => {}
        }
    }
    Ok(blobs)
}

/// A manifest in a repository.
struct Link {
    id: i64,
    /// It was there as the same type, and so with the same references.
    known: bool,
}

/// The manifest in the repository, as the type that it came with now. Without a tag, it is a candidate.
fn link(db: &Connection, repository: i64, new: &NewManifest) -> Outcome<Link> {
    let (bytes, descriptor) = (new.manifest.bytes(), new.manifest.descriptor());
    let digest = new.manifest.digest();
    let media_type = descriptor.media_type.as_str();
    let candidate_since = new.tags.is_empty().then_some(new.now);
    if let Some(id) = rows::linked_manifest(db, repository, digest)? {
        let mut find =
            db.prepare_cached("SELECT media_type = ?2 FROM repository_manifest WHERE id = ?1")?;
        let known = find.query_row((id, media_type), |row| row.get(0))?;
        db.prepare_cached(
            "UPDATE repository_manifest SET media_type = ?2, artifact_type = ?3, candidate_since = ?4
             WHERE id = ?1",
        )?
        .execute((id, media_type, descriptor.artifact_type.as_deref(), candidate_since))?;
        // The disk may have damaged them.
        db.prepare_cached(
            "UPDATE manifest SET size = ?2, data = ?3 WHERE digest = ?1 AND data <> ?3",
        )?
        .execute((
            digest.as_str(),
            columns::stored_size(bytes.len() as u64),
            bytes.as_ref(),
        ))?;
        return Ok(Link { id, known });
    }
    // Another repository may have it, and the disk may have damaged it.
    db.prepare_cached(
        "INSERT INTO manifest (digest, size, data) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET size = excluded.size, data = excluded.data WHERE data <> excluded.data",
    )?
    .execute((digest.as_str(), columns::stored_size(bytes.len() as u64), bytes.as_ref()))?;
    db.prepare_cached(
        "INSERT INTO repository_manifest (repository, manifest, media_type, artifact_type, candidate_since)
         SELECT ?1, id, ?3, ?4, ?5 FROM manifest WHERE digest = ?2",
    )?
    .execute((
        repository,
        digest.as_str(),
        media_type,
        descriptor.artifact_type.as_deref(),
        candidate_since,
    ))?;
    Ok(Link { id: db.last_insert_rowid(), known: false })
}

/// A manifest is a candidate from now on.
fn renew_link(db: &Connection, link: i64, now: i64) -> Outcome<()> {
    db.prepare_cached("UPDATE repository_manifest SET candidate_since = ?2 WHERE id = ?1")?
        .execute((link, now))?;
    Ok(())
}

fn add_references(
    db: &Connection,
    repository: i64,
    link: i64,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Outcome<()> {
    // The same layer may occur twice.
    let mut add = db.prepare_cached(
        "INSERT INTO manifest_blob (parent, repository, blob) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for blob in &blobs.here {
        add.execute((link, repository, blob))?;
    }
    let mut add = db.prepare_cached(
        "INSERT INTO missing_blob (parent, repository, digest) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for digest in &blobs.missing {
        add.execute((link, repository, digest.as_str()))?;
    }
    let mut add = db.prepare_cached(
        "INSERT INTO manifest_child (parent, repository, child) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for child in manifest.references().filter(|it| it.form == Form::Either) {
        add.execute((link, repository, child.digest.as_str()))?;
    }
    if let (Some(subject), Some(referrer)) = (manifest.subject(), manifest.as_referrer()) {
        let json = serde_json::to_string(&referrer)
            .map_err(|error| columns::corrupt("the descriptor of a referrer", &error))?;
        db.prepare_cached(
            "INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            repository,
            subject.digest.as_str(),
            referrer.digest.as_str(),
            referrer.artifact_type.as_deref(),
            link,
            json,
        ))?;
    }
    Ok(())
}

/// Records what a manifest references, and nothing else. What is not there is missing. `false` if the manifest is not there.
pub(super) fn record_again(
    db: &Connection,
    link: i64,
    manifest: &Manifest,
    now: i64,
) -> Outcome<bool> {
    let mut update = db.prepare_cached(
        "UPDATE repository_manifest SET artifact_type = ?3
         WHERE id = ?1 AND manifest = (SELECT id FROM manifest WHERE digest = ?2) RETURNING repository",
    )?;
    let artifact_type = manifest.descriptor().artifact_type.as_deref();
    let values = (link, manifest.digest().as_str(), artifact_type);
    let repository = update.query_row(values, |row| row.get(0)).optional()?;
    let Some(repository) = repository else { return Ok(false) };
    remove::release(db, link, now, now)?;
    let blobs = find_blobs(db, repository, manifest, |_, _| Ok(()))?;
    add_references(db, repository, link, manifest, &blobs)?;
    Ok(true)
}

pub(super) fn delete_tag(db: &Connection, name: &Name, tag: &Tag, now: i64) -> Outcome<()> {
    let deleted: Option<i64> = match rows::repository(db, name)? {
        Some(repository) => db
            .prepare_cached(
                "DELETE FROM tag WHERE repository = ?1 AND name = ?2 RETURNING manifest",
            )?
            .query_row((repository, tag.as_str()), |row| row.get(0))
            .optional()?,
        None => None,
    };
    match deleted {
        Some(link) => renew_link(db, link, now),
        None => Err(refusals::unknown_tag(name, tag).into()),
    }
}

/// What holds a manifest, or something above it, if it is not stale. `None` also for one that is not there (any more).
pub(super) fn hold(
    db: &Connection,
    name: &Name,
    digest: &Digest,
    stale_before: i64,
) -> Outcome<Option<Held>> {
    let Some(repository) = rows::repository(db, name)? else { return Ok(None) };
    let Some(link) = rows::linked_manifest(db, repository, digest)? else { return Ok(None) };
    // Candidates since just that time are not stale yet.
    match collect::hold(db, link, stale_before.saturating_sub(1), 1)? {
        Hold::Held(held) => Ok(Some(held)),
        Hold::Unheld(_) => Ok(None),
    }
}

pub(super) fn renew(db: &Connection, name: &Name, digest: &Digest, now: i64) -> Outcome<bool> {
    let Some(repository) = rows::repository(db, name)? else { return Ok(false) };
    let Some(link) = rows::linked_manifest(db, repository, digest)? else { return Ok(false) };
    renew_link(db, link, now)?;
    Ok(true)
}
