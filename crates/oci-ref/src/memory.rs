//! A repository in memory: for tests, for building content, and as the simplest engine of a server.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, Hasher, Tag, VerifyError};

use crate::{
    BlobRead, ByteRange, Capabilities, Cursor, Error, ErrorKind, Form, Manifest, Page,
    Precondition, Referenced, Referrers, Result, Source, Staged, Store, Target, UploadId, apart,
};

/// How many bytes of a blob are handed out at a time.
const CHUNK: usize = 256 << 10;

/// The most uploads that are remembered as committed.
const COMMITTED: usize = 1000;

/// A repository in memory. Clones share the content.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    sparse: bool,
    /// Whether blobs need not be there either.
    unchecked: bool,
}

#[derive(Default)]
struct State {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
    /// subject → referrer → its descriptor
    referrers: HashMap<Digest, BTreeMap<Digest, Descriptor>>,
    uploads: HashMap<UploadId, Session>,
    /// The last uploads that had a name and were committed, the oldest first.
    committed: VecDeque<(UploadId, Digest)>,
}

/// An upload that has been suspended at least once.
struct Session {
    offset: u64,
    touched: Instant,
    /// `None` while somebody writes to it.
    upload: Option<Upload>,
}

/// What an upload has so far.
struct Upload {
    bytes: BytesMut,
    hasher: Hasher,
}

impl Default for Upload {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), hasher: Algorithm::default().hasher() }
    }
}

impl Memory {
    /// An empty repository.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty repository that takes indexes whose manifests are not all there.
    pub fn sparse() -> Self {
        Self { sparse: true, ..Self::default() }
    }

    /// An empty repository that takes manifests without looking at what is there of what they
    /// reference.
    pub fn unchecked() -> Self {
        Self { unchecked: true, ..Self::sparse() }
    }

    /// Whether nothing has ever been stored and kept here.
    pub fn is_empty(&self) -> bool {
        let state = self.lock();
        state.blobs.is_empty() && state.manifests.is_empty()
    }

    /// The whole of a blob, without copying it.
    pub fn blob_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.lock().blobs.get(digest).cloned()
    }

    /// Stores a blob that is known to have this digest; for blobs that come from another repository in memory.
    pub(crate) fn insert_verified(&self, digest: Digest, bytes: Bytes) {
        self.lock().blobs.insert(digest, bytes);
    }

    /// Takes a blob over from a sibling. `false` if the sibling does not have it.
    pub fn mount_from(&self, sibling: &Memory, digest: &Digest) -> bool {
        match sibling.blob_bytes(digest) {
            Some(bytes) => {
                self.insert_verified(digest.clone(), bytes);
                true
            }
            None => false,
        }
    }

    /// Forgets the suspended uploads that nobody has gone on with for at least so long.
    pub fn expire_uploads(&self, idle: Duration) {
        let fresh = |session: &mut Session| session.touched.elapsed() < idle;
        self.lock().uploads.retain(|_, session| fresh(session));
    }

    /// How many uploads are suspended, or are being gone on with after that.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn manifest(&self, target: &Target) -> Result<Manifest> {
        let digest = match target {
            Target::Digest(digest) | Target::Pinned(_, digest) => digest,
            Target::Tag(tag) => self.tags.get(tag).ok_or_else(|| {
                Error::new(ErrorCode::ManifestUnknown, format!("tag {tag} is not known"))
            })?,
        };
        self.manifests.get(digest).cloned().ok_or_else(|| {
            Error::new(ErrorCode::ManifestUnknown, format!("manifest {digest} is not known"))
        })
    }

    fn check_precondition(&self, tags: &[Tag], when: &Precondition) -> Result<()> {
        for tag in tags {
            let now = self.tags.get(tag);
            let holds = match when {
                Precondition::None => true,
                Precondition::Exists => now.is_some(),
                Precondition::Absent => now.is_none(),
                Precondition::Matches(digests) => now.is_some_and(|now| digests.contains(now)),
            };
            if !holds {
                let now =
                    now.map_or_else(|| "does not exist".to_owned(), |now| format!("names {now}"));
                return Err(Error::new(
                    ErrorKind::PreconditionFailed,
                    format!("tag {tag} {now}, which is not what the request demands"),
                ));
            }
        }
        Ok(())
    }

    fn check_references(&self, manifest: &Manifest, sparse: bool) -> Result<()> {
        manifest.references().try_for_each(|referenced| {
            let sparse = sparse && referenced.form == Form::Either;
            referenced.check(manifest, self.size(&referenced), sparse)
        })
    }

    /// The size of what is here under the digest of a reference.
    fn size(&self, referenced: &Referenced<'_>) -> Option<u64> {
        let blob = self.blobs.get(referenced.digest).map(|bytes| bytes.len() as u64);
        let manifest = || {
            let found = self.manifests.get(referenced.digest);
            found.filter(|_| referenced.form == Form::Either).map(|it| it.descriptor().size)
        };
        blob.or_else(manifest)
    }
}

