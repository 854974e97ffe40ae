//! What happens to a request and its answer: the one place where faults are applied.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use oci_spec_types::Digest;

use super::body::{BodyPlan, FaultyBody};
use super::fault::{BreakAt, Fault, Form, Kind};
use super::line::{End, Line};
use crate::body::RequestBody;
use crate::error::Failure;
use crate::{ServerOptions, respond};

/// Answers a request to which these faults happen. `handle` carries it out.
pub(super) async fn answer<F>(
    faults: &[Fault],
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    if faults.is_empty() {
        return handle(request).await;
    }
    let line = request.extensions().get::<Line>().cloned().unwrap_or_default();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    for fault in faults {
        if let Kind::Latency(time) = fault.0 {
            tokio::time::sleep(time).await;
        }
    }
    if let Some(end) = breaks(faults, BreakAt::Request) {
        if end == End::Close {
            // What nobody has read would make a reset of it.
            drain(request).await;
        }
        line.end(end);
        return Response::default();
    }
    let path_and_query = uri.path_and_query().map_or("/", |both| both.as_str());
    let mut response = match faults.iter().find_map(|fault| fault.answer(path_and_query)) {
        Some(answer) => {
            drain(request).await;
            answer.into_response()
        }
        None => handle(faults.iter().fold(request, change_request)).await,
    };
    if let Some(end) = breaks(faults, BreakAt::Answer) {
        line.end(end);
        return response;
    }
    for fault in faults {
        change_headers(fault, response.headers_mut(), uri.path());
        if let Kind::Status(status) = fault.0
            && response.status().is_success()
        {
            *response.status_mut() = status;
        }
        if fault.0 == Kind::NullLists {
            response = null_lists(response).await;
        }
    }
    let mut plan = BodyPlan::default();
    faults.iter().for_each(|fault| fault.plan(&mut plan));
    change_body(response, &plan, &method, line)
}

fn breaks(faults: &[Fault], here: BreakAt) -> Option<End> {
    faults.iter().find_map(|fault| match fault.0 {
        Kind::Break(at, end) if at == here => Some(end),
        _ => None,
    })
}

/// Reads what the client sends, within bounds, so that it comes to read the answer.
pub(super) async fn drain(request: Request) {
    let (parts, body) = request.into_parts();
    RequestBody::new(body, &parts, &ServerOptions::new()).drain().await;
}

fn change_request(mut request: Request, fault: &Fault) -> Request {
    match fault.0 {
        Kind::WholeForRange => {
            request.headers_mut().remove(RANGE);
        }
        Kind::NoMount => {
            let query = request.uri().query().unwrap_or_default();
            let kept = query.split('&').filter(|pair| {
                let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
                name != "mount" && name != "from"
            });
            let kept = kept.collect::<Vec<_>>().join("&");
            let changed = format!("{}?{kept}", request.uri().path());
            if let Ok(uri) = changed.parse() {
                *request.uri_mut() = uri;
            }
        }
        _ => {}
    }
    request
}

fn change_headers(fault: &Fault, headers: &mut HeaderMap, path: &str) {
    match &fault.0 {
        Kind::Header(name, value) => {
            headers.insert(name, value.clone());
        }
        Kind::NoHeader(name) => {
            headers.remove(name);
        }
        Kind::WrongDigest => respond::set_digest(headers, &Digest::sha256(b"something else")),
        Kind::WrongContentRange => {
            if let Some(shifted) = headers.get(CONTENT_RANGE).and_then(shifted) {
                headers.insert(CONTENT_RANGE, shifted);
            }
        }
        Kind::Location(form) => {
            let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.and_then(|location| location.parse::<Uri>().ok());
            if let Some(location) = location {
                let changed = form.write(&location, path);
                headers.insert(LOCATION, respond::value(&changed));
            }
        }
        _ => {}
    }
}

