//! Blobs written before their digest is known: in chunks (distribution-spec, "Pushing a blob in chunks").

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use oci_ref::{ErrorKind, Reopen, Staged, UploadId};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Hasher, VerifyError};
use reqwest::Url;

use super::Repository;
use super::session::{OpenSession, Session};
use crate::payload::Payload;
use crate::{Error, Result, location};

/// In how many parts a registry may take a chunk.
const MAX_PARTS: usize = 100;

/// A blob that is being written. At most a chunk of it is held in memory; what fits into one is sent in one request.
pub(super) struct StagedUpload {
    repository: Repository,
    algorithm: Algorithm,
    /// Opened when there is something to send.
    session: Option<OpenSession>,
    buffer: BytesMut,
    /// How many bytes the registry has.
    sent: u64,
    /// Of the bytes that the registry has; `None` if what was sent before is not known.
    hasher: Option<Hasher>,
    failed: bool,
}

impl StagedUpload {
    /// An upload of which nothing has been sent. A session that is not given is opened when it is needed.
    pub(super) fn new(
        repository: Repository,
        algorithm: Algorithm,
        session: Option<OpenSession>,
    ) -> Self {
        Self {
            repository,
            algorithm,
            session,
            buffer: BytesMut::new(),
            sent: 0,
            hasher: Some(algorithm.hasher()),
            failed: false,
        }
    }

    /// Goes on with a suspended upload, from where the registry says that it stands.
    pub(super) async fn resume(repository: Repository, upload: &UploadId) -> Result<Self> {
        let Suspended { mut session, offset, hasher } = Suspended::parse(&repository, upload)?;
        let sent = repository.session_offset(&mut session, offset).await?;
        let algorithm = hasher.as_ref().map_or(Algorithm::Sha256, Hasher::algorithm);
        Ok(Self {
            sent,
            hasher: hasher.filter(|_| sent == offset),
            session: Some(OpenSession::resumed(repository.clone(), session)),
            ..Self::new(repository, algorithm, None)
        })
    }

    /// How many bytes a suspended upload has, by the registry.
    pub(super) async fn offset_of(repository: &Repository, upload: &UploadId) -> Result<u64> {
        let Suspended { mut session, offset, .. } = Suspended::parse(repository, upload)?;
        repository.session_offset(&mut session, offset).await
    }

