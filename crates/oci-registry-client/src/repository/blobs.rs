//! Blobs: found, read, deleted (distribution-spec, "Pulling blobs").

use std::ops::Range;

use http::{HeaderValue, Method, header};
use oci_ref::{BlobRead, ByteRange, ErrorKind};
use oci_spec_types::{Descriptor, Digest, ErrorCode};

use super::Repository;
use super::blob_body::BlobBody;
use crate::content_range::ContentRange;
use crate::request::{About, Request, header_value};
use crate::response::Response;
use crate::{Result, registry::Registry};

/// The reason why a blob cannot be read whose size is needed first.
const UNKNOWN_SIZE: &str = "neither HEAD nor GET says how many bytes it has";

impl Repository {
    pub(super) fn about_blob(&self, digest: &Digest) -> About {
        self.about(format_args!("blob {digest}"), ErrorCode::BlobUnknown)
    }

    pub(super) fn blob_request(&self, method: Method, digest: &Digest) -> Request<'_> {
        let url = self.url(&format!("blobs/{digest}"));
        self.reading(method, url, self.about_blob(digest))
    }

    /// The size of a blob; `None` if it is not there.
    pub(super) async fn find_blob(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.ask_blob(digest).await? {
            Some(BlobHead { size: None, .. }) => {
                Ok(self.ask_for_first_byte(digest).await?.and_then(|found| found.size))
            }
            found => Ok(found.and_then(|found| found.size)),
        }
    }

    /// Asks for the first byte of a blob, with which the size comes, where the registry does not say
    /// it of the blob alone; `None` if it is not there.
    async fn ask_for_first_byte(&self, digest: &Digest) -> Result<Option<BlobHead>> {
        let request = self.blob_request(Method::GET, digest).expect(&[200, 206]);
        let request = request.header(header::RANGE, HeaderValue::from_static("bytes=0-0"));
        let answer = match self.registry().send(&request).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        check_digest(&answer, digest)?;
        let part = content_range(&answer)?;
        let ranges = part.is_some();
        let size = part.map_or_else(|| answer.content_length(), |part| part.size);
        match size {
            None => Err(answer.error(ErrorKind::Internal, UNKNOWN_SIZE)),
            size => Ok(Some(BlobHead { size, ranges })),
        }
    }

    /// What the registry says of a blob; `None` if it is not there.
    pub(super) async fn ask_blob(&self, digest: &Digest) -> Result<Option<BlobHead>> {
        let answer = self.registry().send(&self.blob_request(Method::HEAD, digest)).await;
        let answer = match answer {
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.refuses_head() => return self.ask_for_first_byte(digest).await,
            answer => answer?,
        };
        check_digest(&answer, digest)?;
        // Proxies leave the length of an answer without a body out, or say 0.
        let size = match digest.verify(b"") {
            Ok(()) => Some(0),
            Err(_) => answer.content_length().filter(|size| *size != 0),
        };
        Ok(Some(BlobHead { size, ranges: accepts_ranges(&answer) }))
    }

    /// Reads a blob, or a part of it. A registry that gives all where a part was asked for is read until that part.
    pub(super) async fn read_blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        // All of an empty blob is fine, while no byte of it can be asked for.
        let range = if range == ByteRange::From(0) { ByteRange::All } else { range };
        if let (ByteRange::All, Some(parallel)) = (range, self.client().config().parallel_ranges) {
            return self.read_in_parallel(digest, parallel).await;
        }
        let opened = self.open_blob(digest, range).await?;
        let wanted = opened.part(range)?;
        Ok(opened.into_read(self, digest, wanted))
    }

    /// Asks for a blob, or a part of it.
    pub(super) async fn open_blob(&self, digest: &Digest, range: ByteRange) -> Result<OpenBlob> {
        let mut request = self.blob_request(Method::GET, digest).expect(&[200, 206]);
        if let Some(value) = range_header(range) {
            request = request.header(header::RANGE, header_value(&value));
        }
        if let ByteRange::Inclusive(first, last) = range
            && first > last
        {
            let about = self.about_blob(digest);
            let reason = format!("bytes {first} to {last} are not a range");
            return Err(crate::Error::new(ErrorKind::Invalid, about.what, reason));
        }
        let response = self.registry().send(&request).await?;
        check_digest(&response, digest)?;
        let (size, came) = match content_range(&response)? {
            Some(part) => (part.size, part.range()),
            None => {
                let size = response.content_length();
                (size, 0..size.unwrap_or(u64::MAX))
            }
        };
        let size = match size {
            Some(size) => size,
            // An answer without its length: the size is asked for.
            None => {
                let found = self.ask_blob(digest).await?.ok_or_else(|| {
                    let reason = "the blob vanished while it was being read";
                    response.error(ErrorCode::BlobUnknown, reason)
                })?;
                found.size.ok_or_else(|| response.error(ErrorKind::Internal, UNKNOWN_SIZE))?
            }
        };
        let came = came.start..came.end.min(size);
        Ok(OpenBlob { response, size, came })
    }

    pub(super) async fn remove_blob(&self, digest: &Digest) -> Result<()> {
        let url = self.url(&format!("blobs/{digest}"));
        match self.delete_at(url, self.about_blob(digest)).await? {
            Some(answer) => check_digest(&answer, digest),
            None => Ok(()),
        }
    }
}

