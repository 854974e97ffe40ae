//! Blobs whose digest is known. One whose sending breaks off goes on where the registry has it
//! (distribution-spec, "Pushing a blob in chunks").

use futures_util::TryStreamExt;
use oci_ref::{Blob, Reopen};
use oci_spec_types::{Algorithm, Descriptor, ErrorCode};

use super::Repository;
use super::session::{OpenSession, Session};
use super::staged::StagedUpload;
use crate::builder::UploadMode;
use crate::outbound::Outbound;
use crate::payload::{MAX_EAGER, Payload};
use crate::retry::Attempts;
use crate::{Error, Result, UploadRecord, location};

/// The size of the smallest blob whose upload is worth remembering, in bytes.
const WORTH_REMEMBERING: u64 = 1 << 20;

impl Repository {
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
        opened: Option<OpenSession>,
        descriptor: &Descriptor,
        content: &dyn Reopen,
    ) -> Result<()> {
        if self.client().config().upload_mode == UploadMode::Chunked {
            return self.write_in_chunks(opened, descriptor, content).await;
        }
        let mut push = Push {
            repository: self,
            algorithm: self.algorithm_of(&descriptor.digest)?,
            blob: Outbound::new(descriptor, content),
            session: opened,
            record: None,
            found: false,
            begun: false,
            offset: 0,
            reached: 0,
            trusted: descriptor.size > MAX_EAGER,
            realigned: false,
        };
        push.recall().await;
        match push.run().await? {
            Sent::Whole => Ok(()),
            Sent::WantsChunks => {
                self.write_in_chunks(push.session.take(), descriptor, content).await
            }
        }
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
}

/// The outcome of sending a blob.
enum Sent {
    Whole,
    /// The registry is to be sent chunks, to the session if there is one.
    WantsChunks,
}

/// A blob on its way.
struct Push<'a> {
    repository: &'a Repository,
    algorithm: Algorithm,
    blob: Outbound<'a>,
    session: Option<OpenSession>,
    /// The record in which the session is remembered.
    record: Option<Box<dyn UploadRecord>>,
    /// True if the session is one that was remembered: others have sent to it.
    found: bool,
    /// True if something has been sent to the session, so that the registry says where it stands.
    begun: bool,
    /// The bytes that the registry has of what is sent next.
    offset: u64,
    /// The most bytes that the registry has said to have.
    reached: u64,
    /// True if the registry is asked what it has after a break, and believed.
    trusted: bool,
    /// True if it has refused a part that was to begin elsewhere, since it last made progress.
    realigned: bool,
}

