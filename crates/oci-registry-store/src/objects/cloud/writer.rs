//! Writing an object to a bucket: gathering parts, and sending a few of them at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::multipart::PartId;
use object_store::{MultipartId, ObjectStoreExt, PutPayload};
use oci_ref::{Error, ErrorKind, Result};
use oci_spec_types::ErrorCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::state::State;
use super::{MIB, Shared, failure, parts, path_of};
use crate::blocking;
use crate::objects::{Finished, Journal, ObjectKey, ObjectWrite, Suspended};

/// How many parts of an upload are on their way at a time.
const RUNNING: usize = 3;

/// How long an upload waits for memory.
const PATIENCE: Duration = Duration::from_secs(30);

type Running = JoinHandle<object_store::Result<PartId>>;

pub(super) struct CloudWriter {
    shared: Arc<Shared>,
    key: ObjectKey,
    /// Where a multipart upload is noted. `None` if there is one already.
    journal: Option<Arc<dyn Journal>>,
    upload: Option<MultipartId>,
    parts: Vec<PartId>,
    /// The parts that come after those.
    running: VecDeque<Running>,
    /// How many bytes all those parts have.
    sent: u64,
    /// How many bytes there were when it was suspended.
    recorded: u64,
    buffer: Vec<Bytes>,
    buffered: u64,
    /// Memory for the buffer.
    memory: Option<OwnedSemaphorePermit>,
    /// Nothing can be added any more: it is finished, or the bucket does not know the upload.
    over: bool,
}

impl CloudWriter {
    pub(super) fn create(shared: Arc<Shared>, key: ObjectKey, journal: Arc<dyn Journal>) -> Self {
        Self {
            shared,
            key,
            journal: Some(journal),
            upload: None,
            parts: Vec::new(),
            running: VecDeque::new(),
            sent: 0,
            recorded: 0,
            buffer: Vec::new(),
            buffered: 0,
            memory: None,
            over: false,
        }
    }

    pub(super) fn reopen(shared: Arc<Shared>, key: ObjectKey, state: State) -> Self {
        let State { upload, parts, stored, tail } = state;
        Self {
            shared,
            key,
            journal: None,
            upload: Some(upload),
            parts: parts.into_iter().map(|content_id| PartId { content_id }).collect(),
            running: VecDeque::new(),
            sent: stored,
            recorded: stored + tail.len() as u64,
            buffered: tail.len() as u64,
            buffer: vec![tail],
            memory: None,
            over: false,
        }
    }

    /// How large the part is that is being gathered.
    fn part_size(&self) -> u64 {
        self.shared.sizes.at(self.sent)
    }