#[async_trait]
impl Source for Memory {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        Ok(self.lock().manifest(target)?.descriptor().clone())
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.lock().manifest(target)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.lock().blobs.get(digest).map(|bytes| bytes.len() as u64))
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        let bytes = self.blob_bytes(digest).ok_or_else(|| {
            Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known"))
        })?;
        let size = bytes.len() as u64;
        let range = range.within(size).ok_or_else(|| {
            Error::new(
                ErrorKind::RangeInvalid { size },
                format!("blob {digest} has {size} bytes, none in {range:?}"),
            )
        })?;
        // Both ends are at most the length of a slice.
        let part = bytes.slice(range.start as usize..range.end as usize);
        let chunks = futures_util::stream::unfold(part, |mut rest| async move {
            (!rest.is_empty()).then(|| {
                let chunk = rest.split_to(rest.len().min(CHUNK));
                (Ok(chunk), rest)
            })
        });
        Ok(BlobRead { size, range, body: chunks.boxed() })
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        let state = self.lock();
        let after = after.map(Cursor::name).transpose()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = state.tags.range::<str, _>((from, Bound::Unbounded));
        Ok(Page::first(names.map(|(tag, _)| tag.clone()), limit, Tag::to_string))
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        let state = self.lock();
        let after = after.map(Cursor::name).transpose()?;
        let all = state.referrers.get(subject).into_iter().flatten();
        let wanted = all
            .filter(|(digest, _)| after.is_none_or(|after| digest.as_str() > after))
            .filter(|(_, descriptor)| {
                artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
            })
            .map(|(_, descriptor)| descriptor.clone());
        Ok(Referrers {
            page: Page::first(wanted, limit, |descriptor| descriptor.digest.to_string()),
            filtered: artifact_type.is_some(),
        })
    }
}

