//! The transactions about manifests and tags, without removing manifests.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use oci_ref::{Form, Manifest, Precondition, apart};
use oci_spec_types::{Descriptor, Digest, Name, Tag};
use tokio_postgres::Row;

use super::failure::{Failure, Outcome};
use super::run::{Db, absent, get};
use super::{remove, rows};
use crate::metadata::refusals::{self, check_tag};
use crate::metadata::{NewManifest, columns};

/// A manifest that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) descriptor: Descriptor,
    /// A tag holds it. If not, something else may.
    pub(super) held: bool,
}

/// From the columns behind the number of what was asked for.
fn found(row: &Row) -> Outcome<Found> {
    let digest = columns::parse("a digest", get(row, 1)?)?;
    let media_type = columns::media_type(get(row, 2)?)?;
    let mut descriptor = Descriptor::new(media_type, digest, columns::size(get(row, 3)?)?);
    descriptor.artifact_type = get(row, 4)?;
    Ok(Found { descriptor, held: get(row, 5)? })
}

/// What is asked for: a manifest of a repository, by its tag or by its digest.
pub(super) type Asked = (Name, String);

/// The manifests that tags stand for, each if it is there.
pub(super) async fn by_tags(db: &Db, asked: &[Asked]) -> Outcome<Vec<Option<Found>>> {
    // Each for itself, by the indexes, whatever the server believes about the sizes of tables.
    let find = "SELECT asked.number, found.*
                FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (repository, name, number)
                CROSS JOIN LATERAL (
                    SELECT manifest.digest, link.media_type, manifest.size, link.artifact_type, true
                    FROM repository
                    JOIN tag ON tag.repository = repository.id
                    JOIN repository_manifest AS link ON link.id = tag.manifest
                    JOIN manifest ON manifest.id = link.manifest
                    WHERE repository.name = asked.repository AND tag.name = asked.name LIMIT 1) AS found";
    described(db, find, asked).await
}

/// The manifests of some digests, each if it is there.
pub(super) async fn by_digests(db: &Db, asked: &[Asked]) -> Outcome<Vec<Option<Found>>> {
    // What holds one without a tag may be held by nothing any more.
    let find = "SELECT asked.number, found.*
                FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (repository, name, number)
                CROSS JOIN LATERAL (
                    SELECT manifest.digest, link.media_type, manifest.size, link.artifact_type,
                        (SELECT 1 FROM tag WHERE tag.manifest = link.id LIMIT 1) IS NOT NULL
                    FROM manifest
                    JOIN repository_manifest AS link ON link.manifest = manifest.id
                    WHERE manifest.digest = asked.name
                    AND link.repository = (SELECT id FROM repository WHERE name = asked.repository)
                    LIMIT 1) AS found";
    described(db, find, asked).await
}

async fn described(db: &Db, find: &str, asked: &[Asked]) -> Outcome<Vec<Option<Found>>> {
    let repositories: Vec<&str> = asked.iter().map(|(repository, _)| repository.as_str()).collect();
    let names: Vec<&str> = asked.iter().map(|(_, name)| name.as_str()).collect();
    let mut all = vec![None; asked.len()];
    for row in db.rows(find, &[&repositories, &names]).await? {
        // Counted from 1.
        let number: i64 = get(&row, 0)?;
        let place = usize::try_from(number - 1).ok().and_then(|place| all.get_mut(place));
        *place.ok_or_else(|| absent("name that was asked for"))? = Some(found(&row)?);
    }
    Ok(all)
}

pub(super) async fn bytes(db: &Db, digest: &Digest) -> Outcome<Option<Bytes>> {
    let find = "SELECT data FROM manifest WHERE digest = $1";
    let found: Option<Vec<u8>> = db.value(find, &[&digest.as_str()]).await?;
    Ok(found.map(Bytes::from))
}

/// Reads a part without the rest, which may be megabytes.
pub(super) async fn part(
    db: &Db,
    repository: &Name,
    digest: &Digest,
    range: &Range<u64>,
) -> Outcome<Option<Bytes>> {
    let find = "SELECT substring(manifest.data FROM $3 FOR $4) FROM manifest
                JOIN repository_manifest AS link ON link.manifest = manifest.id
                WHERE manifest.digest = $2
                AND link.repository = (SELECT id FROM repository WHERE name = $1)";
    // Counted from 1. No value has more than 1 GiB.
    let number = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let start = number(range.start.saturating_add(1));
    let length = number(range.end.saturating_sub(range.start));
    let (name, digest) = (repository.as_str(), digest.as_str());
    let found: Option<Vec<u8>> = db.value(find, &[&name, &digest, &start, &length]).await?;
    Ok(found.map(Bytes::from))
}