    async fn reserve(&mut self) -> Result<()> {
        if self.memory.is_some() {
            return Ok(());
        }
        let wanted = u32::try_from(self.part_size().div_ceil(MIB as u64)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.shared.memory).acquire_many_owned(wanted);
        match tokio::time::timeout(PATIENCE, memory).await {
            Ok(Ok(memory)) => {
                self.memory = Some(memory);
                Ok(())
            }
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "storage {}: other uploads have taken all memory for uploads",
                    self.shared.name
                ),
            )),
        }
    }

    /// The multipart upload, which can be found again from now on.
    async fn multipart(&mut self) -> Result<MultipartId> {
        if let Some(upload) = &self.upload {
            return Ok(upload.clone());
        }
        let path = path_of(&self.key);
        let upload = self.shared.bucket.create_multipart(&path).await;
        let upload = upload.map_err(|error| self.shared.failed("begin", &self.key, &error))?;
        if let Some(journal) = &self.journal {
            let state = State::new(upload.clone(), &[], 0, Bytes::new()).encode();
            if let Err(error) = journal.note(&self.key, state.into()).await {
                // Nobody else would ever know of it.
                if let Err(error) = self.shared.bucket.abort_multipart(&path, &upload).await {
                    tracing::warn!(key = %self.key, %error, "an empty multipart upload is left in the bucket");
                }
                return Err(error);
            }
        }
        self.upload = Some(upload.clone());
        Ok(upload)
    }

    /// Sends what is in the buffer as a part.
    async fn send(&mut self) -> Result<()> {
        let upload = self.multipart().await?;
        while self.running.len() >= RUNNING {
            self.settle().await?;
        }
        let index = self.parts.len() + self.running.len();
        if index >= parts::MOST {
            return Err(Error::new(
                ErrorKind::TooLarge { limit: self.sent },
                format!(
                    "storage {}: a blob can have no more than {} parts, which are full at {} bytes",
                    self.shared.name,
                    parts::MOST,
                    self.sent
                ),
            ));
        }
        self.sent += self.buffered;
        self.buffered = 0;
        let payload = PutPayload::from_iter(std::mem::take(&mut self.buffer));
        let (bucket, path) = (Arc::clone(&self.shared.bucket), path_of(&self.key));
        let memory = self.memory.take();
        self.running.push_back(tokio::spawn(async move {
            let _memory = memory;
            bucket.put_part(&path, &upload, index, payload).await
        }));
        Ok(())
    }

    /// Waits for the first part that is on its way.
    async fn settle(&mut self) -> Result<()> {
        let Some(running) = self.running.pop_front() else { return Ok(()) };
        match running.await.map_err(blocking::stopped)? {
            Ok(part) => {
                self.parts.push(part);
                Ok(())
            }
            Err(error) => Err(self.failed("write", &error).await),
        }
    }

    async fn settle_all(&mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    async fn failed(&mut self, doing: &str, error: &object_store::Error) -> Error {
        if self.upload.is_none() || !failure::is_over(error) {
            return self.shared.failed(doing, &self.key, error);
        }
        match self.shared.bucket.head(&path_of(&self.key)).await {
            // A server that was killed had asked for that, and it was done only now. What is recorded is in it: who goes on with the
            // upload does so in a copy.
            Ok(_) => {
                let size = self.recorded;
                let message = format!(
                    "the upload was finished by another request, and is at {size} bytes: go on there"
                );
                Error::new(ErrorKind::RangeInvalid { size }, message)
            }
            Err(missing) if failure::is_missing(&missing) => {
                self.over = true;
                let message = "the storage has not all of this upload any more: begin it anew";
                Error::new(ErrorCode::BlobUploadUnknown, message)
            }
            Err(error) => self.shared.failed("look up", &self.key, &error),
        }
    }

    /// What is in the buffer, in one piece.
    fn tail(&self) -> Bytes {
        match &self.buffer[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.iter().flatten().copied().collect::<BytesMut>().freeze(),
        }
    }
}

#[async_trait]
impl ObjectWrite for CloudWriter {
    async fn append(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            self.reserve().await?;
            let room = self.part_size().saturating_sub(self.buffered);
            // No more than the length of the bytes.
            let taken = bytes.split_to(room.min(bytes.len() as u64) as usize);
            self.buffered += taken.len() as u64;
            self.buffer.push(taken);
            if self.buffered >= self.part_size() {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<Finished> {
        let path = path_of(&self.key);
        if self.upload.is_none() {
            let payload = PutPayload::from_iter(self.buffer.iter().cloned());
            let stored = self.shared.bucket.put(&path, payload).await;
            stored.map_err(|error| self.shared.failed("write", &self.key, &error))?;
            self.over = true;
            return Ok(Finished::Surely);
        }
        if self.buffered > 0 {
            self.send().await?;
        }
        self.settle_all().await?;
        let upload = self.multipart().await?;
        match self.shared.bucket.complete_multipart(&path, &upload, self.parts.clone()).await {
            Ok(_) => {
                self.over = true;
                Ok(Finished::Surely)
            }
            // It may have been done although the answer was lost; then a repeated request finds no such upload.
            Err(error) => match self.shared.bucket.head(&path).await {
                Ok(found) if found.size == self.sent => {
                    tracing::info!(key = %self.key, %error, "the end of an upload was doubtful");
                    self.over = true;
                    Ok(Finished::Perhaps)
                }
                _ => Err(self.failed("finish", &error).await),
            },
        }
    }

    async fn suspend(&mut self) -> Result<Suspended> {
        let index = self.parts.len() + self.running.len();
        if self.buffered >= self.shared.sizes.least(index, self.sent) {
            self.send().await?;
        }
        self.settle_all().await?;
        let tail = self.tail();
        Ok(match &self.upload {
            None => Suspended::Content(tail),
            Some(upload) => {
                let state = State::new(upload.clone(), &self.parts, self.sent, tail);
                Suspended::Object(state.encode().into())
            }
        })
    }

    /// Parts that were written meanwhile are replaced by those that come in their place.
    async fn rewind(&mut self, _offset: u64) -> Result<bool> {
        while let Some(running) = self.running.pop_front() {
            // Whether it was written does not matter, only that it has ended.
            let _ = running.await;
        }
        Ok(!self.over)
    }
}