    /// Writes more bytes at the end; sends as many whole chunks as there are.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.check()?;
        self.buffer.extend_from_slice(&chunk);
        let size = self.repository.client().config().chunk_size;
        while self.buffer.len() >= size {
            let min_chunk = self.open().await?.min_chunk;
            let size = self.chunk_size(min_chunk)?;
            if self.buffer.len() < size {
                break;
            }
            self.flush(size).await?;
        }
        Ok(())
    }

    /// Verifies that all that was written has this digest, and names it.
    pub(super) async fn finish(mut self: Box<Self>, digest: &Digest) -> Result<()> {
        let finished = self.try_finish(digest).await;
        if finished.is_err() {
            self.give_up().await;
        }
        finished
    }

    async fn try_finish(&mut self, digest: &Digest) -> Result<()> {
        self.check()?;
        self.verify(digest)?;
        if self.sent > 0 && !self.buffer.is_empty() {
            self.flush(self.buffer.len()).await?;
        }
        let rest = self.buffer.split().freeze();
        let total = self.sent + rest.len() as u64;
        let mut attempts = self.repository.registry().attempts();
        let mut failed_before = false;
        loop {
            let state = self.repository.registry().state();
            attempts.ready(state).await;
            let session = self.open().await?.clone();
            let payload = Payload::Bytes(rest.clone());
            let error = match self.repository.close_session(&session, digest, payload).await {
                Ok(()) => {
                    self.close();
                    return Ok(());
                }
                Err(error) => error,
            };
            // The answer to an attempt that closed it may have been lost.
            if failed_before
                && error.is_not_found()
                && self.repository.find_blob(digest).await? == Some(total)
            {
                self.close();
                return Ok(());
            }
            attempts.failed(self.repository.registry().state(), error).await?;
            failed_before = true;
            if self.sent == 0 {
                // What a session is worth after a failure differs from registry to registry.
                self.give_up().await;
            }
        }
    }

    /// Writes what of a blob has not been written yet.
    async fn append_rest(
        &mut self,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> oci_ref::Result<()> {
        let mut body = content.open(self.offset()).await?;
        while let Some(chunk) = body.try_next().await? {
            self.push(chunk).await?;
        }
        let (found, expected) = (self.offset(), descriptor.size);
        if found == expected {
            return Ok(());
        }
        let reason = format!("it has {found} bytes, expected {expected}");
        let about = self.repository.about_blob(&descriptor.digest);
        Err(Error::new(ErrorCode::SizeInvalid, about.what, reason).into())
    }

    /// Cancels the session, if there is one.
    pub(super) async fn give_up(&mut self) {
        if let Some(session) = self.session.take() {
            session.cancel().await;
        }
    }

    /// There is nothing left to cancel.
    fn close(&mut self) {
        drop(self.session.take().and_then(OpenSession::release));
    }

    fn check(&self) -> Result<()> {
        if !self.failed {
            return Ok(());
        }
        let about = self.repository.about_upload();
        Err(Error::new(ErrorKind::Invalid, about.what, "it has failed before, and cannot go on"))
    }

    fn verify(&self, digest: &Digest) -> Result<()> {
        let Some(hasher) = self
            .hasher
            .as_ref()
            .filter(|hasher| digest.known_algorithm() == Some(hasher.algorithm()))
        else {
            // The registry verifies.
            return Ok(());
        };
        let mut hasher = hasher.clone();
        hasher.update(&self.buffer);
        let actual = hasher.finish();
        if actual == *digest {
            return Ok(());
        }
        let error = VerifyError::Mismatch { expected: digest.clone(), actual };
        let about = self.repository.about_blob(digest);
        Err(Error::new(ErrorCode::DigestInvalid, about.what, error.to_string()).with_source(error))
    }

    async fn open(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            self.session = Some(self.repository.open_session(self.algorithm).await?);
        }
        let session = self.session.as_mut().and_then(OpenSession::get);
        session.ok_or_else(|| {
            let about = self.repository.about_upload();
            Error::new(ErrorKind::Internal, about.what, "its session was given away")
        })
    }

    /// How large chunks are: as configured, or larger if the registry wants it.
    fn chunk_size(&self, min_chunk: u64) -> Result<usize> {
        let config = self.repository.client().config();
        match usize::try_from(min_chunk) {
            Ok(min) if min <= config.max_chunk_size => Ok(config.chunk_size.max(min)),
            _ => Err(Error::new(
                ErrorKind::TooLarge { limit: config.max_chunk_size as u64 },
                self.repository.about_upload().what,
                format!("the registry wants chunks of at least {min_chunk} bytes"),
            )),
        }
    }

    /// Sends the first `size` bytes of the buffer as one chunk.
    async fn flush(&mut self, size: usize) -> Result<()> {
        self.open().await?;
        self.failed = true;
        let chunk = self.buffer.split_to(size).freeze();
        self.send(&chunk).await?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.failed = false;
        self.sent += size as u64;
        Ok(())
    }

    /// Sends a chunk; after a failure, what of it the registry does not have.
    async fn send(&mut self, chunk: &Bytes) -> Result<()> {
        let repository = self.repository.clone();
        let state = repository.registry().state();
        let (start, end) = (self.sent, self.sent + chunk.len() as u64);
        let mut offset = start;
        let mut attempts = repository.registry().attempts();
        let (mut realigned, mut parts) = (false, 0);
        let session = self.open().await?;
        while offset < end {
            attempts.ready(state).await;
            // The offset lies within the chunk, whose length is a usize.
            let rest = chunk.slice((offset - start) as usize..);
            let reached = match repository.send_chunk(session, offset, rest).await {
                Ok(reached) => reached.unwrap_or(end),
                // The registry stands elsewhere than was thought; so `0-0` cannot mean that it has nothing.
                Err(error) if error.has_status(416) && !realigned => {
                    realigned = true;
                    repository.session_offset(session, offset.max(1)).await?
                }
                Err(error) => {
                    attempts.failed(state, error).await?;
                    let reached = repository.session_offset(session, offset).await?;
                    if reached == offset {
                        continue;
                    }
                    reached
                }
            };
            parts += 1;
            if reached <= offset || reached > end || parts > MAX_PARTS {
                let reason = format!(
                    "the registry says that it has {reached} bytes, expected {end} ({parts} answers)"
                );
                return Err(Error::new(
                    ErrorCode::BlobUploadInvalid,
                    repository.about_upload().what,
                    reason,
                ));
            }
            offset = reached;
        }
        Ok(())
    }

    /// What is written of it so far becomes the registry's, and gets a name. What is less than the smallest chunk that
    /// the registry takes can not, and is to be written again.
    async fn leave(mut self: Box<Self>) -> Result<UploadId> {
        self.check()?;
        let min_chunk = self.open().await?.min_chunk;
        if !self.buffer.is_empty() && self.buffer.len() as u64 >= min_chunk {
            self.flush(self.buffer.len()).await?;
        }
        let session = self.open().await?.clone();
        let name = Suspended { session, offset: self.sent, hasher: self.hasher.take() }.name();
        self.close();
        Ok(name)
    }
}

