//! The router: from a request to the one function that answers it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{OriginalUri, Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use oci_ref::{Access, Registry, Store, Target};
use oci_spec_types::{Digest, ErrorCode, Name};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::asked::Asked;
use crate::body::RequestBody;
use crate::budget::Budget;
use crate::error::Failure;
use crate::query::Query;
use crate::route::{Route, RouteError};
use crate::{
    AccessRequest, Decision, Operation, PeerAddr, ServerOptions, blobs, browser, lists, manifests,
    referrers, respond, uploads,
};

/// The distribution API of a registry: everything below `/v2/`.
///
/// The router can be nested under a prefix, merged with others and wrapped into `tower` layers. It limits requests
/// (their bodies' pace and size, their number); slow readers of answers and idle connections are the concern of
/// whoever accepts the connections, such as [`serve`](crate::serve()).
///
/// ```
/// use std::sync::Arc;
/// use oci_registry_server::{MemoryRegistry, ServerOptions, router};
///
/// let registry = Arc::new(MemoryRegistry::new());
/// let app = axum::Router::new().nest("/mirror", router(registry, ServerOptions::new()));
/// # let _: axum::Router = app;
/// ```
pub fn router(registry: Arc<dyn Registry>, options: ServerOptions) -> Router {
    let slots = options.max_requests.map(|count| Arc::new(Semaphore::new(count)));
    let budget = Arc::new(Budget::new(&options));
    let app = Arc::new(App { registry, options, budget, slots });
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(app)
}

/// What every request is answered with.
pub(crate) struct App {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) options: ServerOptions,
    pub(crate) budget: Arc<Budget>,
    slots: Option<Arc<Semaphore>>,
}

/// A request that is being answered. Its body is apart.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    pub(crate) parts: &'a Parts,
    pub(crate) query: Query<'a>,
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::new(body, &parts, &app.options);
    let slot = app.slots.as_ref().map(|slots| slots.clone().try_acquire_owned());
    let answer = match slot {
        Some(Err(_)) => {
            Err(Failure::new(ErrorCode::TooManyRequests, "too many requests at the same time"))
        }
        _ => app.answer(&parts, &mut body).await,
    };
    let mut response = answer.unwrap_or_else(|failure| {
        failure.log(&Asked::of(&parts));
        failure.into_response()
    });
    body.drain().await;
    let status = response.status();
    tracing::debug!(request = %Asked::of(&parts), status = status.as_u16());
    mark(response.headers_mut());
    browser::mark(&parts, &app.options, response.headers_mut());
    match slot {
        Some(Ok(slot)) => response.map(|body| until_sent(body, slot)),
        _ => response,
    }
}

/// Sets the headers that all answers have. Nothing that is pushed may run in a browser as the
/// registry's own page.
pub(crate) fn mark(answer: &mut HeaderMap) {
    const SANDBOX: HeaderValue = HeaderValue::from_static("default-src 'none'; sandbox");
    answer.insert(respond::API_VERSION, HeaderValue::from_static("registry/2.0"));
    answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer.insert(CONTENT_SECURITY_POLICY, SANDBOX);
}

/// A body that occupies a slot until its last byte has been sent, or it is dropped.
fn until_sent(body: Body, slot: OwnedSemaphorePermit) -> Body {
    Body::new(body.map_frame(move |frame: http_body::Frame<Bytes>| {
        // The closure, and the slot with it, lives as long as the body.
        let _ = &slot;
        frame
    }))
}

impl App {
    async fn answer(&self, parts: &Parts, body: &mut RequestBody) -> Result<Response, Failure> {
        browser::check(parts, &self.options)?;
        let route = Route::parse(parts.uri.path())?;
        if let Some(answer) = browser::preflight(parts, &self.options, self.allowed(&route)) {
            return Ok(answer);
        }
        let method = parts.method.as_str();
        let mut answer = if self.allowed(&route).any(|allowed| allowed == method) {
            let query = Query::parse(parts.uri.query())?;
            let call = Call { app: self, parts, query };
            call.dispatch(&route, body).await
        } else {
            let message = format!("{method} is not supported here");
            Err(Failure::new(ErrorCode::Unsupported, message))
        };
        if let Err(failure) = &mut answer
            && failure.status == StatusCode::METHOD_NOT_ALLOWED
        {
            // What an engine cannot do is not allowed here either, whatever else is.
            let allowed = self.allowed(&route).filter(|allowed| *allowed != method);
            let allowed = allowed.collect::<Vec<_>>().join(", ");
            failure.headers.push((ALLOW, respond::value(&allowed)));
        }
        answer
    }