/// Stores a manifest. Unless it is `alone` in the repository, it only adds, and fails if it would have to be alone.
pub(super) async fn put(db: &Db, new: &NewManifest, alone: bool) -> Outcome<()> {
    let repository = rows::make_repository(db, &new.repository).await?;
    let blobs = find_blobs(db, repository, &new.manifest).await?;
    let manifests = find_manifests(db, repository, &new.manifest, &blobs).await?;
    for referenced in new.manifest.references() {
        let digest = referenced.digest.as_str();
        let size = blobs.sizes.get(digest).or_else(|| manifests.get(digest)).copied();
        let sparse = new.references.allow_absence_of(&referenced);
        referenced.check(&new.manifest, size, sparse)?;
    }
    // A blob that is missing could just be coming; then neither would see the other.
    if !alone && (new.when != Precondition::None || blobs.may_come(&new.manifest, &manifests)) {
        return Err(Failure::Alone);
    }
    check_precondition(db, repository, &new.tags, &new.when).await?;
    let Link { id: link, known } = link(db, repository, new).await?;
    if !known {
        add_references(db, repository, link, &new.manifest, &blobs).await?;
    } else if known && !has_type(db, link, new).await? {
        // As another type, the same bytes may reference something else.
        if !alone {
            return Err(Failure::Alone);
        }
        remove::release(db, &[link], new.now, new.now).await?;
        set_type(db, link, new).await?;
        add_references(db, repository, link, &new.manifest, &blobs).await?;
    }
    // In one order, so that two that set the same tags do not wait for each other.
    let mut tags: Vec<&Tag> = new.tags.iter().collect();
    tags.sort_unstable_by_key(|tag| tag.as_str());
    for tag in tags {
        set_tag(db, repository, tag, link, new.now).await?;
    }
    Ok(())
}

async fn set_tag(db: &Db, repository: i64, tag: &Tag, link: i64, now: i64) -> Outcome<()> {
    let tag = tag.as_str();
    let find = "SELECT manifest FROM tag WHERE repository = $1 AND name = $2 FOR UPDATE";
    let old: Option<i64> = db.value(find, &[&repository, &tag]).await?;
    match old {
        Some(old) if old == link => {}
        Some(old) => {
            let set = "UPDATE tag SET manifest = $3 WHERE repository = $1 AND name = $2";
            db.execute(set, &[&repository, &tag, &link]).await?;
            renew_link(db, old, now).await?;
        }
        None => {
            let add = "INSERT INTO tag (repository, name, manifest) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            if db.execute(add, &[&repository, &tag, &link]).await? == 0 {
                return Err(Failure::Raced);
            }
        }
    }
    Ok(())
}

async fn check_precondition(
    db: &Db,
    repository: i64,
    tags: &[Tag],
    when: &Precondition,
) -> Outcome<()> {
    if *when == Precondition::None {
        return Ok(());
    }
    let find = "SELECT manifest.digest FROM tag
                JOIN repository_manifest AS link ON link.id = tag.manifest
                JOIN manifest ON manifest.id = link.manifest
                WHERE tag.repository = $1 AND tag.name = $2";
    for tag in tags {
        let now: Option<String> = db.value(find, &[&repository, &tag.as_str()]).await?;
        check_tag(tag, now.as_deref(), when)?;
    }
    Ok(())
}

/// The blobs among what a manifest references.
#[derive(Default)]
struct Blobs {
    here: Vec<i64>,
    /// Those that are not here, and can be nothing but blobs.
    missing: Vec<String>,
    /// The sizes of those that are here.
    sizes: Sizes,
}

/// Sizes by digest.
type Sizes = HashMap<String, u64>;

impl Blobs {
    /// Tells that one could come that is referenced. Nobody brings as a blob what is here as a
    /// manifest and is known to be one.
    fn may_come(&self, manifest: &Manifest, manifests: &Sizes) -> bool {
        manifest.references().any(|referenced| {
            let digest = referenced.digest.as_str();
            let is_manifest = referenced.is_manifest() && manifests.contains_key(digest);
            !is_manifest && !self.sizes.contains_key(digest)
        })
    }
}

