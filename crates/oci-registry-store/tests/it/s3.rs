//! A server in this process that speaks S3, and fails when it is told to.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use oci_registry_store::{EngineOptions, Storage};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) const KEY: &str = "test-key";
pub(crate) const SECRET: &str = "test-secret-that-nobody-may-see";

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this, and nothing is done.
    Status(u16),
    /// It is answered with this status and code, and nothing is done.
    Refused(u16, &'static str),
    /// The connection is closed before anything is done.
    Dropped,
    /// It is done, and the connection is closed.
    Unanswered,
    /// It is done, and the connection is closed in the middle of the answer.
    Cut,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) length: u64,
}

type Plan = Arc<dyn Fn(usize, &Seen) -> Option<Fault> + Send + Sync>;

struct State {
    service: S3Service,
    /// Whether it does what anybody asks for.
    open: bool,
    root: PathBuf,
    seen: Mutex<Vec<Seen>>,
    plan: Mutex<Option<Plan>>,
    /// How many of the requests that were seen have ended.
    ended: watch::Sender<usize>,
}

/// The server, with the bucket `bucket`. It ends with the test's runtime.
pub(crate) struct S3 {
    pub(crate) endpoint: String,
    root: TempDir,
    state: Arc<State>,
}

impl S3 {
    pub(crate) async fn start() -> Self {
        Self::start_for(Some(SimpleAuth::from_single(KEY, SECRET))).await
    }

    /// One that does what anybody asks for.
    pub(crate) async fn without_credentials() -> Self {
        Self::start_for(None).await
    }

