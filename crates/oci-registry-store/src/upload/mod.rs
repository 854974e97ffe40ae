//! Uploads: a blob on its way in.
//!
//! Small content is gathered in memory and goes into the database in one write. As soon as there is more, it goes straight
//! into the object where it will stay.

mod fork;
mod gather;
mod held;
mod id;
mod object;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Error, ErrorKind, Result, Staged, UploadId};
use oci_spec_types::{Algorithm, Digest, Name};

use self::gather::Gathered;
use self::held::Share;
use self::object::{End, ObjectUpload, Session, Start};
use crate::buffers::{Buffers, LARGE};
use crate::engine::Engine;
use crate::metadata::{Claimed, Content, NewBlob, Progress, SessionRecord, SessionState};

pub(crate) use held::{Held, OpenUploads};
pub(crate) use id::{SessionId, Tokens, now};

/// How many bytes are written to a file at a time when there are no large buffers left.
const LITTLE: usize = 64 << 10;

/// What uploads are gathered in: buffers that others may share. What is on its way to a bucket waits there for long, and is
/// counted there, but for the piece that is being gathered and the next two.
pub(crate) fn buffers(shared: &Buffers, to_bucket: bool) -> Buffers {
    match to_bucket {
        true => Buffers::new(0, LARGE),
        false => shared.or(LITTLE),
    }
}

/// An upload.
pub(crate) struct Upload {
    engine: Arc<Engine>,
    repository: Name,
    algorithm: Algorithm,
    /// The session's name, if it has one.
    id: Option<SessionId>,
    /// The claim on the session. The object takes it over.
    session: Option<Session>,
    offset: u64,
    /// What has not been handed to the object: all there is, as long as there is no object.
    buffer: Gathered,
    object: Option<ObjectUpload>,
}

impl Upload {
    /// Begins an upload.
    pub(crate) fn begin(engine: Arc<Engine>, repository: Name, algorithm: Algorithm) -> Self {
        let (id, session, object) = (None, None, None);
        Self {
            engine,
            repository,
            algorithm,
            id,
            session,
            offset: 0,
            buffer: Gathered::new(),
            object,
        }
    }

    /// Goes on with a suspended upload, which nobody else does.
    pub(crate) async fn resume(
        engine: Arc<Engine>,
        repository: Name,
        token: &UploadId,
    ) -> Result<Self> {
        let (id, algorithm) = engine.tokens.check(&repository, token)?;
        let Some(claim) = engine.metadata.claim_session(&id).await? else {
            let size = Self::offset_of(&engine, &repository, token).await?;
            let message =
                format!("upload {id} is being written by another request, and is at {size} bytes");
            return Err(Error::new(ErrorKind::RangeInvalid { size }, message));
        };
        let record = find(&engine, &repository, token, &id).await?;
        let version = record.as_ref().map(|record| record.version);
        let inherited = claim.inherited();
        let session = Session { claimed: Claimed { id: id.clone(), version }, claim };
        let mut upload = Self::begin(engine, repository, algorithm);
        upload.id = Some(id);
        upload.session = Some(session);
        if let Some(SessionRecord { offset, hash_state, content, state, .. }) = record {
            match content {
                // Of an object store that keeps small parts aside, it can be more than fits the buffer.
                Content::Inline(data) => upload.append(data).await?,
                Content::Object(key) => {
                    upload.open(Start::Recorded { key, offset, state, hash_state, inherited });
                    upload.offset = offset;
                }
            }
        }
        Ok(upload)
    }

    /// How many bytes of a suspended upload are recorded.
    pub(crate) async fn offset_of(
        engine: &Engine,
        repository: &Name,
        token: &UploadId,
    ) -> Result<u64> {
        let (id, _) = engine.tokens.check(repository, token)?;
        let record = find(engine, repository, token, &id).await?;
        Ok(record.map_or(0, |record| record.offset))
    }

