//! From what both databases store to types, and back.

use std::fmt::Debug;
use std::str::FromStr;

use oci_ref::{Cursor, Error, ErrorKind, Page, Result};
use oci_spec_types::MediaType;

use super::Content;
use crate::objects::ObjectKey;

/// A text that was stored as a type.
pub(super) fn parse<T: FromStr>(what: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt(what, &text))
}

/// A media type that was stored, as it was written.
pub(super) fn media_type(text: &str) -> Result<MediaType> {
    MediaType::as_written(text.to_owned()).map_err(|_| corrupt("a media type", &text))
}

/// The statement that lists manifests whose types were not known when there were references only of
/// known types, in both dialects: their ids after the first parameter, their digests, media types,
/// sizes and bytes; no more than the second parameter.
pub(super) fn unknown_manifests() -> String {
    const KNOWN: [MediaType; 5] = [
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::OCI_IMAGE_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_MANIFEST_LIST,
        MediaType::OCI_ARTIFACT_MANIFEST,
    ];
    let known = KNOWN.map(|media_type| format!("'{media_type}'")).join(", ");
    format!(
        "SELECT link.id, manifest.digest, link.media_type, manifest.size, manifest.data
         FROM repository_manifest AS link JOIN manifest ON manifest.id = link.manifest
         WHERE link.id > $1 AND link.media_type NOT IN ({known}) ORDER BY link.id LIMIT $2"
    )
}

/// A size that was stored.
pub(super) fn size(found: i64) -> Result<u64> {
    u64::try_from(found).map_err(|_| corrupt("a size", &found))
}

/// A size as it is stored. No content comes near the limit.
pub(super) fn stored_size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A limit as a statement takes it.
pub(super) fn stored_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// One more than asked for, to see whether there are more.
pub(super) fn one_more(limit: usize) -> i64 {
    stored_limit(limit).saturating_add(1)
}

/// A page of entries, of which there may be [`one_more`] than asked for.
pub(super) fn page<T, E>(
    entries: impl Iterator<Item = std::result::Result<T, E>>,
    limit: usize,
    name: impl Fn(&T) -> &str,
) -> std::result::Result<Page<T>, E> {
    let mut items = entries.collect::<std::result::Result<Vec<T>, E>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|last| Cursor::After(name(last).to_owned()));
    Ok(Page { items, next })
}

/// Where bytes lie, from the columns `object` and `data`.
pub(super) fn content(object: Option<String>, data: Option<Vec<u8>>) -> Result<Content> {
    match (object, data) {
        (Some(key), None) => Ok(Content::Object(object_key(&key)?)),
        (None, Some(data)) => Ok(Content::Inline(data.into())),
        neither => Err(corrupt("a place of content", &neither.0)),
    }
}

/// The columns `object` and `data`.
pub(super) fn place(content: &Content) -> (Option<&str>, Option<&[u8]>) {
    match content {
        Content::Inline(data) => (None, Some(data)),
        Content::Object(key) => (Some(key.as_str()), None),
    }
}

pub(super) fn object_key(text: &str) -> Result<ObjectKey> {
    ObjectKey::parse(text).ok_or_else(|| corrupt("an object key", &text))
}

/// A row that holds what was never written there.
pub(super) fn corrupt(what: &str, found: &dyn Debug) -> Error {
    Error::new(ErrorKind::Internal, format!("metadata database: {found:?} is stored as {what}"))
}