async fn find_blobs(db: &Db, repository: i64, manifest: &Manifest) -> Outcome<Blobs> {
    let wanted: Vec<&str> = manifest.references().map(|it| it.digest.as_str()).collect();
    // One after the other: a plan for all at once could read all blobs of the repository.
    let find = "SELECT wanted.digest, found.size, found.id
                FROM unnest($2::text[]) AS wanted (digest)
                CROSS JOIN LATERAL (
                    SELECT blob.size, blob.id FROM blob
                    JOIN repository_blob AS link ON link.blob = blob.id
                    WHERE blob.digest = wanted.digest AND link.repository = $1 LIMIT 1) AS found";
    let found = db.rows(find, &[&repository, &wanted]).await?;
    let here = found.iter().map(|row| get(row, 2)).collect::<Outcome<_>>()?;
    let mut blobs = Blobs { here, missing: Vec::new(), sizes: sizes(&found)? };
    for blob in manifest.references().filter(|it| it.form == Form::Blob) {
        if !blobs.sizes.contains_key(blob.digest.as_str()) {
            blobs.missing.push(blob.digest.to_string());
        }
    }
    Ok(blobs)
}

/// The manifests among what a manifest references and what is no blob.
async fn find_manifests(
    db: &Db,
    repository: i64,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Outcome<Sizes> {
    let wanted: Vec<&str> = manifest
        .references()
        .filter(|it| it.form == Form::Either)
        .map(|it| it.digest.as_str())
        .filter(|digest| !blobs.sizes.contains_key(*digest))
        .collect();
    if wanted.is_empty() {
        return Ok(Sizes::new());
    }
    let find = "SELECT wanted.digest, found.size
                FROM unnest($2::text[]) AS wanted (digest)
                CROSS JOIN LATERAL (
                    SELECT manifest.size FROM manifest
                    JOIN repository_manifest AS link ON link.manifest = manifest.id
                    WHERE manifest.digest = wanted.digest AND link.repository = $1 LIMIT 1) AS found";
    sizes(&db.rows(find, &[&repository, &wanted]).await?)
}

/// Each digest with its size.
fn sizes(rows: &[Row]) -> Outcome<Sizes> {
    rows.iter().map(|row| Ok((get(row, 0)?, columns::size(get(row, 1)?)?))).collect()
}

/// A manifest in a repository.
struct Link {
    id: i64,
    /// It was there, and so were its references.
    known: bool,
}

/// The manifest in the repository. Without a tag, it is a candidate. One that was there keeps its type here.
async fn link(db: &Db, repository: i64, new: &NewManifest) -> Outcome<Link> {
    let (bytes, descriptor) = (new.manifest.bytes(), new.manifest.descriptor());
    let digest = new.manifest.digest();
    let candidate_since = new.tags.is_empty().then_some(new.now);
    let size = columns::stored_size(bytes.len() as u64);
    // The disk may have damaged them.
    let heal = "UPDATE manifest SET size = $2, data = $3 WHERE digest = $1 AND data <> $3";
    if let Some(id) = rows::linked_manifest(db, repository, digest).await? {
        let renew = "UPDATE repository_manifest SET candidate_since = $2 WHERE id = $1";
        db.execute(renew, &[&id, &candidate_since]).await?;
        db.execute(heal, &[&digest.as_str(), &size, &bytes.as_ref()]).await?;
        return Ok(Link { id, known: true });
    }
    let insert = "INSERT INTO manifest (digest, size, data) VALUES ($1, $2, $3)
                  ON CONFLICT (digest) DO NOTHING RETURNING id";
    let keep = "SELECT id FROM manifest WHERE digest = $1 FOR KEY SHARE";
    let known: Option<i64> = db.value(keep, &[&digest.as_str()]).await?;
    let manifest = match known {
        Some(id) => {
            db.execute(heal, &[&digest.as_str(), &size, &bytes.as_ref()]).await?;
            id
        }
        None => db
            .value(insert, &[&digest.as_str(), &size, &bytes.as_ref()])
            .await?
            // Somebody else was quicker.
            .ok_or(Failure::Raced)?,
    };
    let insert = "INSERT INTO repository_manifest (repository, manifest, media_type, artifact_type, candidate_since)
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id";
    let media_type = descriptor.media_type.as_str();
    let artifact_type = descriptor.artifact_type.as_deref();
    let id = db
        .value(insert, &[&repository, &manifest, &media_type, &artifact_type, &candidate_since])
        .await?;
    Ok(Link { id: id.ok_or(Failure::Raced)?, known: false })
}

/// Whether a manifest that was there came as the same type.
async fn has_type(db: &Db, link: i64, new: &NewManifest) -> Outcome<bool> {
    let find = "SELECT media_type = $2 FROM repository_manifest WHERE id = $1";
    let media_type = new.manifest.descriptor().media_type.as_str();
    db.value(find, &[&link, &media_type]).await?.ok_or_else(|| absent("manifest"))
}

async fn set_type(db: &Db, link: i64, new: &NewManifest) -> Outcome<()> {
    let descriptor = new.manifest.descriptor();
    let media_type = descriptor.media_type.as_str();
    let artifact_type = descriptor.artifact_type.as_deref();
    let set = "UPDATE repository_manifest SET media_type = $2, artifact_type = $3 WHERE id = $1";
    db.execute(set, &[&link, &media_type, &artifact_type]).await?;
    Ok(())
}

/// A manifest is a candidate from now on.
async fn renew_link(db: &Db, link: i64, now: i64) -> Outcome<()> {
    let renew = "UPDATE repository_manifest SET candidate_since = $2 WHERE id = $1";
    db.execute(renew, &[&link, &now]).await?;
    Ok(())
}

/// Records the references of a manifest that has none, whether or not what they are to is here.
pub(super) async fn record_references(
    db: &Db,
    repository: i64,
    link: i64,
    manifest: &Manifest,
) -> Outcome<()> {
    let blobs = find_blobs(db, repository, manifest).await?;
    add_references(db, repository, link, manifest, &blobs).await
}

async fn add_references(
    db: &Db,
    repository: i64,
    link: i64,
    manifest: &Manifest,
    blobs: &Blobs,
) -> Outcome<()> {
    // The same layer may occur twice.
    if !blobs.here.is_empty() {
        let add = "INSERT INTO manifest_blob (parent, repository, blob)
                   SELECT DISTINCT $1::bigint, $2::bigint, blob FROM unnest($3::bigint[]) AS here (blob)";
        db.execute(add, &[&link, &repository, &blobs.here]).await?;
    }
    if !blobs.missing.is_empty() {
        let add = "INSERT INTO missing_blob (parent, repository, digest)
                   SELECT DISTINCT $1::bigint, $2::bigint, digest FROM unnest($3::text[]) AS missing (digest)";
        db.execute(add, &[&link, &repository, &blobs.missing]).await?;
    }
    let children: Vec<&str> = manifest
        .references()
        .filter(|it| it.form == Form::Either)
        .map(|it| it.digest.as_str())
        .collect();
    if !children.is_empty() {
        let add = "INSERT INTO manifest_child (parent, repository, child)
                   SELECT DISTINCT $1::bigint, $2::bigint, child FROM unnest($3::text[]) AS below (child)";
        db.execute(add, &[&link, &repository, &children]).await?;
    }
    if let (Some(subject), Some(referrer)) = (manifest.subject(), manifest.as_referrer()) {
        let (subject, digest) = (subject.digest.as_str(), manifest.digest().as_str());
        let artifact_type = referrer.artifact_type.clone();
        let write = move || {
            serde_json::to_string(&referrer)
                .map_err(|error| columns::corrupt("the descriptor of a referrer", &error))
        };
        let json = apart(manifest.bytes().len(), write).await?;
        db.execute(
            "INSERT INTO referrer (repository, subject, digest, artifact_type, manifest, descriptor)
             VALUES ($1, $2, $3, $4, $5, $6)",
            &[&repository, &subject, &digest, &artifact_type, &link, &json],
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn delete_tag(db: &Db, name: &Name, tag: &Tag, now: i64) -> Outcome<()> {
    let delete = "DELETE FROM tag USING repository
                  WHERE repository.id = tag.repository AND repository.name = $1 AND tag.name = $2
                  RETURNING tag.manifest";
    match db.value(delete, &[&name.as_str(), &tag.as_str()]).await? {
        Some(link) => renew_link(db, link, now).await,
        None => Err(refusals::unknown_tag(name, tag).into()),
    }
}

pub(super) async fn renew(db: &Db, name: &Name, digest: &Digest, now: i64) -> Outcome<bool> {
    let Some(repository) = rows::repository(db, name).await? else { return Ok(false) };
    let Some(link) = rows::linked_manifest(db, repository, digest).await? else {
        return Ok(false);
    };
    renew_link(db, link, now).await?;
    Ok(true)
}
