//! Manifests: end-3, end-7 and end-9.
//!
//! `Accept` does not choose between forms: a manifest is served as it was pushed, with the media type that it was
//! pushed as. The spec leaves negotiation open, any other bytes would have another digest, and an index is not
//! answered by one of its images.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci_ref::{Access, Document, LARGE_DOCUMENT, Manifest, Precondition, Store, Target, apart};
use oci_spec_types::{Digest, ErrorCode, MediaType, Name, Tag};

use crate::app::Call;
use crate::asked::Asked;
use crate::body::RequestBody;
use crate::error::Failure;
use crate::{Operation, browser, etag, large, respond};

/// The most bytes of an artifact type: those of a media type (RFC 6838, section 4.2).
const MAX_ARTIFACT_TYPE: usize = 255;

/// The most `tag` parameters of one push. The spec asks for at least 10. Each is a header of the
/// answer, and clients are known that take no more than 100 headers.
const MAX_TAGS: usize = 64;

pub(crate) async fn get(
    call: &Call<'_>,
    name: &Name,
    target: &Target,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PullManifest(target)).await?;
    let store = call.store(name, Access::Read).await?;
    let (descriptor, bytes) = if call.is_head() {
        (store.resolve(target).await?, Some(Bytes::new()))
    } else {
        let found = store.manifest_bytes(target, LARGE_DOCUMENT as u64).await?;
        (found.descriptor, found.bytes)
    };
    let etag = etag::of(&descriptor.digest);
    let mut response = match etag::pull(&call.parts.headers, &etag) {
        etag::Pull::Proceed => {
            let body = match bytes {
                // For HEAD there are none, and the length is that of the manifest all the same.
                Some(bytes) => Body::from(bytes),
                None => {
                    let (budget, asked) = (call.app.budget.clone(), Asked::of(call.parts));
                    large::body(store, descriptor.clone(), budget, asked).await?
                }
            };
            let mut response = Response::new(body);
            // spec: R6, R7
            let content_type = match browser::runs(descriptor.media_type.as_str()) {
                // Such are not taken any more.
                true => respond::OCTET_STREAM,
                false => respond::value(descriptor.media_type.as_str()),
            };
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        etag::Pull::NotModified => respond::empty(StatusCode::NOT_MODIFIED),
        etag::Pull::Failed => return Err(Failure::precondition("the manifest is another one now")),
    };
    let headers = response.headers_mut();
    // spec: R9, R13, R14
    respond::set_digest(headers, &descriptor.digest);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(descriptor.size));
    headers.insert(ETAG, respond::value(&etag));
    Ok(response)
}

pub(crate) async fn put(
    call: &Call<'_>,
    name: &Name,
    target: &Target,
    body: &mut RequestBody,
) -> Result<Response, Failure> {
    let extra = extra_tags(call, target)?;
    let tags = match target.tag() {
        Some(tag) => std::slice::from_ref(tag),
        None => &extra,
    };
    call.allow(Some(name), Operation::PushManifest { target, tags }).await?;
    let when = etag::push(&call.parts.headers)?;
    let declared = content_type(&call.parts.headers)?;
    let budget = &call.app.budget;
    // What has been received counts until it is stored.
    let (body, _share) = body.bytes(call.app.options.max_manifest_bytes, budget).await?;
    let length = body.len();
    let _turn = budget.store(length).await;
    let expected = target.digest().cloned();
    let parse = move || Ok(Manifest::parse(body.join(), declared.as_ref(), expected.as_ref())?);
    let manifest = apart(length, parse).await?;
    let unknown = matches!(manifest.document(), Document::Artifact(_) | Document::Other(_));
    let refused =
        !call.app.options.unknown_manifests || browser::runs(manifest.media_type().as_str());
    if unknown && refused {
        return Err(not_taken(manifest.media_type()));
    }
    check_artifact_type(&manifest)?;
    let store = call.store(name, Access::Write).await?;
    check_store(&*store, &manifest, tags, &when).await?;
    store.put_manifest(&manifest, tags, &when).await?;

    let mut response = respond::empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    let digest = manifest.digest();
    // spec: R34, R35
    let location = format!("{}/v2/{name}/manifests/{digest}", call.base());
    headers.insert(LOCATION, respond::value(&location));
    respond::set_digest(headers, digest);
    headers.insert(ETAG, respond::value(&etag::of(digest)));
    if let Some(subject) = manifest.subject() {
        // spec: R42
        headers.insert(respond::SUBJECT, respond::value(subject.digest.as_str()));
    }
    for tag in &extra {
        // spec: R37
        headers.append(respond::TAG, respond::value(tag.as_str()));
    }
    Ok(response)
}

