//! Uploads of blobs, and mounts: end-4, end-5, end-6, end-11, end-13 and end-14.

use std::str::FromStr;

use axum::response::Response;
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderName, HeaderValue, StatusCode};
use oci_ref::{Access, Error, ErrorKind, Mounted, Staged, Store, UploadId};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Name};

use crate::app::Call;
use crate::asked::Asked;
use crate::body::RequestBody;
use crate::chunk::{Chunk, Refused, Then, check_length, check_order, receive};
use crate::error::Failure;
use crate::range::{ContentRange, uploaded};
use crate::{Decision, Operation, percent, respond};

/// How many repositories that hold a blob are looked at for a mount without a source.
const MAX_HOLDERS: usize = 16;

/// Begins an upload, or makes a whole one of it (`digest`), or takes the blob over from another repository (`mount`).
pub(crate) async fn begin(
    call: &Call<'_>,
    name: &Name,
    body: &mut RequestBody,
) -> Result<Response, Failure> {
    let query = &call.query;
    if let Some(digest) = parameter(call, "mount", ErrorCode::DigestInvalid)? {
        let from = parameter(call, "from", ErrorCode::NameInvalid)?;
        return mount(call, name, &digest, from).await;
    }
    call.allow(Some(name), Operation::PushBlob).await?;
    if let Some(digest) = parameter(call, "digest", ErrorCode::DigestInvalid)? {
        return whole(call, name, &digest, body).await;
    }
    // spec: R17
    let algorithm = match query.one("digest-algorithm")? {
        Some(algorithm) => algorithm.parse().map_err(Error::from)?,
        None => Algorithm::default(),
    };
    let store = call.store(name, Access::Write).await?;
    let staged = store.stage(algorithm).await?;
    begun(call, name, &*store, staged).await
}

/// The answer that an upload has begun.
async fn begun(
    call: &Call<'_>,
    name: &Name,
    store: &dyn Store,
    staged: Box<dyn Staged>,
) -> Result<Response, Failure> {
    let offset = staged.offset();
    let id = staged.suspend().await?;
    let mut response = respond::empty(StatusCode::ACCEPTED);
    // spec: R18, R19
    response.headers_mut().extend(session(call, name, &id, offset));
    if let Some(least) = store.capabilities().min_chunk {
        // spec: R23
        response.headers_mut().insert(respond::CHUNK_MIN_LENGTH, HeaderValue::from(least));
    }
    Ok(response)
}

/// A blob in a single POST.
async fn whole(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    body: &mut RequestBody,
) -> Result<Response, Failure> {
    let algorithm = algorithm_of(digest)?;
    let limit = call.app.options.max_blob_bytes;
    if let Some(limit) = limit.filter(|limit| body.declared.is_some_and(|size| size > *limit)) {
        return Err(Failure::too_large(limit));
    }
    let store = call.store(name, Access::Write).await?;
    let mut staged = store.stage(algorithm).await?;
    match receive(&mut *staged, body.take(), None, limit).await {
        Ok(()) => staged.commit(digest).await?,
        Err(refused) => {
            // The first error is the one that tells.
            let _ = staged.cancel().await;
            return Err(refused.into_failure());
        }
    }
    Ok(created(call, name, digest))
}

/// Takes a blob over. Whatever stands against it, that the caller may not read the source above all, looks like a blob
/// that is not there: an upload begins.
async fn mount(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
    from: Option<Name>,
) -> Result<Response, Failure> {
    let operation = Operation::MountBlob { digest, from: from.as_ref() };
    call.allow(Some(name), operation).await?;
    let algorithm = algorithm_of(digest)?;
    let store = call.store(name, Access::Write).await?;
    let sources = match from {
        Some(from) => vec![from],
        None => call.app.registry.holders(digest, MAX_HOLDERS).await?,
    };
    // How large it is, and of which type, the source knows.
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest.clone(), 0);
    for source in &sources {
        if call.decide(Some(source), Operation::PullBlob(digest)).await != Decision::Allow {
            continue;
        }
        match store.mount(&descriptor, Some(source)).await {
            // spec: R30
            Ok(Mounted::Done) => return Ok(created(call, name, digest)),
            Ok(Mounted::Upload(staged)) => return begun(call, name, &*store, staged).await,
            Ok(Mounted::No) => {}
            Err(error) if error.is_not_found() || error.is_unsupported() => {}
            Err(error) => return Err(error.into()),
        }
    }
    // spec: R31
    let staged = store.stage(algorithm).await?;
    begun(call, name, &*store, staged).await
}

/// The answer that a blob is there.
fn created(call: &Call<'_>, name: &Name, digest: &Digest) -> Response {
    let mut response = respond::empty(StatusCode::CREATED);
    // spec: R20, R21
    response.headers_mut().insert(LOCATION, call.blob_location(name, digest));
    respond::set_digest(response.headers_mut(), digest);
    response
}

pub(crate) async fn patch(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
    body: &mut RequestBody,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PushBlob).await?;
    let (id, offset) = go_on(call, name, id, body, Then::Suspend).await?;
    let mut response = respond::empty(StatusCode::ACCEPTED);
    // spec: R24
    response.headers_mut().extend(session(call, name, &id, offset));
    Ok(response)
}

