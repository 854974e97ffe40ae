//! Referrers: end-12.
//!
//! The list is what the engine knows, followed by what only a referrers tag names: clients of registries without this
//! API keep an index under such a tag, and it counts as far as its manifests are here and do have
//! this subject. An engine that lists all that it has by itself is not asked for the tag.

use std::collections::HashSet;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use oci_ref::{Access, Cursor, Store, Target, apart};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Name, Tag};

use crate::app::Call;
use crate::error::Failure;
use crate::{Operation, lists, respond};

/// How many entries are asked of the engine at a time.
const BATCH: usize = 100;

/// The most times that the engine is asked for one page, and entries of a referrers tag are looked
/// at: what is found then is the page, however little it is, so that no request costs more than
/// others.
const MOST_ASKED: usize = 10;

/// The most artifact types that are asked for at a time.
const MAX_TYPES: usize = 32;

/// The size from which on a page takes no more entries, in bytes: entries carry annotations, and clients take 4 MiB.
const MAX_BODY: usize = 3 << 20;

/// The parameter that says from which entry of the referrers tag to go on.
const FALLBACK: &str = "fallback";

const INDEX: HeaderValue = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");

pub(crate) async fn list(
    call: &Call<'_>,
    name: &Name,
    subject: &Digest,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::ListReferrers(subject)).await?;
    let filter = Filter::of(call)?;
    let mut after = lists::cursor::<Digest>(call, ErrorCode::DigestInvalid)?;
    let fallback = call.query.count(FALLBACK)?;
    let mut page = Page::new(lists::limit(call)?.max(1));
    let store = match call.store(name, Access::Read).await {
        Ok(store) => store,
        // spec: R50
        Err(failure) if failure.code == ErrorCode::NameUnknown => return Ok(page.answer(&filter)),
        Err(failure) => return Err(failure),
    };
    let mut next = None;
    if fallback.is_none() {
        next = page.fill(&*store, subject, &filter, &mut after).await?.map(Next::Engine);
    }
    if next.is_none() && !store.capabilities().referrers {
        let from = fallback.unwrap_or(0);
        next = page.fill_from_tag(&*store, subject, &filter, from).await?.map(Next::Fallback);
    }
    let mut response = page.answer(&filter);
    // spec: R58
    let path = format!("{name}/referrers/{subject}");
    let types = call.query.all("artifactType").map(|value| ("artifactType", value));
    let mut parameters: Vec<_> = types.collect();
    match &next {
        None => return Ok(response),
        Some(Next::Engine(Cursor::After(digest))) => parameters.push(("last", digest)),
        Some(Next::Engine(Cursor::Opaque(position))) => parameters.push(("next", position)),
        Some(Next::Fallback(position)) => {
            let position = position.to_string();
            parameters.push((FALLBACK, &position));
            lists::link_to(call, &mut response, &path, &parameters);
            return Ok(response);
        }
    }
    lists::link_to(call, &mut response, &path, &parameters);
    Ok(response)
}

/// Where the list goes on: in the engine's, or in the referrers tag's index.
enum Next {
    Engine(Cursor),
    Fallback(usize),
}

/// The artifact types that are asked for: one, or several separated by commas. `""` is an entry that has none.
struct Filter<'a>(Vec<&'a str>);

impl<'a> Filter<'a> {
    fn of(call: &'a Call<'_>) -> Result<Self, Failure> {
        let values = call.query.all("artifactType").flat_map(|value| value.split(','));
        let mut types: Vec<&str> = values.map(str::trim).collect();
        types.sort_unstable();
        types.dedup();
        match types.len() {
            0..=MAX_TYPES => Ok(Self(types)),
            more => Err(Failure::bad_request(format!(
                "{more} artifact types in one request, expected at most {MAX_TYPES}"
            ))),
        }
    }

    fn takes(&self, descriptor: &Descriptor) -> bool {
        let found = descriptor.artifact_type.as_deref().unwrap_or_default();
        self.0.is_empty() || self.0.contains(&found)
    }
}

/// A page in the making: an index, as JSON.
#[derive(Default)]
struct Page {
    body: Vec<u8>,
    entries: usize,
    limit: usize,
}

impl Page {
    fn new(limit: usize) -> Self {
        // spec: R52
        let head = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
        Self { body: head.into(), entries: 0, limit }
    }