    fn open(&mut self, start: Start) -> &mut ObjectUpload {
        let object =
            ObjectUpload::start(&self.engine, &self.repository, self.session.take(), start);
        self.object.insert(object)
    }

    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        match &mut self.object {
            Some(object) => object.append(chunk).await,
            None => self.open(Start::Fresh(self.algorithm)).append(chunk).await,
        }
    }

    async fn flush(&mut self) -> Result<()> {
        match self.buffer.take() {
            chunk if chunk.is_empty() => Ok(()),
            chunk => self.write(chunk).await,
        }
    }

    /// The object with all that was appended, to end it. `None` for content that is small enough for the database.
    async fn take_object(&mut self) -> Result<Option<ObjectUpload>> {
        if self.object.is_some() || self.buffer.len() > self.engine.options.inline_limit {
            self.flush().await?;
        }
        Ok(self.object.take())
    }

    async fn commit_inline(mut self, digest: &Digest) -> Result<()> {
        let data = self.buffer.take();
        let session = self.session.as_ref().map(|session| session.claimed.clone());
        let mut hasher = digest.known_algorithm().unwrap_or(self.algorithm).hasher();
        hasher.update(&data);
        if let Err(error) = object::check(hasher, digest) {
            if let Some(session) = session
                && let Err(failed) = self.engine.metadata.close_session(session).await
            {
                tracing::warn!(error = %failed, "an upload could not be closed; it will expire");
            }
            return Err(error);
        }
        self.engine.room_for_row(data.len() as u64).await?;
        let blob = NewBlob {
            repository: self.repository,
            digest: digest.clone(),
            size: data.len() as u64,
            content: Content::Inline(data),
            session,
            now: self.engine.now(),
        };
        self.engine.metadata.commit_blob(blob).await.map(|_| ())
    }

    async fn record_inline(&mut self, id: &SessionId) -> Result<()> {
        let claimed = self.session.as_ref().map(|session| session.claimed.clone());
        let session = claimed.unwrap_or_else(|| Claimed { id: id.clone(), version: None });
        if self.buffer.len() == 0 && session.version.is_none() {
            // The token alone says all that there is to say. Who is told so may go on at once, and elsewhere.
            match self.session.take() {
                Some(session) => session.claim.give_back().await,
                None => self.engine.metadata.session_begun(id),
            }
            return Ok(());
        }
        let (metadata, bytes) = (&*self.engine.metadata, self.buffer.len() as u64);
        self.engine.room_for_row(bytes).await?;
        let is_recorded = session.version.is_some();
        // Until it is recorded.
        let mut share = Share::begin(&self.engine.open_uploads, metadata, is_recorded).await?;
        share.grow(metadata, bytes).await?;
        let progress = Progress {
            session,
            repository: self.repository.clone(),
            offset: self.offset,
            // It is hashed when it is complete.
            hash_state: Vec::new(),
            content: Content::Inline(self.buffer.take()),
            state: Bytes::new(),
            now: now(),
        };
        self.engine.metadata.record_session(progress).await
    }
}

/// What is recorded of a session, which may be nothing yet. An error if it has ended or expired.
async fn find(
    engine: &Engine,
    repository: &Name,
    token: &UploadId,
    id: &SessionId,
) -> Result<Option<SessionRecord>> {
    let idle = engine.options.session_idle;
    match engine.metadata.session(repository, id).await? {
        SessionState::Open(record) if record.touched >= idle_since(idle) => Ok(Some(record)),
        SessionState::Blank if id.as_str() >= SessionId::made_before(idle).as_str() => Ok(None),
        _ => Err(id::unknown(token)),
    }
}

/// Sessions that were last written before this have expired. In seconds since 1970.
pub(crate) fn idle_since(idle: std::time::Duration) -> i64 {
    now().saturating_sub(seconds(idle))
}

/// A time in whole seconds, as times are stored.
pub(crate) fn seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Staged for Upload {
    fn offset(&self) -> u64 {
        self.offset
    }

    async fn append(&mut self, mut chunk: Bytes) -> Result<()> {
        while !chunk.is_empty() {
            let before = chunk.len();
            if self.buffer.len() == 0 && before >= LARGE {
                let whole = chunk.split_to(LARGE);
                self.offset += whole.len() as u64;
                self.write(whole).await?;
                continue;
            }
            let full = self.buffer.fill(&mut chunk, &self.engine.upload_buffers);
            self.offset += (before - chunk.len()) as u64;
            if full {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<()> {
        match self.take_object().await? {
            Some(object) => object.end(End::Commit(digest.clone())).await,
            None => self.commit_inline(digest).await,
        }
    }

    async fn suspend(mut self: Box<Self>) -> Result<UploadId> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => SessionId::fresh()?,
        };
        match self.take_object().await? {
            Some(object) => object.end(End::Suspend(id.clone())).await?,
            None => self.record_inline(&id).await?,
        }
        Ok(self.engine.tokens.make(&self.repository, &id, self.algorithm))
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        match (self.object.take(), self.session.take()) {
            (Some(object), _) => object.end(End::Cancel).await,
            (None, Some(session)) => {
                self.engine.metadata.close_session(session.claimed).await.map(|_| ())
            }
            (None, None) => Ok(()),
        }
    }
}
