//! The requests of which uploads are made (distribution-spec, "Pushing blobs").

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use oci_ref::{ErrorKind, Mounted, Staged};
use oci_spec_types::{Algorithm, Digest, ErrorCode, Name};

use super::Repository;
use super::blobs::check_digest;
use super::session::{OpenSession, Session};
use super::staged::StagedUpload;
use crate::auth::Scopes;
use crate::content_range;
use crate::payload::Payload;
use crate::request::{About, Request};
use crate::response::Response;
use crate::{Error, Result, location};

impl Repository {
    pub(super) fn about_upload(&self) -> About {
        self.about("upload", ErrorCode::BlobUploadUnknown)
    }

    /// The algorithm of a digest that is to be written. One that cannot be verified here is refused.
    pub(super) fn algorithm_of(&self, digest: &Digest) -> Result<Algorithm> {
        digest.known_algorithm().ok_or_else(|| {
            let reason = "its digest cannot be verified: unsupported algorithm";
            Error::new(ErrorCode::DigestInvalid, self.about_blob(digest).what, reason)
        })
    }

    /// Opens an upload.
    pub(super) async fn open_session(&self, algorithm: Algorithm) -> Result<OpenSession> {
        self.opened(&self.registry().send(&self.opening(algorithm)).await?)
    }

    /// Opens an upload. Not repeated.
    pub(super) async fn try_open_session(&self, algorithm: Algorithm) -> Result<OpenSession> {
        self.opened(&self.registry().exchange(&self.opening(algorithm)).await?)
    }

    fn opened(&self, answer: &Response) -> Result<OpenSession> {
        Ok(OpenSession::new(self.clone(), Session::of(answer)?))
    }

    fn opening(&self, algorithm: Algorithm) -> Request<'_> {
        let mut url = self.url("blobs/uploads/");
        if algorithm != Algorithm::Sha256 {
            url = location::with_query(url, "digest-algorithm", algorithm.as_str());
        }
        let about = self.about("new upload", ErrorCode::NameUnknown);
        self.writing(Method::POST, url, about).expect(&[202])
    }

    /// Closes an upload: with all its content, or with none if that is there already. Not repeated.
    pub(super) async fn close_session(
        &self,
        session: &Session,
        digest: &Digest,
        payload: Payload<'_>,
    ) -> Result<()> {
        let url = location::with_query(session.url.clone(), "digest", digest.as_str());
        let about =
            self.about(format_args!("upload of blob {digest}"), ErrorCode::BlobUploadUnknown);
        let request = self
            .writing(Method::PUT, url, about)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .payload(payload)
            .expect(&[201]);
        let answer = self.registry().exchange(&request).await?;
        check_digest(&answer, digest)
    }

    /// How many bytes an upload has, by the registry. `known` is what this side knows of.
    pub(super) async fn session_offset(&self, session: &mut Session, known: u64) -> Result<u64> {
        let answer = self.registry().send(&self.asking(session)).await?;
        session.follow(&answer)?;
        offset_of(&answer, known).map(|offset| offset.unwrap_or(0))
    }

    /// The bytes that an upload has, by the registry; `None` if it does not say. Not repeated.
    pub(super) async fn try_session_offset(
        &self,
        session: &mut Session,
        known: u64,
    ) -> Result<Option<u64>> {
        let answer = self.registry().exchange(&self.asking(session)).await?;
        session.follow(&answer)?;
        offset_of(&answer, known)
    }

    fn asking(&self, session: &Session) -> Request<'_> {
        self.writing(Method::GET, session.url.clone(), self.about_upload()).expect(&[204, 200, 202])
    }

    /// Sends a chunk that begins at `offset`. Not repeated. The answer's offset is given, if it has one.
    pub(super) async fn send_chunk(
        &self,
        session: &mut Session,
        offset: u64,
        chunk: Bytes,
    ) -> Result<Option<u64>> {
        let range = offset..offset + chunk.len() as u64;
        self.send_part(session, range, Payload::Bytes(chunk)).await
    }

    /// Sends a part of a blob. Not repeated. The answer's offset is given, if it has one.
    pub(super) async fn send_part(
        &self,
        session: &mut Session,
        part: Range<u64>,
        payload: Payload<'_>,
    ) -> Result<Option<u64>> {
        let range = format!("{}-{}", part.start, part.end.saturating_sub(1));
        let request = self
            .writing(Method::PATCH, session.url.clone(), self.about_upload())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .header(header::CONTENT_RANGE, crate::request::header_value(&range))
            .payload(payload)
            .expect(&[202, 201, 204]);
        let answer = self.registry().exchange(&request).await?;
        session.follow(&answer)?;
        offset_of(&answer, part.end)
    }

    /// Takes a blob over from a sibling repository. A registry that refuses is no error: the blob can still be sent.
    pub(super) async fn mount_blob(&self, digest: &Digest, from: Option<&Name>) -> Result<Mounted> {
        let mut url = location::with_query(self.url("blobs/uploads/"), "mount", digest.as_str());
        let mut scopes = Scopes::push(self.name());
        if let Some(from) = from {
            url = location::with_query(url, "from", from.as_str());
            scopes = scopes.merge(&Scopes::pull(from));
        }
        let about = self.about(format_args!("mount of blob {digest}"), ErrorCode::BlobUnknown);
        let request = self.request(Method::POST, url, about).scopes(scopes).expect(&[201, 202]);
        let answer = match self.registry().send(&request).await {
            Ok(answer) => answer,
            Err(error) if error.status().is_some() => return Ok(Mounted::No),
            Err(error) => return Err(error),
        };
        if answer.status() == StatusCode::CREATED {
            check_digest(&answer, digest)?;
            return Ok(Mounted::Done);
        }
        let algorithm = digest.known_algorithm().unwrap_or(Algorithm::Sha256);
        let upload = StagedUpload::new(self.clone(), algorithm, Some(self.opened(&answer)?));
        Ok(Mounted::Upload(Box::new(upload) as Box<dyn Staged>))
    }
}

/// How many bytes an upload has, by the `Range` of an answer; `None` if there is none.
fn offset_of(answer: &Response, known: u64) -> Result<Option<u64>> {
    let Some(value) = answer.header(header::RANGE) else {
        return Ok(None);
    };
    match content_range::upload_offset(value, known) {
        Some(offset) => Ok(Some(offset)),
        None => {
            Err(answer
                .error(ErrorKind::Internal, format!("Range is {value:?}, which says no length")))
        }
    }
}
