//! Blobs: end-2 and end-10.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LOCATION,
};
use http::{HeaderValue, StatusCode};
use oci_ref::{Access, ByteRange, Error, ErrorKind, Store};
use oci_spec_types::{Digest, ErrorCode, Name};

use crate::app::Call;
use crate::asked::Asked;
use crate::body::SizedBody;
use crate::error::Failure;
use crate::{Operation, etag, range, respond};

pub(crate) async fn get(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::PullBlob(digest)).await?;
    let store = call.store(name, Access::Read).await?;
    let etag = etag::of(digest);
    let condition = etag::pull(&call.parts.headers, &etag);
    if call.is_head() || condition != etag::Pull::Proceed {
        let size = store.blob_size(digest).await?.ok_or_else(|| unknown(digest))?;
        let status = match condition {
            etag::Pull::Proceed => StatusCode::OK,
            etag::Pull::NotModified => StatusCode::NOT_MODIFIED,
            etag::Pull::Failed => return Err(Failure::precondition("the blob has another digest")),
        };
        let mut response = respond::empty(status);
        describe(&mut response, digest, &etag, size);
        return Ok(response);
    }

    let wanted = range::requested(&call.parts.headers, &etag);
    if let Some(url) = store.blob_url(digest).await? {
        return elsewhere(&*store, digest, wanted, &url).await;
    }
    let read = match store.blob(digest, wanted).await {
        Ok(read) => read,
        Err(error) => return Err(unsatisfiable(error)),
    };
    let whole = 0..read.size;
    let length = read.range.end.saturating_sub(read.range.start);
    let part = wanted != ByteRange::All && Some(&read.range) == wanted.within(read.size).as_ref();
    // A source that cannot seek gives all, which is a good answer too.
    if !part && read.range != whole {
        let found = format!("asked for {wanted:?} of blob {digest}, got {:?}", read.range);
        return Err(Error::new(ErrorKind::Internal, found).into());
    }
    let mut response =
        Response::new(Body::new(SizedBody::new(read.body, length, Asked::of(call.parts))));
    if part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = read.range.end.saturating_sub(1);
        let content_range = format!("bytes {}-{last}/{}", read.range.start, read.size);
        response.headers_mut().insert(CONTENT_RANGE, respond::value(&content_range));
    }
    describe(&mut response, digest, &etag, length);
    if wanted != ByteRange::All && !part {
        response.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    }
    Ok(response)
}

/// The answer that the bytes are to be read from another place. Whoever follows it asks for the same range there, which
/// may be known to be none.
async fn elsewhere(
    store: &dyn Store,
    digest: &Digest,
    wanted: ByteRange,
    url: &str,
) -> Result<Response, Failure> {
    if wanted != ByteRange::All {
        let size = store.blob_size(digest).await?.ok_or_else(|| unknown(digest))?;
        if wanted.within(size).is_none() {
            let message = format!("blob {digest} has {size} bytes, none in {wanted:?}");
            return Err(unsatisfiable(Error::new(ErrorKind::RangeInvalid { size }, message)));
        }
    }
    let mut response = respond::empty(StatusCode::TEMPORARY_REDIRECT);
    let headers = response.headers_mut();
    respond::set_digest(headers, digest);
    headers.insert(LOCATION, respond::value(url));
    // The place is good for this caller, and for a while.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn describe(response: &mut Response, digest: &Digest, etag: &str, length: u64) {
    let headers = response.headers_mut();
    // spec: R9, R13, R14
    respond::set_digest(headers, digest);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, respond::OCTET_STREAM);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, respond::value(etag));
}

fn unknown(digest: &Digest) -> Failure {
    Failure::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known"))
}

/// 416 says how many bytes there are (RFC 9110, 15.5.17).
fn unsatisfiable(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::RangeInvalid { size } => {
            let size = respond::value(&format!("bytes */{size}"));
            Failure::from(error).with_header(CONTENT_RANGE, size)
        }
        _ => error.into(),
    }
}

pub(crate) async fn delete(
    call: &Call<'_>,
    name: &Name,
    digest: &Digest,
) -> Result<Response, Failure> {
    call.allow(Some(name), Operation::DeleteBlob(digest)).await?;
    let store = call.store(name, Access::Read).await?;
    store.delete_blob(digest).await?;
    Ok(respond::empty(StatusCode::ACCEPTED))
}