impl Push<'_> {
    /// Looks for an upload of this blob that an earlier process has begun.
    async fn recall(&mut self) {
        let registry = self.repository.registry();
        let descriptor = self.blob.descriptor();
        let memory = registry.client().config().upload_memory.as_ref();
        let Some(memory) = memory.filter(|_| descriptor.size >= WORTH_REMEMBERING) else { return };
        self.record = memory.record(registry.host(), self.repository.name(), &descriptor.digest);
        let Some(address) = self.record.as_mut().and_then(|record| record.address()) else {
            return;
        };
        let Ok(url) = location::resolve(&address, registry.base()) else { return };
        self.give_up().await;
        let session = Session { url, min_chunk: 0 };
        self.session = Some(OpenSession::resumed(self.repository.clone(), session));
        (self.begun, self.found) = (true, true);
    }

    async fn run(&mut self) -> Result<Sent> {
        let registry = self.repository.registry();
        let automatic = self.repository.client().config().upload_mode == UploadMode::Auto;
        let mut attempts = registry.attempts();
        loop {
            attempts.ready(registry.state()).await;
            let error = match self.attempt(&mut attempts).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            let resumed = std::mem::take(&mut self.offset) > 0;
            if self.blob.take_wrong() || !self.trusted {
                // What the registry has is of no use.
                self.give_up().await;
            } else if resumed && error.status().is_some() && !error.is_retryable() {
                // It stands elsewhere by now, takes no parts, or has something else.
                if !error.has_status(416) || std::mem::replace(&mut self.realigned, true) {
                    self.distrust().await;
                }
                continue;
            }
            if automatic && matches!(error.status(), Some(413 | 416)) {
                self.give_up().await;
                return Ok(Sent::WantsChunks);
            }
            if let Some(moved) = self.blob.last_moved() {
                attempts.moved(moved);
            }
            // A registry that refuses it will do so again.
            let refused = error.status().is_some() && !error.is_retryable();
            if let Err(error) = attempts.failed(registry.state(), error).await {
                if refused || self.record.is_none() {
                    self.give_up().await;
                }
                return Err(error);
            }
        }
    }

    /// Sends what the registry does not have.
    async fn attempt(&mut self, attempts: &mut Attempts) -> Result<Sent> {
        if self.begun && self.ask().await? {
            self.release();
            return Ok(Sent::Whole);
        }
        if self.offset > self.reached {
            self.reached = self.offset;
            self.realigned = false;
            attempts.reset();
        }
        if self.session.is_none() {
            self.session = Some(self.repository.try_open_session(self.algorithm).await?);
        }
        if self.offset == 0 && self.wants_chunks() {
            return Ok(Sent::WantsChunks);
        }
        self.begun = true;
        self.remember();
        self.send().await?;
        self.release();
        Ok(Sent::Whole)
    }

    /// Asks the registry what it has. Where that is nothing, or of no use, it is to be sent all of
    /// it anew. True if it has the blob.
    async fn ask(&mut self) -> Result<bool> {
        let (repository, descriptor) = (self.repository, self.blob.descriptor());
        let Some(session) = self.session.as_mut().and_then(OpenSession::get) else {
            return Ok(false);
        };
        let sent = self.blob.reached();
        let most = if self.found { descriptor.size } else { sent };
        match repository.try_session_offset(session, self.reached).await {
            // Nobody can have more than was sent.
            Ok(Some(offset)) if offset > 0 && offset <= most => self.offset = offset,
            Ok(_) => self.give_up().await,
            Err(error) if error.is_not_found() => {
                self.release();
                // The answer to an attempt that closed it may have been lost.
                let found = match sent == descriptor.size {
                    true => repository.find_blob(&descriptor.digest).await?,
                    false => None,
                };
                return Ok(found == Some(descriptor.size));
            }
            Err(error) if error.status().is_some() && !error.is_retryable() => {
                self.distrust().await;
            }
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    /// Sends the rest, in a request of its own if the registry has some of it, and closes the
    /// upload.
    async fn send(&mut self) -> Result<()> {
        let (repository, blob) = (self.repository, &self.blob);
        let Some(session) = self.session.as_mut().and_then(OpenSession::get) else {
            return Ok(());
        };
        let Descriptor { digest, size, .. } = blob.descriptor();
        if self.offset == 0 {
            let all = Payload::Blob { blob, from: 0 };
            return repository.close_session(session, digest, all).await;
        }
        if self.offset < *size {
            let rest = Payload::Blob { blob, from: self.offset };
            let taken = repository.send_part(session, self.offset..*size, rest).await?;
            if let Some(taken) = taken.filter(|taken| taken != size) {
                let reason =
                    format!("the registry says that it has {taken} bytes, expected {size}");
                let about = repository.about_upload();
                return Err(
                    Error::new(ErrorCode::BlobUploadInvalid, about.what, reason).retryable(true)
                );
            }
        }
        repository.close_session(session, digest, Payload::Nothing).await
    }

    /// Tells whether the blob is sent in chunks because the registry says how large they are to
    /// be, and it is more than one.
    fn wants_chunks(&self) -> bool {
        let config = self.repository.client().config();
        let min_chunk = self.session.as_ref().map_or(0, OpenSession::min_chunk);
        let asked = min_chunk > 0 && min_chunk <= config.max_chunk_size as u64;
        config.upload_mode == UploadMode::Auto
            && asked
            && self.blob.descriptor().size > min_chunk.max(config.chunk_size as u64)
    }

    /// Keeps where the session goes on.
    fn remember(&mut self) {
        if let Some(open) = &mut self.session
            && let Some(record) = &mut self.record
            && let Some(session) = open.get()
        {
            let kept = record.keep(session.url.as_str());
            open.set_named(kept);
        }
    }

    /// The session is none to go on with any more.
    fn forget(&mut self) {
        (self.begun, self.found) = (false, false);
        if let Some(record) = &mut self.record {
            record.forget();
        }
    }

    /// Asks the registry no more about uploads.
    async fn distrust(&mut self) {
        self.trusted = false;
        self.give_up().await;
    }

    /// Cancels the session, if there is one.
    async fn give_up(&mut self) {
        self.forget();
        if let Some(session) = self.session.take() {
            session.cancel().await;
        }
    }

    /// There is no session to cancel any more.
    fn release(&mut self) {
        self.forget();
        drop(self.session.take().and_then(OpenSession::release));
    }
}