/// A suspended upload: `OFFSET:SMALLEST CHUNK:HASH STATE:ADDRESS`.
struct Suspended {
    session: Session,
    offset: u64,
    hasher: Option<Hasher>,
}

impl Suspended {
    fn name(&self) -> UploadId {
        let state = self.hasher.as_ref().map(|hasher| BASE64_URL_SAFE_NO_PAD.encode(hasher.save()));
        let Session { url, min_chunk } = &self.session;
        UploadId(format!("{}:{min_chunk}:{}:{url}", self.offset, state.unwrap_or_default()))
    }

    fn parse(repository: &Repository, upload: &UploadId) -> Result<Self> {
        let mut parts = upload.0.splitn(4, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (offset, min_chunk) = (part().parse().ok(), part().parse().ok());
        let (state, url) = (part(), part());
        let url = Url::parse(url)
            .ok()
            .and_then(|_| location::resolve(url, repository.registry().base()).ok());
        // A state that cannot be read is left out: then the registry alone verifies.
        let hasher = BASE64_URL_SAFE_NO_PAD
            .decode(state)
            .ok()
            .and_then(|state| Hasher::restore(&state).ok());
        match (offset, min_chunk, url) {
            (Some(offset), Some(min_chunk), Some(url)) => {
                Ok(Self { session: Session { url, min_chunk }, offset, hasher })
            }
            _ => Err(Error::new(
                ErrorCode::BlobUploadUnknown,
                repository.about_upload().what,
                "its name was not given by this client",
            )),
        }
    }
}

#[async_trait]
impl Staged for StagedUpload {
    fn offset(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    async fn append(&mut self, chunk: Bytes) -> oci_ref::Result<()> {
        Ok(self.push(chunk).await?)
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> oci_ref::Result<()> {
        Ok(self.finish(digest).await?)
    }

    /// As long as nothing has been written, the blob is sent as one whose digest is known always is: registries differ in
    /// whether they take chunks.
    async fn put(
        mut self: Box<Self>,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> oci_ref::Result<()> {
        if self.offset() == 0 && !self.failed {
            let session = self.session.take();
            return Ok(self.repository.write_blob_to(session, descriptor, content).await?);
        }
        let written = self.append_rest(descriptor, content).await;
        match written {
            Ok(()) => Ok(self.finish(&descriptor.digest).await?),
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        }
    }

    async fn suspend(self: Box<Self>) -> oci_ref::Result<UploadId> {
        Ok(self.leave().await?)
    }

    async fn cancel(mut self: Box<Self>) -> oci_ref::Result<()> {
        self.give_up().await;
        Ok(())
    }
}
