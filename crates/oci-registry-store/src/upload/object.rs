//! Writing an upload's object.
//!
//! A task of its own owns the object and sees it to one of its ends: named, recorded, or deleted. Whoever appends may go away
//! at any moment, so that none of these steps can be left half done. Memory is bounded: one chunk is being
//! hashed and written, one waits, and one is being filled by the upload.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Error, ErrorKind, Result};
use oci_spec_types::{Algorithm, Digest, Hasher, Name, VerifyError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::fork::fork;
use super::held::Share;
use super::{SessionId, now};
use crate::blocking;
use crate::engine::Engine;
use crate::metadata::{Claim, Claimed, Content, NewBlob, Progress, Stored};
use crate::objects::{Finished, Journal, ObjectKey, ObjectWrite, Suspended};

/// A session that an upload belongs to, and the right to write to it.
pub(super) struct Session {
    pub(super) claimed: Claimed,
    pub(super) claim: Claim,
}

/// Where an object begins.
pub(super) enum Start {
    /// With nothing.
    Fresh(Algorithm),
    /// After what a session has recorded.
    Recorded {
        key: ObjectKey,
        offset: u64,
        state: Bytes,
        hash_state: Vec<u8>,
        /// Somebody else may be writing to the object still.
        inherited: bool,
    },
}

/// The handle of the task. If it is dropped without an end, the upload is given up.
pub(super) struct ObjectUpload {
    commands: mpsc::Sender<Command>,
    /// `None` after it has failed.
    task: Option<JoinHandle<Result<()>>>,
}

/// How an upload ends.
pub(super) enum End {
    /// It has this digest, or fails.
    Commit(Digest),
    /// It is recorded in the session, or as this one if it has none yet.
    Suspend(SessionId),
    /// It is given up, and so is its session.
    Cancel,
}

enum Command {
    Append(Bytes),
    End(End),
}

impl ObjectUpload {
    pub(super) fn start(
        engine: &Arc<Engine>,
        repository: &Name,
        session: Option<Session>,
        start: Start,
    ) -> Self {
        let (commands, queue) = mpsc::channel(1);
        let (claimed, claim) = session.map(|session| (session.claimed, session.claim)).unzip();
        let (engine, repository) = (Arc::clone(engine), repository.clone());
        let task = tokio::spawn(async move {
            // Nobody else may write before this task has ended.
            let _claim = claim;
            let object = Object::open(engine, repository, claimed, start).await?;
            object.run(queue).await
        });
        Self { commands, task: Some(task) }
    }

    pub(super) async fn append(&mut self, chunk: Bytes) -> Result<()> {
        match self.commands.send(Command::Append(chunk)).await {
            Ok(()) => Ok(()),
            // It takes no more, so it has failed.
            Err(_) => self.outcome().await,
        }
    }

    pub(super) async fn end(mut self, end: End) -> Result<()> {
        // If it takes no more, its outcome tells why.
        let _ = self.commands.send(Command::End(end)).await;
        self.outcome().await
    }

    async fn outcome(&mut self) -> Result<()> {
        match self.task.take() {
            Some(task) => task.await.map_err(blocking::stopped)?,
            None => Err(Error::new(ErrorKind::Invalid, "the upload has failed before")),
        }
    }
}

/// An object that is being written.
struct Object {
    engine: Arc<Engine>,
    repository: Name,
    session: Option<Claimed>,
    key: ObjectKey,
    writer: Box<dyn ObjectWrite>,
    /// `None` if its state was not understood: then the object is read again when it is finished.
    hasher: Option<Hasher>,
    offset: u64,
    /// How much of the object its session has recorded; `None` if it has nothing of it.
    recorded: Option<u64>,
    /// The object that the session has recorded, if this one is to replace it.
    replaced: Option<ObjectKey>,
    share: Share,
}

impl Object {
    async fn open(
        engine: Arc<Engine>,
        repository: Name,
        session: Option<Claimed>,
        start: Start,
    ) -> Result<Self> {
        let is_recorded = session.as_ref().is_some_and(|session| session.version.is_some());
        let share = Share::begin(&engine.open_uploads, &*engine.metadata, is_recorded).await?;
        match start {
            Start::Fresh(algorithm) => {
                engine.room_for_object(1).await?;
                let key = ObjectKey::fresh()?;
                if let Err(error) = engine.metadata.begin_object(&key).await {
                    // It may yet have been noted.
                    engine.discard(&key).await;
                    return Err(error);
                }
                let journal: Arc<dyn Journal> = Arc::clone(&engine) as _;
                let writer = match engine.objects.create(&key, journal).await {
                    Ok(writer) => writer,
                    Err(error) => {
                        engine.discard(&key).await;
                        return Err(error);
                    }
                };
                let hasher = Some(algorithm.hasher());
                Ok(Self {
                    engine,
                    repository,
                    session,
                    key,
                    writer,
                    hasher,
                    offset: 0,
                    recorded: None,
                    replaced: None,
                    share,
                })
            }
            Start::Recorded { key, offset, state, hash_state, inherited } => {
                let hasher = Hasher::restore(&hash_state)
                    .inspect_err(|reason| tracing::info!(%key, %reason, "an upload will be hashed by reading it"))
                    .ok();
                let taken = match engine.objects.must_fork() {
                    true => inherited,
                    // A bucket shows an object when it is finished: somebody went on before, finished it, and was killed before
                    // it could be recorded.
                    false => engine.objects.size(&key).await?.is_some(),
                };
                let (key, writer, recorded, replaced) = if taken {
                    let (fresh, writer) = fork(&engine, &key, offset).await?;
                    (fresh, writer, None, Some(key))
                } else {
                    let writer = engine.objects.reopen(&key, offset, state).await?;
                    (key, writer, Some(offset), None)
                };
                Ok(Self {
                    engine,
                    repository,
                    session,
                    key,
                    writer,
                    hasher,
                    offset,
                    recorded,
                    replaced,
                    share,
                })
            }
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Command>) -> Result<()> {
        loop {
            match queue.recv().await {
                Some(Command::Append(chunk)) => {
                    if let Err(error) = self.append(chunk).await {
                        self.give_up().await;
                        return Err(error);
                    }
                }
                Some(Command::End(End::Commit(digest))) => return self.commit(digest).await,
                Some(Command::End(End::Suspend(id))) => return self.suspend(id).await,
                Some(Command::End(End::Cancel)) => return self.cancel().await,
                None => {
                    self.give_up().await;
                    return Ok(());
                }
            }
        }
    }

    async fn append(&mut self, chunk: Bytes) -> Result<()> {
        let length = chunk.len() as u64;
        self.engine.room_for_object(length).await?;
        self.share.grow(&*self.engine.metadata, length).await?;
        match self.hasher.take() {
            Some(hasher) => {
                self.hasher = Some(self.writer.append_hashed(chunk, hasher).await?);
            }
            None => self.writer.append(chunk).await?,
        }
        self.offset += length;
        Ok(())
    }

    async fn commit(mut self, digest: Digest) -> Result<()> {
        let hasher = self.hasher.take().filter(|hasher| is_for(hasher, &digest));
        let hashed = hasher.is_some();
        if let Some(hasher) = hasher
            && let Err(error) = check(hasher, &digest)
        {
            self.close().await;
            return Err(error);
        }
        let finished = match self.writer.finish().await {
            Ok(finished) => finished,
            Err(error) => {
                self.give_up().await;
                return Err(error);
            }
        };
        if (!hashed || finished == Finished::Perhaps)
            && let Err(error) = self.read_and_check(&digest).await
        {
            match error.code() {
                Some(_) => self.close().await,
                // It could not be read.
                None => self.give_up().await,
            }
            return Err(error);
        }
        let blob = NewBlob {
            repository: self.repository.clone(),
            digest,
            size: self.offset,
            content: Content::Object(self.key.clone()),
            session: self.session.clone(),
            now: self.engine.now(),
        };
        match self.engine.metadata.commit_blob(blob).await {
            Ok(Stored::Taken) => {}
            Ok(Stored::Known) => self.engine.discard(&self.key).await,
            Err(error) => {
                self.leave().await;
                return Err(error);
            }
        }
        self.discard_replaced().await;
        Ok(())
    }

    /// Checks the digest of a finished object by reading it.
    async fn read_and_check(&self, digest: &Digest) -> Result<()> {
        // An algorithm that cannot be computed fails here.
        digest.verifier()?;
        let Some(algorithm) = digest.known_algorithm() else { return Ok(()) };
        let mut body = self.engine.objects.open(&self.key, 0..self.offset).await?;
        let mut hasher = algorithm.hasher();
        while let Some(chunk) = body.next().await {
            let chunk = chunk?;
            hasher = blocking::run(move || {
                hasher.update(&chunk);
                Ok(hasher)
            })
            .await?;
        }
        check(hasher, digest)
    }

    async fn suspend(mut self, id: SessionId) -> Result<()> {
        let suspended = match self.writer.suspend().await {
            Ok(suspended) => suspended,
            Err(error) => {
                self.give_up().await;
                return Err(error);
            }
        };
        if let Err(error) = self.record(id, suspended).await {
            self.leave().await;
            return Err(error);
        }
        self.discard_replaced().await;
        Ok(())
    }

    async fn record(&self, id: SessionId, suspended: Suspended) -> Result<()> {
        let (content, state) = match suspended {
            Suspended::Object(state) => (Content::Object(self.key.clone()), state),
            Suspended::Content(bytes) => (Content::Inline(bytes), Bytes::new()),
        };
        let inline = matches!(content, Content::Inline(_));
        let progress = Progress {
            session: self.session.clone().unwrap_or(Claimed { id, version: None }),
            repository: self.repository.clone(),
            offset: self.offset,
            // What is inline is hashed when it is complete.
            hash_state: match &self.hasher {
                Some(hasher) if !inline => hasher.save(),
                _ => Vec::new(),
            },
            content,
            state,
            now: now(),
        };
        self.engine.metadata.record_session(progress).await?;
        if inline {
            self.engine.discard(&self.key).await;
        }
        Ok(())
    }

    async fn cancel(mut self) -> Result<()> {
        let closed = match self.session.take() {
            Some(session) => self.engine.metadata.close_session(session).await.map(|_| ()),
            None => Ok(()),
        };
        // A session that is not closed keeps what it has recorded, and nothing else.
        if closed.is_ok() || self.recorded.is_none() {
            self.discard().await;
        }
        if closed.is_ok() {
            self.discard_replaced().await;
        }
        closed
    }

    async fn discard_replaced(&self) {
        if let Some(key) = &self.replaced {
            self.engine.discard(key).await;
        }
    }

    /// Leaves an object of which it is not known whether it was named or recorded: a commit that failed may yet have been done. It
    /// is freed if neither is so. What a session had recorded before is cut to its length when the upload goes on.
    async fn leave(self) {
        if self.recorded.is_none() {
            self.engine.discard(&self.key).await;
        }
    }

    async fn discard(&mut self) {
        // Ends what is still being written, so that it does not come after the object has been deleted.
        let _ = self.writer.rewind(0).await;
        self.engine.discard(&self.key).await;
    }

    /// Ends the upload and its session, whatever it has.
    async fn close(self) {
        let key = self.key.clone();
        if let Err(error) = self.cancel().await {
            tracing::warn!(%key, %error, "an upload could not be closed; what is recorded of it will expire");
        }
    }

    /// Frees what has been written and not recorded. A session stays where it was, if that is possible, and ends otherwise.
    async fn give_up(mut self) {
        let Some(recorded) = self.recorded else { return self.discard().await };
        match self.writer.rewind(recorded).await {
            Ok(true) => {}
            Ok(false) => self.close().await,
            Err(error) => {
                tracing::warn!(key = %self.key, %error, "bytes of an upload could not be freed");
            }
        }
    }
}

/// Whether a hash can tell if a digest is right. One of an unknown algorithm is not, whatever was hashed.
fn is_for(hasher: &Hasher, digest: &Digest) -> bool {
    digest.known_algorithm().is_none_or(|algorithm| algorithm == hasher.algorithm())
}

/// Checks the digest of all that was hashed.
pub(super) fn check(hasher: Hasher, expected: &Digest) -> Result<()> {
    // A digest whose algorithm cannot be computed fails here.
    expected.verifier()?;
    let actual = hasher.finish();
    if actual == *expected {
        return Ok(());
    }
    let expected = expected.clone();
    Err(VerifyError::Mismatch { expected, actual }.into())
}
