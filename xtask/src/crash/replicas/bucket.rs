//! A bucket for replicas: a server on loopback that speaks S3 over a directory, in this process, so that it outlives them.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::HttpError;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

use crate::process::Result;

const BUCKET: &str = "bucket";
const KEY: &str = "crash";
const SECRET: &str = "of-no-use-to-anybody";

/// The server. It ends when it is dropped.
pub(super) struct Bucket {
    endpoint: String,
    root: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Bucket {
    pub(super) fn start() -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| format!("starting a bucket: {error}");
        let root = tempfile::tempdir().map_err(|error| failed(&error))?;
        std::fs::create_dir(root.path().join(BUCKET)).map_err(|error| failed(&error))?;
        let files = FileSystem::new(root.path()).map_err(|error| failed(&format!("{error:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = Arc::new(service.build());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.map_err(|error| failed(&error))?;
        let address = listener.local_addr().map_err(|error| failed(&error))?;
        runtime.spawn(accept(listener, service, root.path().to_owned()));
        Ok(Self { endpoint: format!("http://{address}"), root, _runtime: runtime })
    }

    /// A part of the bucket.
    pub(super) fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// What a server needs to be told in its environment.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let set = [
            ("AWS_ENDPOINT", self.endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        set.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// The directory in which objects are files, by their names.
    pub(super) fn files(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }
}

async fn accept(listener: TcpListener, service: Arc<S3Service>, root: PathBuf) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, root) = (Arc::clone(&service), root.clone());
        let answer = service_fn(move |request| {
            let (service, root) = (Arc::clone(&service), root.clone());
            // To its end even if whoever asked is killed: completing an upload is one step at S3, and several here.
            let answered = tokio::spawn(async move { answer(&service, &root, request).await });
            async move {
                match answered.await {
                    Ok(answer) => answer,
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                }
            }
        });
        let connection = hyper::server::conn::http1::Builder::new();
        // A registry that is killed leaves in the middle of anything.
        tokio::spawn(connection.serve_connection(TokioIo::new(socket), answer));
    }
}

/// As S3 answers but for one case: an upload that it does not know this server takes for one of somebody else.
async fn answer(
    service: &S3Service,
    root: &Path,
    request: Request<Incoming>,
) -> std::result::Result<Response<s3s::Body>, HttpError> {
    let query = request.uri().query().unwrap_or_default();
    let upload = query.split('&').find_map(|part| part.strip_prefix("uploadId="));
    if upload.is_some_and(|upload| !root.join(format!(".upload-{upload}.json")).exists()) {
        // What it does not read of the body closes the connection.
        let _ = request.into_body().collect().await;
        let body = "<Error><Code>NoSuchUpload</Code><Message>unknown upload</Message></Error>";
        let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
        let mut response = Response::new(s3s::Body::http_body(body));
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
        return Ok(response);
    }
    service.call(request.map(s3s::Body::from)).await
}
