//! Lists in pages (distribution-spec, "Listing Tags"), for tags, repositories and referrers alike.

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header;
use oci_ref::{Cursor, ErrorKind, Page};
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::registry::Registry;
use crate::request::Request;
use crate::response::Response;
use crate::{Error, Result, link, location};

/// The most entries asked for in one page. Some registries fail when asked for more.
const MAX_PAGE: usize = 1000;

/// How many pages in a row may be empty before another one.
const MAX_EMPTY: usize = 100;

/// A page that is asked for.
pub(crate) struct PageRequest<'a> {
    /// The address of the list.
    pub(crate) first: Url,
    pub(crate) after: Option<&'a Cursor>,
    pub(crate) limit: usize,
}

/// Where to read a page, and how many of its entries were handed over before.
pub(crate) struct Position {
    pub(crate) url: Url,
    pub(crate) skip: usize,
    /// The entry after which the caller wants to go on.
    pub(crate) after: Option<String>,
}

impl PageRequest<'_> {
    /// A cursor of ours is the address of a page, with the number of entries to skip as its fragment.
    pub(crate) fn position(&self) -> Result<Position> {
        let n = self.limit.min(MAX_PAGE).to_string();
        match self.after {
            None => {
                let url = location::with_query(self.first.clone(), "n", &n);
                Ok(Position { url, skip: 0, after: None })
            }
            Some(Cursor::After(name)) => {
                let url = location::with_query(self.first.clone(), "n", &n);
                let url = location::with_query(url, "last", name);
                Ok(Position { url, skip: 0, after: Some(name.clone()) })
            }
            Some(Cursor::Opaque(cursor)) => {
                let foreign = || {
                    Error::new(ErrorKind::Invalid, "list", "the cursor was given by another source")
                };
                let mut url = Url::parse(cursor).map_err(|_| foreign())?;
                if url.origin() != self.first.origin() {
                    return Err(foreign());
                }
                let skip = url.fragment().map_or(Ok(0), str::parse).map_err(|_| foreign())?;
                url.set_fragment(None);
                Ok(Position { url, skip, after: None })
            }
        }
    }
}

/// The part of a registry's page that was asked for. A registry that gives more than asked is read on from the middle
/// of its page, and of one that does not know `last`, what was seen before is left out. `name` is by what entries are
/// known.
pub(crate) fn cut<T>(
    mut items: Vec<T>,
    position: &Position,
    limit: usize,
    next: Option<Url>,
    name: impl Fn(&T) -> &str,
) -> Page<T> {
    let seen =
        position.after.as_ref().and_then(|after| items.iter().position(|item| name(item) == after));
    let skip = seen.map_or(position.skip, |at| at + 1).min(items.len());
    let mut items = items.split_off(skip);
    if items.len() <= limit {
        return Page { items, next: next.map(|url| Cursor::Opaque(url.into())) };
    }
    items.truncate(limit);
    let mut url = position.url.clone();
    url.set_fragment(Some(&(skip + limit).to_string()));
    Page { items, next: Some(Cursor::Opaque(url.into())) }
}

/// What comes after a name in the whole list of a registry that does not know `last`, and perhaps no order either.
fn after_name<T>(
    mut names: Vec<(Option<T>, String)>,
    after: &str,
    limit: usize,
) -> Page<(Option<T>, String)> {
    names.retain(|(_, name)| name.as_str() > after);
    names.sort_by(|(_, one), (_, other)| one.cmp(other));
    let more = names.len() > limit;
    names.truncate(limit);
    let last = names.last().filter(|_| more).map(|(_, name)| Cursor::After(name.clone()));
    Page { items: names, next: last }
}

/// The address of the page after an answer.
pub(crate) fn next(response: &Response) -> Result<Option<Url>> {
    link::next(response.headers(), response.url())
        .map_err(|reason| response.error(ErrorKind::Internal, reason))
}

/// Reads a page of names. `names` takes them out of the body; those that are `None` are not valid, and left out.
pub(crate) async fn read<'a, B: DeserializeOwned, T>(
    registry: &Registry,
    page: PageRequest<'_>,
    request: impl Fn(Url) -> Request<'a>,
    names: impl Fn(B) -> Vec<(Option<T>, String)>,
) -> Result<Page<T>> {
    if page.limit == 0 {
        return Ok(Page::last(Vec::new()));
    }
    let position = page.position()?;
    let limit = registry.client().config().metadata_limit;
    let (response, body) = registry.read(&request(position.url.clone()), limit).await?;
    let next = next(&response)?;
    let body: B = serde_json::from_slice(&body).map_err(|error| {
        let reason = format!("the list is not understood: {error}");
        response.error_from(ErrorKind::Internal, reason, error)
    })?;
    let names = names(body);
    let page = match &position.after {
        Some(after) if next.is_none() && names.iter().any(|(_, name)| name == after) => {
            after_name(names, after, page.limit)
        }
        _ => cut(names, &position, page.limit, next, |(_, name)| name),
    };
    Ok(Page {
        items: page.items.into_iter().filter_map(|(item, _)| item).collect(),
        next: page.next,
    })
}

/// All entries of a list, page by page. It ends after an error, and so does a list of pages with nothing in them.
pub(crate) fn stream<T, F>(
    after: Option<Cursor>,
    mut read: impl FnMut(Option<Cursor>) -> F + Send + 'static,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<Page<T>>> + Send + 'static,
{
    let pages = stream::try_unfold((Some(after), 0), move |(next, empty)| {
        let page = next.map(&mut read);
        async move {
            let Some(page) = page else { return Ok::<_, Error>(None) };
            let page = page.await?;
            let empty = if page.items.is_empty() { empty + 1 } else { 0 };
            if empty > MAX_EMPTY && page.next.is_some() {
                let reason = format!("{empty} pages in a row have nothing in them");
                return Err(Error::new(ErrorKind::Internal, "list", reason));
            }
            let items = stream::iter(page.items.into_iter().map(Ok));
            Ok(Some((items, (page.next.map(Some), empty))))
        }
    });
    pages.try_flatten().boxed()
}

/// Whether a list says that it has been filtered by artifact type.
pub(crate) fn is_filtered(response: &Response) -> bool {
    let values = response.headers().get_all("OCI-Filters-Applied").iter();
    let mut filters =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    filters.any(|filter| filter.trim() == "artifactType")
}

/// The media type of an answer, without parameters.
pub(crate) fn media_type(response: &Response) -> Option<oci_spec_types::MediaType> {
    oci_spec_types::MediaType::from_content_type(response.header(header::CONTENT_TYPE)?)
}
