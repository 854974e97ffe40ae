//! Lists, a page at a time. A page is read whole, so that no reader holds a snapshot for a slow client, and it costs the
//! same wherever it begins.

use oci_ref::{Cursor, Page};
use oci_spec_types::{Descriptor, Digest, Name, Tag};
use rusqlite::Connection;

use super::failure::Outcome;
use super::rows;
use crate::metadata::columns;

/// A page of referrers ends after so many bytes, since annotations can be long.
const REFERRERS_BYTES: usize = 4 << 20;

pub(super) fn has_repository(db: &Connection, name: &Name) -> Outcome<bool> {
    Ok(rows::repository(db, name)?.is_some())
}

pub(super) fn catalog(db: &Connection, after: Option<&str>, limit: usize) -> Outcome<Page<Name>> {
    // No name is as small as the empty text.
    let mut list =
        db.prepare_cached("SELECT name FROM repository WHERE name > ?1 ORDER BY name LIMIT ?2")?;
    let found = list.query_map((after.unwrap_or_default(), columns::one_more(limit)), |row| {
        row.get::<_, String>(0)
    })?;
    let names = found.map(|name| Ok(columns::parse("a repository name", &name?)?));
    columns::page(names, limit, Name::as_str)
}

pub(super) fn holders(db: &Connection, digest: &Digest, limit: usize) -> Outcome<Vec<Name>> {
    let mut list = db.prepare_cached(
        "SELECT repository.name FROM blob
         JOIN repository_blob ON repository_blob.blob = blob.id
         JOIN repository ON repository.id = repository_blob.repository
         WHERE blob.digest = ?1 LIMIT ?2",
    )?;
    let values = (digest.as_str(), columns::stored_limit(limit));
    let found = list.query_map(values, |row| row.get::<_, String>(0))?;
    found.map(|name| Ok(columns::parse("a repository name", &name?)?)).collect()
}

pub(super) fn tags(
    db: &Connection,
    repository: &Name,
    after: Option<&str>,
    limit: usize,
) -> Outcome<Page<Tag>> {
    let mut list = db.prepare_cached(
        "SELECT tag.name FROM tag JOIN repository ON repository.id = tag.repository
         WHERE repository.name = ?1 AND tag.name > ?2 ORDER BY tag.name LIMIT ?3",
    )?;
    let values = (repository.as_str(), after.unwrap_or_default(), columns::one_more(limit));
    let found = list.query_map(values, |row| row.get::<_, String>(0))?;
    let tags = found.map(|tag| Ok(columns::parse("a tag", &tag?)?));
    columns::page(tags, limit, Tag::as_str)
}

/// Which referrers are asked for.
pub(super) struct Wanted {
    pub(super) repository: Name,
    pub(super) subject: Digest,
    pub(super) artifact_type: Option<String>,
}

pub(super) fn referrers(
    db: &Connection,
    wanted: &Wanted,
    after: Option<&str>,
    limit: usize,
) -> Outcome<Page<Descriptor>> {
    // Left to itself, SQLite would read all types to find those of one.
    let (index, filter) = match wanted.artifact_type {
        Some(_) => ("INDEXED BY referrer_by_type", "referrer.artifact_type = ?5"),
        None => ("", "?5 IS NULL"),
    };
    let mut list = db.prepare_cached(&format!(
        "SELECT referrer.descriptor FROM repository JOIN referrer {index} ON referrer.repository = repository.id
         WHERE repository.name = ?1 AND referrer.subject = ?2 AND referrer.digest > ?3 AND {filter}
         ORDER BY referrer.digest LIMIT ?4"
    ))?;
    let values = (
        wanted.repository.as_str(),
        wanted.subject.as_str(),
        after.unwrap_or_default(),
        columns::one_more(limit),
        wanted.artifact_type.as_deref(),
    );
    let mut found = list.query(values)?;
    let (mut items, mut bytes) = (Vec::<Descriptor>::new(), 0);
    while let Some(row) = found.next()? {
        // The one that tells that there are more is not read.
        let full = items.len() == limit;
        let json: String = if full { String::new() } else { row.get(0)? };
        bytes += json.len();
        if full || (bytes > REFERRERS_BYTES && !items.is_empty()) {
            let next = items.last().map(|last| Cursor::After(last.digest.to_string()));
            return Ok(Page { items, next });
        }
        items.push(
            serde_json::from_str(&json)
                .map_err(|_| columns::corrupt("the descriptor of a referrer", &json))?,
        );
    }
    Ok(Page::last(items))
}
