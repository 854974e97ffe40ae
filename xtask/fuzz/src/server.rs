//! Requests to the server, and what must hold of each answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use oci_ref::{Manifest, Precondition, Store};
use oci_registry_server::{MemoryRegistry, ServerOptions, router};
use oci_spec_types::{Descriptor, Digest, ErrorBody, ErrorCode, ImageManifest, MediaType, Name};
use tower::ServiceExt;

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A registry whose repository `a` has a blob, an image that is tagged `v1`, and a referrer to it.
pub(crate) async fn registry() -> MemoryRegistry {
    let registry = MemoryRegistry::new();
    let name: Name = "a".parse().expect("a name");
    let repository = registry.memory(&name);
    let (config, layer) = (Bytes::from_static(b"{}"), Bytes::from_static(b"layer"));
    let config_descriptor = Descriptor::of(MediaType::OCI_IMAGE_CONFIG, &config);
    let layer_descriptor = Descriptor::of(MediaType::OCI_LAYER, &layer);
    let mut image = ImageManifest::new(config_descriptor.clone(), vec![layer_descriptor.clone()]);
    let pushed = async {
        repository.put_blob(&config_descriptor, &config).await?;
        repository.put_blob(&layer_descriptor, &layer).await?;
        let subject = parse(&image);
        let tag = "v1".parse().expect("a tag");
        repository.put_manifest(&subject, &[tag], &Precondition::None).await?;
        image.subject = Some(subject.descriptor().clone());
        repository.put_manifest(&parse(&image), &[], &Precondition::None).await
    };
    pushed.await.expect("memory takes what belongs together");
    registry
}

fn parse(image: &ImageManifest) -> Manifest {
    let bytes = serde_json::to_vec(image).expect("a manifest can be written");
    Manifest::parse(bytes.into(), None, None).expect("a manifest can be read")
}

/// Asks, and checks the answer.
pub(crate) async fn ask(registry: &MemoryRegistry, request: Request<Full<Bytes>>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let app = router(Arc::new(registry.clone()), ServerOptions::new());
    let answer = match app.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let (parts, content) = answer.into_parts();
    let content = content.collect().await.expect("the body of an answer does not break off");
    let answer = Answer { status: parts.status, headers: parts.headers, body: content.to_bytes() };
    check(&method, &path, &answer);
    answer
}

fn check(method: &Method, path: &str, answer: &Answer) {
    let Answer { status, headers, body } = answer;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    assert!(status.as_u16() < 500, "{method} {path}: {status}");
    let redirects = status.is_redirection() && *status != StatusCode::NOT_MODIFIED;
    assert!(!status.is_informational() && !redirects, "{method} {path}: {status}");

    if *method == Method::HEAD
        || *status == StatusCode::NOT_MODIFIED
        || *status == StatusCode::NO_CONTENT
    {
        assert!(body.is_empty(), "{method} {path}: {status} has a body");
        return;
    }
    if let Some(length) = text(CONTENT_LENGTH.as_str()) {
        assert_eq!(length.parse(), Ok(body.len()), "{method} {path}: Content-Length");
    }
    if status.is_client_error() {
        let errors: ErrorBody =
            serde_json::from_slice(body).expect("an error body of the spec's form");
        assert_eq!(errors.errors.len(), 1);
        assert!(!matches!(errors.errors[0].code, ErrorCode::Other(_)), "{:?}", errors.errors[0]);
        assert!(!errors.errors[0].message.is_empty());
        assert!(body.len() <= 4 << 10, "an error of {} bytes", body.len());
        assert_eq!(text(CONTENT_TYPE.as_str()), Some("application/json"));
        let allow = headers.contains_key(ALLOW);
        assert_eq!(allow, *status == StatusCode::METHOD_NOT_ALLOWED, "{method} {path}: Allow");
        return;
    }
    if *status == StatusCode::PARTIAL_CONTENT {
        let range = text(CONTENT_RANGE.as_str()).expect("a 206 has a Content-Range");
        let (range, _) =
            range.strip_prefix("bytes ").and_then(|range| range.split_once('/')).expect("a range");
        let (first, last) = range.split_once('-').expect("first and last");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        assert_eq!(number(last) - number(first) + 1, body.len());
    } else if *method == Method::GET
        && let Some(digest) = text("docker-content-digest")
    {
        let digest: Digest = digest.parse().expect("a digest");
        assert!(digest.verify(body).is_ok(), "{path}: other bytes than those of {digest}");
    }
}