/// An answer with a blob, or a part of it.
pub(super) struct OpenBlob {
    response: Response,
    /// The size of the whole blob.
    pub(super) size: u64,
    /// The part that comes.
    came: Range<u64>,
}

impl OpenBlob {
    /// Whether a part comes, and not all.
    pub(super) fn is_part(&self) -> bool {
        self.response.status() == http::StatusCode::PARTIAL_CONTENT
    }

    /// The part that was asked for, if it is among what comes.
    pub(super) fn part(&self, asked: ByteRange) -> Result<Range<u64>> {
        let wanted = asked.within(self.size).ok_or_else(|| {
            let reason = format!("{asked:?} does not fit into its {} bytes", self.size);
            self.response.error(ErrorKind::RangeInvalid { size: self.size }, reason)
        })?;
        if self.is_part() && self.came != wanted {
            let reason = format!(
                "the answer has the bytes {:?} of {}, expected {wanted:?}",
                self.came, self.size
            );
            return Err(self.response.error(ErrorKind::Internal, reason));
        }
        Ok(wanted)
    }

    pub(super) fn into_read(
        self,
        repository: &Repository,
        digest: &Digest,
        wanted: Range<u64>,
    ) -> BlobRead {
        let body = BlobBody::new(repository.clone(), digest.clone(), self.size, wanted.clone());
        let body = body.start(self.response, self.came.start);
        BlobRead { size: self.size, range: wanted, body }
    }
}

/// What a registry says of a blob.
pub(super) struct BlobHead {
    /// `None` where it does not say how many bytes it has.
    pub(super) size: Option<u64>,
    /// Whether parts of it can be asked for.
    pub(super) ranges: bool,
}

/// Whether the answer says that parts can be asked for.
pub(super) fn accepts_ranges(answer: &Response) -> bool {
    let units = answer.header(header::ACCEPT_RANGES).unwrap_or_default();
    units.split(',').any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

/// A digest that the registry gives must be the one asked for.
pub(super) fn check_digest(answer: &Response, digest: &Digest) -> Result<()> {
    match answer.digest()? {
        Some(claimed) if claimed.algorithm() == digest.algorithm() && claimed != *digest => {
            Err(answer.error(
                ErrorCode::DigestInvalid,
                format!("Docker-Content-Digest is {claimed}, expected {digest}"),
            ))
        }
        _ => Ok(()),
    }
}

/// A blob has as many bytes as its descriptor says.
pub(super) fn check_size(descriptor: &Descriptor, found: u64) -> oci_ref::Result<()> {
    let Descriptor { digest, size, .. } = descriptor;
    match found == *size {
        true => Ok(()),
        false => Err(oci_ref::Error::new(
            ErrorCode::SizeInvalid,
            format!("blob {digest} has {found} bytes, expected {size}"),
        )),
    }
}

/// The part that a `206` has; `None` for a `200`. A `206` that does not say it well is an error.
pub(super) fn content_range(response: &Response) -> Result<Option<ContentRange>> {
    if response.status() != http::StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let value = response.header(header::CONTENT_RANGE).unwrap_or_default();
    let part = ContentRange::parse(value).ok_or_else(|| {
        response.error(
            ErrorKind::Internal,
            format!("Content-Range is {value:?}, which is no range of bytes"),
        )
    })?;
    let length = part.range().end - part.range().start;
    match response.content_length() {
        Some(found) if found != length => Err(response.error(
            ErrorKind::Internal,
            format!("Content-Range is {value:?}, but Content-Length is {found}"),
        )),
        _ => Ok(Some(part)),
    }
}

fn range_header(range: ByteRange) -> Option<String> {
    match range {
        ByteRange::All => None,
        ByteRange::From(first) => Some(format!("bytes={first}-")),
        ByteRange::Inclusive(first, last) => Some(format!("bytes={first}-{last}")),
        ByteRange::Last(count) => Some(format!("bytes=-{count}")),
    }
}

impl Registry {
    /// The part of a blob's body from `from` to before `end`, asked for again after a break.
    pub(super) async fn reopen_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        part: Range<u64>,
        size: u64,
    ) -> Result<(Response, u64)> {
        let mut request = repository.blob_request(Method::GET, digest).expect(&[200, 206]);
        if part != (0..size) {
            let value = match part.end == size {
                true => format!("bytes={}-", part.start),
                false => format!("bytes={}-{}", part.start, part.end - 1),
            };
            request = request.header(header::RANGE, header_value(&value));
        }
        let response = self.exchange(&request).await?;
        let Some(came) = content_range(&response)? else {
            return match response.content_length() {
                Some(found) if found != size => Err(response.error(
                    ErrorCode::SizeInvalid,
                    format!("the blob now has {found} bytes, expected {size}"),
                )),
                _ => Ok((response, 0)),
            };
        };
        if came.range() != part || came.size.is_some_and(|found| found != size) {
            let reason = format!(
                "the answer has the bytes {:?} of {:?}, expected {part:?} of {size}",
                came.range(),
                came.size
            );
            return Err(response.error(ErrorKind::Internal, reason));
        }
        Ok((response, part.start))
    }
}