    /// Adds an entry, unless the page is full. It holds one, however large that is.
    fn push(&mut self, descriptor: &Descriptor) -> bool {
        let entry = respond::json(descriptor);
        let full = self.body.len().saturating_add(entry.len()) > MAX_BODY;
        if self.entries == self.limit || self.entries > 0 && full {
            return false;
        }
        if self.entries > 0 {
            self.body.push(b',');
        }
        self.body.extend_from_slice(&entry);
        self.entries += 1;
        true
    }

    /// Adds entries until the page is full, and tells how many it has taken.
    async fn add(&mut self, entries: Vec<Descriptor>) -> Result<usize, Failure> {
        let texts = entries.iter().flat_map(|entry| &entry.annotations);
        let length = texts.map(|(key, value)| key.len() + value.len()).sum();
        let mut page = std::mem::take(self);
        let add = move || {
            let taken = entries.iter().take_while(|entry| page.push(entry)).count();
            Ok((page, taken))
        };
        let (page, taken) = apart(length, add).await?;
        *self = page;
        Ok(taken)
    }

    /// Takes what the engine lists. Gives where to go on if not all of it fits, or there is much to
    /// look through.
    async fn fill(
        &mut self,
        store: &dyn Store,
        subject: &Digest,
        filter: &Filter<'_>,
        after: &mut Option<Cursor>,
    ) -> Result<Option<Cursor>, Failure> {
        for _ in 0..MOST_ASKED {
            if self.entries == self.limit {
                break;
            }
            let count = BATCH.min(self.limit - self.entries);
            let ask = |count| store.referrers_of_types(subject, &filter.0, after.as_ref(), count);
            let mut listed = ask(count).await?;
            let wanted = |entry: &Descriptor| listed.filtered || filter.takes(entry);
            let places = listed.page.items.iter().enumerate();
            let places = places.filter(|(_, entry)| wanted(entry)).map(|(place, _)| place);
            let places: Vec<usize> = places.collect();
            if !listed.filtered {
                listed.page.items.retain(|entry| filter.takes(entry));
            }
            let taken = self.add(listed.page.items).await?;
            match places.get(taken) {
                // Not even the next one fits.
                Some(0) => return Ok(after.take()),
                // Only the engine knows how its list goes on from here.
                Some(&place) => return Ok(ask(place).await?.page.next),
                None => *after = listed.page.next,
            }
            if after.is_none() {
                return Ok(None);
            }
        }
        Ok(after.take())
    }

    /// Takes what only the referrers tag names, from an entry of its index on. Gives where to go on if not all of it
    /// fits.
    async fn fill_from_tag(
        &mut self,
        store: &dyn Store,
        subject: &Digest,
        filter: &Filter<'_>,
        from: usize,
    ) -> Result<Option<usize>, Failure> {
        // spec: R67
        let tagged = match store.manifest(&Target::Tag(Tag::of_referrers(subject))).await {
            Ok(tagged) => tagged,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if tagged.manifests().is_empty() {
            return Ok(None);
        }
        let mut seen = listed_by_engine(store, subject).await?;
        let mut looked = 0;
        for (position, entry) in tagged.manifests().iter().enumerate() {
            if !seen.insert(entry.digest.clone()) || position < from {
                continue;
            }
            if looked == MOST_ASKED {
                return Ok(Some(position));
            }
            looked += 1;
            let manifest = match store.manifest(&Target::Digest(entry.digest.clone())).await {
                Ok(manifest) => manifest,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let about = manifest.subject().is_some_and(|found| found.digest == *subject);
            let Some(referrer) =
                manifest.as_referrer().filter(|found| about && filter.takes(found))
            else {
                continue;
            };
            if self.add(vec![referrer]).await? == 0 {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    fn answer(mut self, filter: &Filter<'_>) -> Response {
        self.body.extend_from_slice(b"]}");
        let mut response = respond::document(INDEX, Bytes::from(self.body));
        if !filter.0.is_empty() {
            // spec: R59, R60
            let applied = HeaderValue::from_static("artifactType");
            response.headers_mut().insert(respond::FILTERS_APPLIED, applied);
        }
        response
    }
}

/// The digests of what the engine lists: all of it, unless it is very much. Then some may be listed
/// twice.
async fn listed_by_engine(store: &dyn Store, subject: &Digest) -> Result<HashSet<Digest>, Failure> {
    let mut digests = HashSet::new();
    let mut after = None;
    for _ in 0..MOST_ASKED {
        let page = store.referrers(subject, None, after.as_ref(), BATCH).await?.page;
        digests.extend(page.items.into_iter().map(|entry| entry.digest));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(digests)
}