pub(crate) async fn close(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
    body: &mut RequestBody,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PushBlob).await?;
    let Some(digest) = parameter::<Digest>(call, "digest", ErrorCode::DigestInvalid)? else {
        let message = "the query parameter \"digest\" is missing";
        return Err(Failure::new(ErrorCode::DigestInvalid, message));
    };
    algorithm_of(&digest)?;
    match go_on(call, name, id, body, Then::Commit(digest.clone())).await {
        Err(gone) if gone.code == ErrorCode::BlobUploadUnknown => {
            // Somebody whose answer was lost asks again.
            let store = call.store(name, Access::Write).await?;
            let committed = store.committed_upload(id).await?;
            if committed.as_ref() != Some(&digest) || store.blob_size(&digest).await?.is_none() {
                return Err(gone);
            }
        }
        done => {
            done?;
        }
    }
    Ok(created(call, name, &digest))
}

pub(crate) async fn status(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PushBlob).await?;
    let store = call.store(name, Access::Write).await?;
    let offset = store.upload_offset(id).await?;
    let mut response = respond::empty(StatusCode::NO_CONTENT);
    // spec: R27
    response.headers_mut().extend(session(call, name, id, offset));
    Ok(response)
}

pub(crate) async fn cancel(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PushBlob).await?;
    let store = call.store(name, Access::Write).await?;
    let staged = match store.resume(id).await {
        Ok(staged) => staged,
        Err(error) if matches!(error.kind(), ErrorKind::RangeInvalid { .. }) => {
            let failure = Failure::new(ErrorCode::BlobUploadInvalid, error.message().to_owned());
            return Err(failure.with_status(StatusCode::CONFLICT));
        }
        Err(error) => return Err(error.into()),
    };
    staged.cancel().await?;
    // spec: R28
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Writes the body to an upload. It goes on when the client goes away and with it the future that waits here: what has
/// arrived is kept.
async fn go_on(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
    body: &mut RequestBody,
    then: Then,
) -> Result<(UploadId, u64), Failure> {
    let store = call.store(name, Access::Write).await?;
    let range = content_range(call)?;
    // What is out of order is refused without reading it. Others may write meanwhile, so this is checked again.
    let refuse = |error| refused(call, name, id, error);
    let offset = store.upload_offset(id).await?;
    check_order(range, offset).map_err(|error| refuse(error.into()))?;
    check_length(range, body.declared)?;
    let chunk = Chunk {
        store,
        id: id.clone(),
        declared: body.declared,
        body: body.take(),
        range,
        limit: call.app.options.max_blob_bytes,
        asked: Asked::of(call.parts),
    };
    match tokio::spawn(chunk.write(then)).await {
        Ok(written) => written.map_err(refuse),
        Err(error) => Err(Failure::internal(&error)),
    }
}

fn content_range(call: &Call<'_>) -> Result<Option<ContentRange>, Failure> {
    let Some(value) = call.parts.headers.get(CONTENT_RANGE) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(ContentRange::parse) {
        Some(range) => Ok(Some(range)),
        None => Err(Failure::new(
            ErrorCode::BlobUploadInvalid,
            format!("Content-Range {value:?}: expected <first>-<last>"),
        )),
    }
}

/// The answer to a chunk that was not taken. One that is out of order says where the upload stands.
fn refused(call: &Call<'_>, name: &Name, id: &UploadId, refused: Refused) -> Failure {
    match refused {
        Refused::Engine(error) if matches!(error.kind(), ErrorKind::RangeInvalid { .. }) => {
            let ErrorKind::RangeInvalid { size } = *error.kind() else {
                return error.into();
            };
            let mut failure = Failure::from(error);
            failure.code = ErrorCode::BlobUploadInvalid;
            failure.headers.extend(session(call, name, id, size));
            failure
        }
        other => other.into_failure(),
    }
}

/// The headers that say where an upload goes on.
fn session(
    call: &Call<'_>,
    name: &Name,
    id: &UploadId,
    offset: u64,
) -> [(HeaderName, HeaderValue); 3] {
    let mut location = format!("{}/v2/{name}/blobs/uploads/", call.base());
    percent::encode(&mut location, &id.0);
    [
        (LOCATION, respond::value(&location)),
        (RANGE, respond::value(&uploaded(offset))),
        (respond::UPLOAD_UUID, respond::value(&id.0)),
    ]
}

/// A parameter that is parsed, or else an error with the spec's code.
fn parameter<T: FromStr<Err: std::fmt::Display>>(
    call: &Call<'_>,
    name: &'static str,
    code: ErrorCode,
) -> Result<Option<T>, Failure> {
    match call.query.one(name)?.map(str::parse) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(error)) => Err(Failure::new(code, format!("{name}: {error}"))),
    }
}

/// The algorithm of a digest, if it can be verified.
fn algorithm_of(digest: &Digest) -> Result<Algorithm, Failure> {
    // spec: R17
    Ok(digest.algorithm().parse::<Algorithm>().map_err(Error::from)?)
}
