//! Blobs written when their digest is known, and the sessions of all uploads (distribution-spec, "Pushing blobs").

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use oci_ref::{Blob, ErrorKind, Mounted, Reopen, Staged};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Name};

use super::Repository;
use super::blobs::check_digest;
use super::session::{OpenSession, Session};
use super::staged::StagedUpload;
use crate::auth::Scopes;
use crate::builder::UploadMode;
use crate::content_range;
use crate::payload::Payload;
use crate::request::{About, Request};
use crate::response::Response;
use crate::{Error, Result, location};

impl Repository {
    pub(super) fn about_upload(&self) -> About {
        self.about("upload", ErrorCode::BlobUploadUnknown)
    }

    /// Writes a blob whose digest is known.
    pub(super) async fn write_blob(
        &self,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> Result<()> {
        self.write_blob_to(None, descriptor, content).await
    }

    /// Writes a blob whose digest is known to an upload that is open, and empty, or to a new one.
    pub(super) async fn write_blob_to(
        &self,
        mut opened: Option<OpenSession>,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> Result<()> {
        let mode = self.client().config().upload_mode;
        if mode == UploadMode::Chunked {
            return self.write_in_chunks(opened, descriptor, content).await;
        }
        let mut attempts = self.registry().attempts();
        loop {
            attempts.ready(self.registry().state()).await;
            let written = match self.session_for(opened.take(), descriptor).await {
                Ok(session)
                    if mode == UploadMode::Auto && self.wants_chunks(&session, descriptor) =>
                {
                    return self.write_in_chunks(Some(session), descriptor, content).await;
                }
                Ok(session) => {
                    let payload = Payload::Content { descriptor, content };
                    self.close_session(session, &descriptor.digest, payload).await
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => return Ok(()),
                Err(error)
                    if mode == UploadMode::Auto && matches!(error.status(), Some(413 | 416)) =>
                {
                    return self.write_in_chunks(None, descriptor, content).await;
                }
                Err(error) => attempts.failed(self.registry().state(), error).await?,
            }
        }
    }

    /// The upload for one attempt: registries differ in what one is worth after a failure.
    async fn session_for(
        &self,
        opened: Option<OpenSession>,
        descriptor: &Descriptor,
    ) -> Result<OpenSession> {
        let request = self.opening(self.algorithm_of(&descriptor.digest)?);
        match opened {
            Some(session) => Ok(session),
            None => self.opened(&self.registry().exchange(&request).await?),
        }
    }

    /// Whether a blob is sent in chunks because the registry says how large they are to be, and it is more than one.
    fn wants_chunks(&self, session: &OpenSession, descriptor: &Descriptor) -> bool {
        let config = self.client().config();
        let min_chunk = session.min_chunk();
        let asked = min_chunk > 0 && min_chunk <= config.max_chunk_size as u64;
        asked && descriptor.size > min_chunk.max(config.chunk_size as u64)
    }

    async fn write_in_chunks(
        &self,
        opened: Option<OpenSession>,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> Result<()> {
        let reading = |error: oci_ref::Error| {
            let reason = format!("the content to be sent cannot be read: {error}");
            Error::new(error.kind().clone(), self.about_blob(&descriptor.digest).what, reason)
                .with_source(error)
        };
        let algorithm = self.algorithm_of(&descriptor.digest)?;
        let mut upload = StagedUpload::new(self.clone(), algorithm, opened);
        let written = async {
            let body = content.open(0).await.map_err(reading)?;
            let mut blob = Blob::new(descriptor.clone(), body).map_err(reading)?;
            while let Some(chunk) = blob.try_next().await.map_err(reading)? {
                upload.push(chunk).await?;
            }
            Ok(())
        };
        match written.await {
            Ok(()) => Box::new(upload).finish(&descriptor.digest).await,
            Err(error) => {
                upload.give_up().await;
                Err(error)
            }
        }
    }

    /// The algorithm of a digest that is to be written. One that cannot be verified here is refused.
    fn algorithm_of(&self, digest: &Digest) -> Result<Algorithm> {
        digest.known_algorithm().ok_or_else(|| {
            let reason = "its digest cannot be verified: unsupported algorithm";
            Error::new(ErrorCode::DigestInvalid, self.about_blob(digest).what, reason)
        })
    }

    /// Opens an upload.
    pub(super) async fn open_session(&self, algorithm: Algorithm) -> Result<OpenSession> {
        self.opened(&self.registry().send(&self.opening(algorithm)).await?)
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

    /// Closes an upload with all its content, or cancels it. Not repeated.
    pub(super) async fn close_session(
        &self,
        mut opened: OpenSession,
        digest: &Digest,
        payload: Payload<'_>,
    ) -> Result<()> {
        let closed = match opened.get() {
            Some(session) => self.try_close_session(session, digest, payload).await,
            None => Ok(()),
        };
        match closed {
            Ok(()) => drop(opened.release()),
            Err(_) => opened.cancel().await,
        }
        closed
    }

    /// Closes an upload: with all its content, or with none if that is there already. Not repeated.
    pub(super) async fn try_close_session(
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
        let request = self
            .writing(Method::GET, session.url.clone(), self.about_upload())
            .expect(&[204, 200, 202]);
        let answer = self.registry().send(&request).await?;
        session.follow(&answer)?;
        offset_of(&answer, known).map(|offset| offset.unwrap_or(0))
    }

    /// Sends a chunk that begins at `offset`. Not repeated. The answer's offset is given, if it has one.
    pub(super) async fn send_chunk(
        &self,
        session: &mut Session,
        offset: u64,
        chunk: Bytes,
    ) -> Result<Option<u64>> {
        let end = offset + chunk.len() as u64;
        let range = format!("{offset}-{}", end.saturating_sub(1));
        let request = self
            .writing(Method::PATCH, session.url.clone(), self.about_upload())
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .header(header::CONTENT_RANGE, crate::request::header_value(&range))
            .payload(Payload::Bytes(chunk))
            .expect(&[202, 201, 204]);
        let answer = self.registry().exchange(&request).await?;
        session.follow(&answer)?;
        offset_of(&answer, end)
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