/// `bytes 2-5/10` becomes `bytes 3-6/10`.
fn shifted(value: &HeaderValue) -> Option<HeaderValue> {
    let range = value.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, size) = range.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let (first, last) = (first.checked_add(1)?, last.checked_add(1)?);
    Some(respond::value(&format!("bytes {first}-{last}/{size}")))
}

impl Form {
    fn write(&self, location: &Uri, path: &str) -> String {
        let both = location.path_and_query().map_or("/", |both| both.as_str());
        match self {
            Self::Relative => {
                let query = location.query().map(|query| format!("?{query}"));
                relative(path, location.path()) + &query.unwrap_or_default()
            }
            Self::On(base) => format!("{}{both}", base.trim_end_matches('/')),
            Self::Query(query) => {
                let separator = if location.query().is_some() { '&' } else { '?' };
                format!("{location}{separator}{query}")
            }
        }
    }
}

/// A path as it is seen from another one (RFC 3986, 4.2).
fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let (from_dirs, to_dirs) = (&from[..from.len() - 1], &to[..to.len() - 1]);
    let common = from_dirs.iter().zip(to_dirs).take_while(|(a, b)| a == b).count();
    let up = from_dirs.len() - common;
    // Without the dot a colon would end a scheme.
    let start = if up == 0 { "./".to_owned() } else { "../".repeat(up) };
    let rest = to[common..].join("/");
    if up == 0 && !rest.contains(':') && !rest.is_empty() { rest } else { start + &rest }
}

/// Makes the lists of a JSON object `null`. Other answers stay as they are.
async fn null_lists(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be read");
            return Failure::internal(&error).into_response();
        }
    };
    let mut object: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(&body)
    {
        Ok(object) => object,
        Err(_) => return Response::from_parts(head, Body::from(body)),
    };
    for value in object.values_mut().filter(|value| value.is_array()) {
        *value = serde_json::Value::Null;
    }
    let changed = respond::json(&object);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
    Response::from_parts(head, Body::from(changed))
}

fn change_body(response: Response, plan: &BodyPlan, method: &Method, line: Line) -> Response {
    if *plan == BodyPlan::default() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let bodiless = head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED
        || method == Method::HEAD;
    if bodiless {
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(plan.declared(length)));
        }
        if let Some((_, end)) = plan.end {
            line.end_after(end);
        }
        return Response::from_parts(head, body);
    }
    let Some(length) = body.size_hint().exact() else {
        // All of the registry's bodies have a length.
        return Response::from_parts(head, body);
    };
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(plan.declared(length)));
    let body = FaultyBody::new(body, length, plan, line);
    Response::from_parts(head, Body::new(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn relative_locations() {
        let uploads = "/v2/a/blobs/uploads/";
        let cases = [
            (uploads, "/v2/a/blobs/uploads/1", "1"),
            ("/v2/a/blobs/uploads/1", "/v2/a/blobs/uploads/1", "1"),
            ("/v2/a/blobs/uploads/1", "/v2/a/blobs/sha256:00", "../sha256:00"),
            ("/v2/a/manifests/v1", "/v2/a/manifests/sha256:00", "./sha256:00"),
            ("/v2/a/blobs/uploads", "/v2/a/blobs/uploads/1", "uploads/1"),
            (uploads, uploads, "./"),
            ("/x", "/v2/a", "v2/a"),
        ];
        for (from, to, expected) in cases {
            assert_eq!(relative(from, to), expected, "{to} from {from}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_before_the_request_is_carried_out() {
        let start = Instant::now();
        let faults = [Fault::latency(Duration::from_secs(3600))];
        let request = Request::new(Body::empty());
        let handle = |_| async move {
            assert_eq!(start.elapsed().as_secs(), 3600);
            Response::default()
        };
        assert_eq!(answer(&faults, request, handle).await.status(), 200);
        assert_eq!(start.elapsed().as_secs(), 3600);
    }
}
