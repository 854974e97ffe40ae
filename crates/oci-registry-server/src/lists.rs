//! `/v2/` itself, and the lists of tags and repositories: end-1, end-8 and the catalogue.

use std::fmt::Write as _;
use std::str::FromStr;

use axum::response::Response;
use bytes::Bytes;
use http::header::LINK;
use oci_ref::{Access, Cursor, Page};
use oci_spec_types::{ErrorCode, Name, Tag};
use serde::Serialize;

use crate::app::Call;
use crate::error::Failure;
use crate::{Operation, percent, respond};

pub(crate) async fn ping(call: &Call<'_>) -> Result<Response, Failure> {
    call.allow(None, Operation::Ping).await?;
    Ok(respond::document(respond::JSON, Bytes::from_static(b"{}")))
}

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

pub(crate) async fn tags(call: &Call<'_>, name: &Name) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::ListTags).await?;
    let after = cursor::<Tag>(call, ErrorCode::ManifestInvalid)?;
    let limit = limit(call)?;
    let store = call.store(name, Access::Read).await?;
    // spec: R48
    let page = match limit {
        0 => Page::last(Vec::new()),
        _ => store.tags(after.as_ref(), limit).await?,
    };
    // spec: R44, R45
    let body = respond::json(&TagList {
        name: name.as_str(),
        tags: page.items.iter().map(Tag::as_str).collect(),
    });
    let mut response = respond::document(respond::JSON, body);
    link(call, &mut response, &format!("{name}/tags/list"), page.next.as_ref());
    Ok(response)
}

#[derive(Serialize)]
struct Catalog<'a> {
    repositories: Vec<&'a str>,
}

pub(crate) async fn catalog(call: &Call<'_>) -> Result<Response, Failure> {
    call.allow(None, Operation::Catalog).await?;
    let after = cursor::<Name>(call, ErrorCode::NameInvalid)?;
    let page = match limit(call)? {
        0 => Page::last(Vec::new()),
        limit => call.app.registry.catalog(after.as_ref(), limit).await?,
    };
    let body =
        respond::json(&Catalog { repositories: page.items.iter().map(Name::as_str).collect() });
    let mut response = respond::document(respond::JSON, body);
    link(call, &mut response, "_catalog", page.next.as_ref());
    Ok(response)
}

/// How many entries an answer has at most: what is asked for, within what is configured.
pub(crate) fn limit(call: &Call<'_>) -> Result<usize, Failure> {
    let most = call.app.options.max_page;
    Ok(call.query.count("n")?.map_or(most, |n| n.min(most)))
}

/// Where the list goes on. `last` is an entry's own name; `next` is a position that only the engine understands.
pub(crate) fn cursor<T: FromStr<Err: std::fmt::Display>>(
    call: &Call<'_>,
    code: ErrorCode,
) -> Result<Option<Cursor>, Failure> {
    if let Some(position) = call.query.one("next")? {
        return Ok(Some(Cursor::Opaque(position.to_owned())));
    }
    // Clients are known that begin with an empty one.
    let Some(last) = call.query.one("last")?.filter(|last| !last.is_empty()) else {
        return Ok(None);
    };
    // spec: R49
    match last.parse::<T>() {
        Ok(_) => Ok(Some(Cursor::After(last.to_owned()))),
        Err(error) => Err(Failure::new(code, format!("last: {error}"))),
    }
}

/// Says where the next page is, if there is one.
pub(crate) fn link(call: &Call<'_>, response: &mut Response, path: &str, next: Option<&Cursor>) {
    let (parameter, position) = match next {
        None => return,
        Some(Cursor::After(name)) => ("last", name),
        Some(Cursor::Opaque(position)) => ("next", position),
    };
    link_to(call, response, path, &[(parameter, position)]);
}

/// Says where the next page is: below `/v2/`, with these parameters, and `n` as the request has it.
pub(crate) fn link_to(
    call: &Call<'_>,
    response: &mut Response,
    path: &str,
    parameters: &[(&str, &str)],
) {
    let mut target = format!("{}/v2/{path}", call.base());
    let mut separator = '?';
    let n = call.query.all("n").map(|n| ("n", n));
    for (name, value) in n.chain(parameters.iter().copied()) {
        write!(target, "{separator}{name}=").expect("writing to a String does not fail");
        percent::encode(&mut target, value);
        separator = '&';
    }
    // spec: R47
    let link = respond::value(&format!("<{target}>; rel=\"next\""));
    response.headers_mut().insert(LINK, link);
}