    async fn start_for(allowed: Option<SimpleAuth>) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        let open = allowed.is_none();
        if let Some(allowed) = allowed {
            builder.set_auth(allowed);
        }
        let state = Arc::new(State {
            service: builder.build(),
            open,
            root: root.path().to_owned(),
            seen: Mutex::default(),
            plan: Mutex::default(),
            ended: watch::Sender::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service),
                );
            }
        });
        Self { endpoint, root, state }
    }

    /// The bucket, with a prefix.
    pub(crate) fn storage(&self) -> Storage {
        self.named("s3://bucket/some/prefix")
    }

    pub(crate) fn named(&self, url: &str) -> Storage {
        url.parse::<Storage>()
            .unwrap()
            .set("AWS_ENDPOINT", &self.endpoint)
            .set("AWS_ALLOW_HTTP", "true")
            .set("AWS_REGION", "us-east-1")
            .set("AWS_ACCESS_KEY_ID", KEY)
            .set("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    pub(crate) fn options(&self) -> EngineOptions {
        let mut options = EngineOptions::default();
        options.storage = self.storage();
        options
    }

    /// Lets requests fail from now on: the plan is asked about each, with its number.
    pub(crate) fn fail(
        &self,
        plan: impl Fn(usize, &Seen) -> Option<Fault> + Send + Sync + 'static,
    ) {
        self.forget();
        *self.state.plan.lock().unwrap() = Some(Arc::new(plan));
    }

    /// Lets them succeed, and tells how many there were since the last `fail` or `forget`.
    pub(crate) fn heal(&self) -> usize {
        *self.state.plan.lock().unwrap() = None;
        self.state.seen.lock().unwrap().len()
    }

    /// Forgets the requests so far, which must all have ended.
    pub(crate) fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
        self.state.ended.send_replace(0);
    }

    /// Waits until so many requests have ended since the last `fail` or `forget`.
    pub(crate) async fn ended(&self, count: usize) {
        self.state.ended.subscribe().wait_for(|ended| *ended >= count).await.unwrap();
    }

    /// The requests since the last `fail` or `forget`.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.root.path().join("bucket")
    }

    /// The files that hold objects.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.bucket(), &mut found);
        found
    }

    /// Aborts all multipart uploads.
    pub(crate) fn abort_all(&self) {
        for entry in std::fs::read_dir(self.root.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with(".upload") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// Multipart uploads that were begun and neither completed nor aborted, and their parts.
    pub(crate) fn uploads(&self) -> (usize, usize) {
        let count = |what: &str| {
            let named = |name: &str| name.starts_with(what);
            std::fs::read_dir(self.root.path())
                .unwrap()
                .filter(|entry| named(&entry.as_ref().unwrap().file_name().to_string_lossy()))
                .count()
        };
        (count(".upload-"), count(".upload_id-"))
    }
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files_below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Closed> {
    let length = request.headers().get("content-length");
    let seen = Seen {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        length: length.map_or(0, |length| length.to_str().unwrap().parse().unwrap()),
    };
    let number = {
        let mut all = state.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let _end = End(Arc::clone(&state));
    // What it does may lead to further requests.
    let plan = state.plan.lock().unwrap().clone();
    match plan.and_then(|plan| plan(number, &seen)) {
        None => handle(&state, &seen, request).await,
        Some(Fault::Status(status)) => refused(request, status, "Planned").await,
        Some(Fault::Refused(status, code)) => refused(request, status, code).await,
        Some(Fault::Dropped) => Err(Closed),
        Some(Fault::Unanswered) => {
            let answer = handle(&state, &seen, request).await?;
            let _ = answer.into_body().collect().await;
            Err(Closed)
        }
        Some(Fault::Cut) => {
            let (head, body) = handle(&state, &seen, request).await?.into_parts();
            let bytes = body.collect().await.map_err(|_| Closed)?.to_bytes();
            let half = Ok(Frame::data(bytes.slice(..bytes.len() / 2)));
            let chunks = futures_util::stream::iter([half, Err(Closed)]);
            Ok(Response::from_parts(head, s3s::Body::http_body(StreamBody::new(chunks))))
        }
    }
}

async fn refused(
    request: Request<Incoming>,
    status: u16,
    code: &str,
) -> Result<Response<s3s::Body>, Closed> {
    let _ = request.into_body().collect().await;
    Ok(error(StatusCode::from_u16(status).unwrap(), code))
}

async fn handle(
    state: &State,
    seen: &Seen,
    mut request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Closed> {
    // Where this server differs from S3: it makes buckets as it needs them, takes an upload that it does not know for one of
    // somebody else, and cannot read the last so many bytes of fewer.
    let bucket = seen.path.split('/').nth(1).unwrap();
    if state.open {
        request.headers_mut().remove("authorization");
    }
    let upload =
        seen.query.split_once("uploadId=").map(|(_, upload)| upload.split('&').next().unwrap());
    let unknown = if !state.root.join(bucket).is_dir() {
        Some("NoSuchBucket")
    } else if upload
        .is_some_and(|upload| !state.root.join(format!(".upload-{upload}.json")).exists())
    {
        Some("NoSuchUpload")
    } else {
        None
    };
    if let Some(code) = unknown {
        let _ = request.into_body().collect().await;
        return Ok(error(StatusCode::NOT_FOUND, code));
    }
    let size = std::fs::metadata(state.root.join(&seen.path[1..])).map_or(0, |file| file.len());
    if let Some(range) = request.headers_mut().get_mut("range")
        && let Some(last) = range.to_str().unwrap().strip_prefix("bytes=-")
        && last.parse::<u64>().unwrap() > size
    {
        *range = "bytes=0-".parse().unwrap();
    }
    state.service.call(request.map(s3s::Body::from)).await.map_err(|_| Closed)
}

fn error(status: StatusCode, code: &str) -> Response<s3s::Body> {
    let body = format!("<Error><Code>{code}</Code><Message>by the test</Message></Error>");
    let body = s3s::Body::http_body(
        Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}),
    );
    Response::builder().status(status).body(body).unwrap()
}

/// Counts the end of a request, however it ends.
struct End(Arc<State>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

/// Closes the connection.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed by the test")
    }
}

impl std::error::Error for Closed {}
