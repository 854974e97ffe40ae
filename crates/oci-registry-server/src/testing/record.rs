//! Every request passes here: it is recorded, meets its faults, and has to show its credentials.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method};

use super::rule::Script;
use super::token::{Credentials, Gate};
use super::{Endpoint, Fault, FaultRule, apply};
use crate::ServerOptions;
use crate::body::RequestBody;
use crate::budget::Budget;
use crate::error::Failure;

/// The most bytes of a form that asks for a token.
const MAX_FORM: u64 = 64 << 10;

/// A request that a [`TestRegistry`](crate::TestRegistry) has got.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// What it asks for.
    pub endpoint: Endpoint,
    /// The method.
    pub method: Method,
    /// The path, as it was sent.
    pub path: String,
    /// What stands behind the `?`, as it was sent; empty if nothing does.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The credentials that it brought, good or bad.
    pub credentials: Option<Credentials>,
    /// The faults that it met.
    pub faults: Vec<Fault>,
}

/// What a registry has been asked, and what it does about it.
pub(super) struct Recorder {
    log: Mutex<Vec<RecordedRequest>>,
    pub(super) script: Script,
    pub(super) gate: Option<Arc<Gate>>,
}

impl Recorder {
    pub(super) fn new(gate: Option<Arc<Gate>>, rules: Vec<FaultRule>) -> Self {
        let script = Script::default();
        rules.into_iter().for_each(|rule| script.add(rule));
        Self { log: Mutex::default(), script, gate }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Vec<RecordedRequest>> {
        // A list that something was added to is whole at any time.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every request passes here before it is answered: what a test wants to happen to it happens here.
pub(super) async fn record(
    State(recorder): State<Arc<Recorder>>,
    request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let endpoint = Endpoint::of(request.method(), request.uri().path(), &query);
    let mut recorded = RecordedRequest {
        endpoint,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query,
        headers: request.headers().clone(),
        credentials: Credentials::of(request.headers()),
        faults: Vec::new(),
    };
    let (request, form) = match read_form(request, endpoint).await {
        Ok(read) => read,
        Err(failure) => return failure.into_response(),
    };
    if recorded.credentials.is_none() {
        recorded.credentials = Credentials::of_form(&form);
    }
    let credentials = recorded.credentials.clone();
    let faults = recorder.script.faults(&recorded);
    recorded.faults.clone_from(&faults);
    recorder.log().push(recorded);
    let handle = |request: Request| async move {
        let gate = recorder.gate.as_ref();
        match gate.and_then(|gate| gate.answer(&request, endpoint, credentials.as_ref(), &form)) {
            Some(response) => {
                apply::drain(request).await;
                response
            }
            None => next.run(request).await,
        }
    };
    apply::answer(&faults, request, handle).await
}

/// The form of a request for a token; of all others nothing is read.
async fn read_form(request: Request, endpoint: Endpoint) -> Result<(Request, String), Failure> {
    if endpoint != Endpoint::Token || request.method() != Method::POST {
        return Ok((request, String::new()));
    }
    let (parts, body) = request.into_parts();
    let options = ServerOptions::new();
    let mut body = RequestBody::new(body, &parts, &options);
    let (form, _share) = body.bytes(MAX_FORM, &Budget::new(&options)).await?;
    let text = String::from_utf8_lossy(&form.join()).into_owned();
    Ok((Request::from_parts(parts, Body::empty()), text))
}