    /// The methods that a path takes, as this registry is configured.
    fn allowed(&self, route: &Route) -> impl Iterator<Item = &'static str> {
        let options = &self.options;
        let uploads = matches!(route, Route::Uploads(_) | Route::Upload(..));
        let closed = uploads && options.read_only || *route == Route::Catalog && !options.catalog;
        let (read_only, deletes) = (options.read_only, options.deletes || uploads);
        route.methods().iter().copied().filter(move |method| {
            !closed
                && (!read_only || matches!(*method, "GET" | "HEAD"))
                && (deletes || *method != "DELETE")
        })
    }
}

impl Call<'_> {
    async fn dispatch(&self, route: &Route, body: &mut RequestBody) -> Result<Response, Failure> {
        match (route, &self.parts.method) {
            (Route::Ping, _) => lists::ping(self).await,
            (Route::Catalog, _) => lists::catalog(self).await,
            (Route::Tags(name), _) => lists::tags(self, name).await,
            (Route::Referrers(name, subject), _) => referrers::list(self, name, subject).await,
            (Route::Manifest(name, target), &Method::PUT) => {
                manifests::put(self, name, target, body).await
            }
            (Route::Manifest(name, Target::Tag(tag)), &Method::DELETE) => {
                manifests::delete_tag(self, name, tag).await
            }
            (Route::Manifest(name, Target::Digest(digest)), &Method::DELETE) => {
                manifests::delete(self, name, digest).await
            }
            (Route::Manifest(name, target), _) => manifests::get(self, name, target).await,
            (Route::Blob(name, digest), &Method::DELETE) => blobs::delete(self, name, digest).await,
            (Route::Blob(name, digest), _) => blobs::get(self, name, digest).await,
            (Route::Uploads(name), _) => uploads::begin(self, name, body).await,
            (Route::Upload(name, id), &Method::PATCH) => uploads::patch(self, name, id, body).await,
            (Route::Upload(name, id), &Method::PUT) => uploads::close(self, name, id, body).await,
            (Route::Upload(name, id), &Method::DELETE) => uploads::cancel(self, name, id).await,
            (Route::Upload(name, id), _) => uploads::status(self, name, id).await,
        }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// Asks whether the request may do this.
    pub(crate) async fn decide(
        &self,
        repository: Option<&Name>,
        operation: Operation<'_>,
    ) -> Decision {
        let request = AccessRequest {
            operation,
            repository,
            headers: &self.parts.headers,
            peer: self.parts.extensions.get::<PeerAddr>().map(|peer| peer.0),
        };
        self.app.options.policy.decide(&request).await
    }

    /// Goes on only if the request may do this.
    pub(crate) async fn allow(
        &self,
        repository: Option<&Name>,
        operation: Operation<'_>,
    ) -> Result<(), Failure> {
        match self.decide(repository, operation).await {
            Decision::Allow => Ok(()),
            Decision::Deny => Err(Failure::new(ErrorCode::Denied, "this is not allowed")),
            Decision::Unauthenticated { challenge } => {
                let failure = Failure::new(ErrorCode::Unauthorized, "authentication is required");
                Err(failure.with_header(WWW_AUTHENTICATE, challenge))
            }
        }
    }

    pub(crate) async fn store(
        &self,
        name: &Name,
        access: Access,
    ) -> Result<Arc<dyn Store>, Failure> {
        Ok(self.app.registry.repository(name, access).await?)
    }

    /// Where clients see the router: `""`, a prefix, or the external URL.
    pub(crate) fn base(&self) -> &str {
        if let Some(url) = &self.app.options.external_url {
            return url;
        }
        let original = self.parts.extensions.get::<OriginalUri>();
        original
            .and_then(|original| original.0.path().strip_suffix(self.parts.uri.path()))
            .unwrap_or_default()
    }

    /// Where a blob can be pulled.
    pub(crate) fn blob_location(&self, name: &Name, digest: &Digest) -> HeaderValue {
        respond::value(&format!("{}/v2/{name}/blobs/{digest}", self.base()))
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error {
            RouteError::Escape(_) => failure.with_status(StatusCode::BAD_REQUEST),
            RouteError::NoEndpoint => failure.with_status(StatusCode::NOT_FOUND),
            RouteError::Malformed { .. } | RouteError::NoUpload => failure,
        }
    }
}
