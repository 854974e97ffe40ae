//! Lists, a page at a time. A page is read whole, so that no connection is held for a slow client, and it costs the same
//! wherever it begins, and however much comes after it: the page is taken from one index, and joined to nothing before it is
//! cut off, since PostgreSQL might read all there is then to sort it.

use oci_ref::{Cursor, Page, apart};
use oci_spec_types::{Descriptor, Digest, Name, Tag};

use super::failure::Outcome;
use super::rows;
use super::run::{Db, get};
use crate::metadata::columns;

/// A page of referrers ends after so many bytes, since annotations can be long.
const REFERRERS_BYTES: i64 = 4 << 20;

/// Where a list goes on. No text here has a NUL, and none can be asked for: what comes after one that has it is what comes after
/// its part before that.
fn position(after: Option<&str>) -> &str {
    after.unwrap_or_default().split('\0').next().unwrap_or_default()
}

pub(super) async fn has_repository(db: &Db, name: &Name) -> Outcome<bool> {
    Ok(rows::repository(db, name).await?.is_some())
}

pub(super) async fn catalog(db: &Db, after: Option<&str>, limit: usize) -> Outcome<Page<Name>> {
    // No name is as small as the empty text.
    let list = "SELECT name FROM repository WHERE name > $1 ORDER BY name LIMIT $2";
    let found = db.rows(list, &[&position(after), &columns::one_more(limit)]).await?;
    let names = found.iter().map(|row| Ok(columns::parse("a repository name", get(row, 0)?)?));
    columns::page(names, limit, Name::as_str)
}

pub(super) async fn holders(db: &Db, digest: &Digest, limit: usize) -> Outcome<Vec<Name>> {
    let list = "SELECT repository.name FROM blob
                JOIN repository_blob ON repository_blob.blob = blob.id
                JOIN repository ON repository.id = repository_blob.repository
                WHERE blob.digest = $1 LIMIT $2";
    let found = db.rows(list, &[&digest.as_str(), &columns::stored_limit(limit)]).await?;
    found.iter().map(|row| Ok(columns::parse("a repository name", get(row, 0)?)?)).collect()
}

pub(super) async fn tags(
    db: &Db,
    repository: &Name,
    after: Option<&str>,
    limit: usize,
) -> Outcome<Page<Tag>> {
    let list = "SELECT page.name FROM repository CROSS JOIN LATERAL (
                    SELECT tag.name FROM tag WHERE tag.repository = repository.id AND tag.name > $2
                    ORDER BY tag.name LIMIT $3) AS page
                WHERE repository.name = $1 ORDER BY page.name";
    let after = position(after);
    let found = db.rows(list, &[&repository.as_str(), &after, &columns::one_more(limit)]).await?;
    let tags = found.iter().map(|row| Ok(columns::parse("a tag", get(row, 0)?)?));
    columns::page(tags, limit, Tag::as_str)
}

pub(super) async fn referrers(
    db: &Db,
    repository: &Name,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Outcome<Page<Descriptor>> {
    if artifact_type.is_some_and(|wanted| wanted.contains('\0')) {
        return Ok(Page::last(Vec::new()));
    }
    let filter = match artifact_type {
        Some(_) => "md5(artifact_type) = md5($5) AND artifact_type = $5",
        None => "$5::text IS NULL",
    };
    // The first is given however long it is.
    let list = format!(
        "SELECT descriptor, total FROM (
             SELECT digest, descriptor, count(*) OVER () AS total,
                    sum(octet_length(descriptor)) OVER (ORDER BY digest) AS bytes,
                    row_number() OVER (ORDER BY digest) AS number
             FROM repository CROSS JOIN LATERAL (
                 SELECT digest, descriptor FROM referrer
                 WHERE referrer.repository = repository.id AND subject = $2 AND digest > $3 AND {filter}
                 ORDER BY digest LIMIT $4) AS page
             WHERE repository.name = $1) AS sized
         WHERE number <= $4 - 1 AND (bytes <= {REFERRERS_BYTES} OR number = 1)
         ORDER BY digest"
    );
    let after = position(after);
    let (repository, subject) = (repository.as_str(), subject.as_str());
    let values: super::run::Values<'_> =
        &[&repository, &subject, &after, &columns::one_more(limit), &artifact_type];
    let found = db.rows(&list, values).await?;
    let texts = found.iter().map(|row| get(row, 0)).collect::<Outcome<Vec<String>>>()?;
    let length = texts.iter().map(String::len).sum();
    let read = |json: &String| -> oci_ref::Result<Descriptor> {
        serde_json::from_str(json)
            .map_err(|_| columns::corrupt("the descriptor of a referrer", json))
    };
    let items: Vec<Descriptor> = apart(length, move || texts.iter().map(read).collect()).await?;
    let total: i64 = found.first().map_or(Ok(0), |row| get(row, 1))?;
    let last = items.last().filter(|_| total > columns::stored_limit(found.len()));
    let next = last.map(|last| Cursor::After(last.digest.to_string()));
    Ok(Page { items, next })
}