/// What the store must be able to do for this push. Tags are compared by the store, in the same step as they are moved;
/// without tags the condition is about the digest, whose content never changes.
async fn check_store(
    store: &dyn Store,
    manifest: &Manifest,
    tags: &[Tag],
    when: &Precondition,
) -> Result<(), Failure> {
    let capabilities = store.capabilities();
    if let Some(types) = &capabilities.manifest_types
        && !types.contains(manifest.media_type())
    {
        return Err(not_taken(manifest.media_type()));
    }
    if *when == Precondition::None {
        return Ok(());
    }
    if !tags.is_empty() {
        return match capabilities.preconditions {
            true => Ok(()),
            false => Err(Failure::bad_request("conditional pushes are not supported here")),
        };
    }
    let digest = manifest.digest();
    let exists = match store.resolve(&Target::Digest(digest.clone())).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error.into()),
    };
    let holds = match when {
        Precondition::None => true,
        Precondition::Exists => exists,
        Precondition::Absent => !exists,
        Precondition::Matches(digests) => exists && digests.contains(digest),
    };
    match holds {
        true => Ok(()),
        false => Err(Failure::precondition(format!("manifest {digest} is not in that state"))),
    }
}

/// It is kept for each manifest, and listed. Clients are known that give other words than media types, but none that gives what
/// could not be one.
fn check_artifact_type(manifest: &Manifest) -> Result<(), Failure> {
    let Some(found) = manifest.descriptor().artifact_type.as_deref() else { return Ok(()) };
    let wrong = if found.len() > MAX_ARTIFACT_TYPE {
        format!("has {} bytes, expected at most {MAX_ARTIFACT_TYPE}", found.len())
    } else if let Some(control) = found.chars().find(|found| found.is_control()) {
        format!("has the control character {control:?}, expected a media type")
    } else {
        return Ok(());
    };
    Err(Failure::new(ErrorCode::ManifestInvalid, format!("artifactType {wrong}")))
}

fn not_taken(media_type: &MediaType) -> Failure {
    let message = format!("manifests of type {media_type} are not taken here");
    Failure::new(ErrorCode::ManifestInvalid, message)
}

/// The tags that a push by digest asks for besides. By tag there are none: the spec has them by digest only.
fn extra_tags(call: &Call<'_>, target: &Target) -> Result<Vec<Tag>, Failure> {
    if target.tag().is_some() {
        return Ok(Vec::new());
    }
    let mut tags: Vec<Tag> = Vec::new();
    for text in call.query.all("tag") {
        let tag = text.parse::<Tag>();
        let tag =
            tag.map_err(|error| Failure::new(ErrorCode::ManifestInvalid, error.to_string()))?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        // spec: R36
        if tags.len() > MAX_TAGS {
            let message = format!("more than {MAX_TAGS} tags in one push");
            let failure = Failure::new(ErrorCode::ManifestInvalid, message);
            return Err(failure.with_status(StatusCode::URI_TOO_LONG));
        }
    }
    Ok(tags)
}

/// The type that a manifest comes with, without parameters.
fn content_type(headers: &HeaderMap) -> Result<Option<MediaType>, Failure> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
    };
    // spec: R32
    let media_type = value.to_str().ok().and_then(MediaType::from_content_type);
    match media_type {
        Some(media_type) => Ok(Some(media_type)),
        None => Err(Failure::new(
            ErrorCode::ManifestInvalid,
            format!("Content-Type {value:?} is not a media type"),
        )),
    }
}

pub(crate) async fn delete_tag(
    call: &Call<'_>,
    name: &Name,
    tag: &Tag,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::DeleteTag(tag)).await?;
    refuse_conditions(call)?;
    let store = call.store(name, Access::Read).await?;
    store.delete_tag(tag).await?;
    Ok(respond::empty(StatusCode::ACCEPTED))
}

pub(crate) async fn delete(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::DeleteManifest(digest)).await?;
    refuse_conditions(call)?;
    let store = call.store(name, Access::Read).await?;
    store.delete_manifest(digest).await?;
    Ok(respond::empty(StatusCode::ACCEPTED))
}

/// A store deletes without a condition. Who asks for one must not get a deletion that ignores it.
fn refuse_conditions(call: &Call<'_>) -> Result<(), Failure> {
    let headers = &call.parts.headers;
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_NONE_MATCH) {
        return Err(Failure::bad_request("conditional deletions are not supported"));
    }
    Ok(())
}
