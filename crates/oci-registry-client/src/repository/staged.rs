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
use super::uploads::Session;
use crate::payload::Payload;
use crate::retry::Attempts;
use crate::{Error, Result, location};

/// A blob that is being written. At most a chunk of it is held in memory; what fits into one is sent in one request.
pub(super) struct StagedUpload {
    repository: Repository,
    algorithm: Algorithm,
    /// Opened when there is something to send.
    session: Option<Session>,
    buffer: BytesMut,
    /// How many bytes the registry has.
    sent: u64,
    /// Of all bytes; `None` if what was sent before is not known.
    hasher: Option<Hasher>,
    failed: bool,
}

impl StagedUpload {
    /// An upload of which nothing has been sent. A session that is not given is opened when it is needed.
    pub(super) fn new(
        repository: Repository,
        algorithm: Algorithm,
        session: Option<Session>,
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
        let Suspended { url, offset, hasher } = Suspended::parse(&repository, upload)?;
        let mut session = Session { url, min_chunk: 0 };
        let sent = repository.session_offset(&mut session, offset).await?;
        let algorithm = hasher.as_ref().map_or(Algorithm::Sha256, Hasher::algorithm);
        Ok(Self {
            sent,
            hasher: hasher.filter(|_| sent == offset),
            ..Self::new(repository, algorithm, Some(session))
        })
    }

    /// How many bytes a suspended upload has, by the registry.
    pub(super) async fn offset_of(repository: &Repository, upload: &UploadId) -> Result<u64> {
        let Suspended { url, offset, .. } = Suspended::parse(repository, upload)?;
        repository.session_offset(&mut Session { url, min_chunk: 0 }, offset).await
    }

    /// Writes more bytes at the end; sends as many whole chunks as there are.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<()> {
        self.check()?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.buffer.extend_from_slice(&chunk);
        let size = self.repository.client().config().chunk_size;
        while self.buffer.len() >= size {
            let session = self.open().await?;
            let size = self.chunk_size(&session)?;
            if self.buffer.len() < size {
                break;
            }
            self.flush(session, size).await?;
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
            let session = self.open().await?;
            self.flush(session, self.buffer.len()).await?;
        }
        let rest = self.buffer.split().freeze();
        let total = self.sent + rest.len() as u64;
        let mut attempts = Attempts::new(self.repository.client().clone());
        let mut failed_before = false;
        loop {
            let state = self.repository.registry().state();
            attempts.ready(state).await;
            let session = self.open().await?;
            let error = match self
                .repository
                .close_session(&session, digest, Payload::Bytes(rest.clone()))
                .await
            {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // The answer to an attempt that closed it may have been lost.
            if failed_before
                && error.is_not_found()
                && self.repository.find_blob(digest).await? == Some(total)
            {
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
            self.repository.cancel_session(&session).await;
        }
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
        let actual = hasher.clone().finish();
        if actual == *digest {
            return Ok(());
        }
        let error = VerifyError::Mismatch { expected: digest.clone(), actual };
        let about = self.repository.about_blob(digest);
        Err(Error::new(ErrorCode::DigestInvalid, about.what, error.to_string()).with_source(error))
    }

    async fn open(&mut self) -> Result<Session> {
        if let Some(session) = &self.session {
            return Ok(session.clone());
        }
        let session = self.repository.open_session(self.algorithm).await?;
        Ok(self.session.insert(session).clone())
    }

    /// How large chunks are: as configured, or larger if the registry wants it.
    fn chunk_size(&self, session: &Session) -> Result<usize> {
        let config = self.repository.client().config();
        match usize::try_from(session.min_chunk) {
            Ok(min) if min <= config.max_chunk_size => Ok(config.chunk_size.max(min)),
            _ => Err(Error::new(
                ErrorKind::TooLarge { limit: config.max_chunk_size as u64 },
                self.repository.about_upload().what,
                format!("the registry wants chunks of at least {} bytes", session.min_chunk),
            )),
        }
    }

    /// Sends the first `size` bytes of the buffer as one chunk.
    async fn flush(&mut self, mut session: Session, size: usize) -> Result<()> {
        let chunk = self.buffer.split_to(size).freeze();
        self.failed = true;
        self.send(&mut session, chunk).await?;
        self.failed = false;
        self.session = Some(session);
        self.sent += size as u64;
        Ok(())
    }

    /// Sends a chunk; after a failure, what of it the registry does not have.
    async fn send(&self, session: &mut Session, chunk: Bytes) -> Result<()> {
        let repository = &self.repository;
        let state = repository.registry().state();
        let (start, end) = (self.sent, self.sent + chunk.len() as u64);
        let mut offset = start;
        let mut attempts = Attempts::new(repository.client().clone());
        let mut realigned = false;
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
            if reached <= offset || reached > end {
                let reason =
                    format!("the registry says that it has {reached} bytes, expected {end}");
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

    /// What is written of it so far becomes the registry's, and gets a name.
    async fn leave(mut self: Box<Self>) -> Result<UploadId> {
        self.check()?;
        let session = self.open().await?;
        if !self.buffer.is_empty() {
            self.flush(session, self.buffer.len()).await?;
        }
        let session = self.open().await?;
        Ok(Suspended { url: session.url, offset: self.sent, hasher: self.hasher }.name())
    }
}

/// A suspended upload: `OFFSET:HASH STATE:ADDRESS`.
struct Suspended {
    url: Url,
    offset: u64,
    hasher: Option<Hasher>,
}

impl Suspended {
    fn name(&self) -> UploadId {
        let state = self.hasher.as_ref().map(|hasher| BASE64_URL_SAFE_NO_PAD.encode(hasher.save()));
        UploadId(format!("{}:{}:{}", self.offset, state.unwrap_or_default(), self.url))
    }

    fn parse(repository: &Repository, upload: &UploadId) -> Result<Self> {
        let mut parts = upload.0.splitn(3, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (offset, state, url) = (part().parse().ok(), part(), part());
        let url = Url::parse(url)
            .ok()
            .and_then(|_| location::resolve(url, repository.registry().base()).ok());
        // A state that cannot be read is left out: then the registry alone verifies.
        let hasher = BASE64_URL_SAFE_NO_PAD
            .decode(state)
            .ok()
            .and_then(|state| Hasher::restore(&state).ok());
        match (offset, url) {
            (Some(offset), Some(url)) => Ok(Self { url, offset, hasher }),
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