#[async_trait]
impl Store for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            sparse: Some(self.sparse),
            preconditions: true,
            referrers: true,
            ..Capabilities::default()
        }
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Ok(Box::new(MemoryUpload {
            memory: self.clone(),
            id: None,
            upload: Upload { bytes: BytesMut::new(), hasher: algorithm.hasher() },
        }))
    }

    async fn resume(&self, id: &UploadId) -> Result<Box<dyn Staged>> {
        let mut state = self.lock();
        let session = state.uploads.get_mut(id).ok_or_else(|| unknown_upload(id))?;
        session.touched = Instant::now();
        let upload = session.upload.take().ok_or_else(|| {
            Error::new(
                ErrorKind::RangeInvalid { size: session.offset },
                format!("upload {} is being written by another request", id.0),
            )
        })?;
        drop(state);
        Ok(Box::new(MemoryUpload { memory: self.clone(), id: Some(id.clone()), upload }))
    }

    async fn upload_offset(&self, id: &UploadId) -> Result<u64> {
        let state = self.lock();
        let session = state.uploads.get(id).ok_or_else(|| unknown_upload(id))?;
        Ok(session.offset)
    }

    async fn committed_upload(&self, id: &UploadId) -> Result<Option<Digest>> {
        let state = self.lock();
        let found = state.committed.iter().find(|(known, _)| known == id);
        Ok(found.map(|(_, digest)| digest.clone()))
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        let mut state = self.lock();
        state.check_precondition(tags, when)?;
        if !self.unchecked {
            state.check_references(manifest, self.sparse)?;
        }
        let digest = manifest.digest();
        if let (Some(subject), Some(referrer)) = (manifest.subject(), manifest.as_referrer()) {
            let listed = state.referrers.entry(subject.digest.clone()).or_default();
            listed.insert(digest.clone(), referrer);
        }
        state.manifests.insert(digest.clone(), manifest.clone());
        for tag in tags {
            state.tags.insert(tag.clone(), digest.clone());
        }
        Ok(())
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        match self.lock().tags.remove(tag) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorCode::ManifestUnknown, format!("tag {tag} is not known"))),
        }
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        let mut state = self.lock();
        let manifest = state.manifest(&Target::Digest(digest.clone()))?;
        state.manifests.remove(digest);
        state.tags.retain(|_, named| named != digest);
        if let Some(subject) = manifest.subject()
            && let Some(listed) = state.referrers.get_mut(&subject.digest)
        {
            listed.remove(digest);
        }
        Ok(())
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let mut state = self.lock();
        let references = |manifest: &&Manifest| manifest.references().any(|it| it.digest == digest);
        if state.blobs.contains_key(digest)
            && let Some(manifest) = state.manifests.values().find(references)
        {
            let message = format!("blob {digest} is referenced by manifest {}", manifest.digest());
            return Err(Error::new(ErrorCode::Denied, message));
        }
        match state.blobs.remove(digest) {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorCode::BlobUnknown, format!("blob {digest} is not known"))),
        }
    }
}

fn unknown_upload(id: &UploadId) -> Error {
    Error::new(ErrorCode::BlobUploadUnknown, format!("upload {} is not known", id.0))
}

/// A name that nobody else can guess, in the form of a UUID.
fn new_upload_id() -> UploadId {
    let random = || RandomState::new().build_hasher().finish();
    let (high, low) = (random(), random());
    UploadId(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0x0fff | 0x4000,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    ))
}

struct MemoryUpload {
    memory: Memory,
    /// The session's name, if it has been suspended before.
    id: Option<UploadId>,
    upload: Upload,
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.memory.lock().uploads.remove(&id);
        }
    }
}

#[async_trait]
impl Staged for MemoryUpload {
    fn offset(&self) -> u64 {
        self.upload.bytes.len() as u64
    }

    async fn append(&mut self, chunk: Bytes) -> Result<()> {
        self.upload.hasher.update(&chunk);
        self.upload.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<()> {
        let upload = std::mem::take(&mut self.upload);
        let bytes = upload.bytes.freeze();
        if digest.known_algorithm() == Some(upload.hasher.algorithm()) {
            let actual = upload.hasher.finish();
            if actual != *digest {
                let expected = digest.clone();
                return Err(VerifyError::Mismatch { expected, actual }.into());
            }
        } else {
            // The uploader announced another algorithm than it used in the end.
            let (wanted, whole) = (digest.clone(), bytes.clone());
            apart(bytes.len(), move || Ok(wanted.verify(&whole)?)).await?;
        }
        self.memory.insert_verified(digest.clone(), bytes);
        if let Some(id) = &self.id {
            let mut state = self.memory.lock();
            state.committed.push_back((id.clone(), digest.clone()));
            if state.committed.len() > COMMITTED {
                state.committed.pop_front();
            }
        }
        Ok(())
    }

    async fn suspend(mut self: Box<Self>) -> Result<UploadId> {
        let id = self.id.take().unwrap_or_else(new_upload_id);
        let upload = std::mem::take(&mut self.upload);
        let session = Session {
            offset: upload.bytes.len() as u64,
            touched: Instant::now(),
            upload: Some(upload),
        };
        self.memory.lock().uploads.insert(id.clone(), session);
        Ok(id)
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
