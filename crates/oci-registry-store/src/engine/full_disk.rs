//! A disk without room: for the files, and for the database.

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use oci_ref::{Body, ByteRange, Error, ErrorKind, Source, Store};
use oci_spec_types::{Descriptor, MediaType};

use super::*;
use crate::objects::{Finished, ObjectWrite, Suspended};
use crate::repository::Repository;

/// Files on a disk that has room for so many bytes.
struct Quota {
    files: Files,
    room: Arc<AtomicI64>,
}

struct QuotaWrite {
    writer: Box<dyn ObjectWrite>,
    room: Arc<AtomicI64>,
    written: u64,
}

fn full() -> Error {
    Error::io("cannot write", std::io::ErrorKind::StorageFull.into())
}

impl Quota {
    fn wrap(&self, writer: Box<dyn ObjectWrite>, written: u64) -> Box<dyn ObjectWrite> {
        Box::new(QuotaWrite { writer, room: Arc::clone(&self.room), written })
    }
}

#[async_trait]
impl Objects for Quota {
    async fn create(
        &self,
        key: &ObjectKey,
        journal: Arc<dyn Journal>,
    ) -> Result<Box<dyn ObjectWrite>> {
        Ok(self.wrap(self.files.create(key, journal).await?, 0))
    }

    async fn reopen(
        &self,
        key: &ObjectKey,
        offset: u64,
        state: Bytes,
    ) -> Result<Box<dyn ObjectWrite>> {
        Ok(self.wrap(self.files.reopen(key, offset, state).await?, offset))
    }

    async fn open(&self, key: &ObjectKey, range: Range<u64>) -> Result<Body> {
        self.files.open(key, range).await
    }

    fn must_fork(&self) -> bool {
        self.files.must_fork()
    }

    async fn delete(&self, key: &ObjectKey, state: Option<Bytes>) -> Result<()> {
        let size = self.files.size(key).await?.unwrap_or(0);
        self.files.delete(key, state).await?;
        self.room.fetch_add(size as i64, Ordering::SeqCst);
        Ok(())
    }

    async fn size(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.files.size(key).await
    }

    async fn list(&self, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectKey>> {
        self.files.list(after, limit).await
    }
}

#[async_trait]
impl ObjectWrite for QuotaWrite {
    async fn append(&mut self, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as i64;
        let left = self.room.fetch_sub(length, Ordering::SeqCst) - length;
        // As a disk does, it takes what fits.
        let fits = bytes.slice(..(length + left.min(0)).max(0) as usize);
        self.written += fits.len() as u64;
        self.room.fetch_add(length - fits.len() as i64, Ordering::SeqCst);
        let failed = fits.len() < bytes.len();
        self.writer.append(fits).await?;
        if failed { Err(full()) } else { Ok(()) }
    }

    async fn finish(&mut self) -> Result<Finished> {
        self.writer.finish().await
    }

    async fn suspend(&mut self) -> Result<Suspended> {
        self.writer.suspend().await
    }

    async fn rewind(&mut self, offset: u64) -> Result<bool> {
        let rewound = self.writer.rewind(offset).await?;
        self.room.fetch_add(self.written.saturating_sub(offset) as i64, Ordering::SeqCst);
        self.written = offset;
        Ok(rewound)
    }
}

const ROOM: i64 = 2_000_000;

/// An engine with room for two million bytes in files, and a repository of it.
async fn small_disk(data: &Path) -> (Arc<Engine>, Repository, Arc<AtomicI64>) {
    let room = Arc::new(AtomicI64::new(ROOM));
    let quota = Arc::clone(&room);
    let through = |files| Box::new(Quota { files, room: quota }) as Box<dyn Objects>;
    let engine = Engine::open_with(data, EngineOptions::default(), through).await.unwrap();
    let repository = Repository::new(Arc::clone(&engine), "a/b".parse().unwrap());
    (engine, repository, room)
}

fn content(length: usize, byte: u8) -> (Descriptor, Bytes) {
    let bytes = Bytes::from(vec![byte; length]);
    (Descriptor::of(MediaType::OCTET_STREAM, &bytes), bytes)
}

async fn assert_readable(store: &Repository, blob: &Descriptor, bytes: &Bytes) {
    let read = store.blob(&blob.digest, ByteRange::All).await.unwrap();
    let chunks: Vec<Bytes> = read.body.try_collect().await.unwrap();
    assert_eq!(chunks.concat(), bytes.as_ref());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_without_room_fails_alone_and_gives_its_bytes_back() {
    let data = tempfile::tempdir().unwrap();
    let (engine, store, room) = small_disk(data.path()).await;
    let (kept, kept_bytes) = content(500_000, 1);
    store.put_blob(&kept, &kept_bytes).await.unwrap();
    let (large, large_bytes) = content(3_000_000, 2);
    for _ in 0..3 {
        let error = store.put_blob(&large, &large_bytes).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::StorageFull, "{error:?}");
        assert_eq!(room.load(Ordering::SeqCst), ROOM - 500_000, "the partial stays");
        assert_eq!(engine.objects.list(None, 9).await.unwrap().len(), 1);
        assert_eq!(store.blob_size(&large.digest).await.unwrap(), None);
        assert_readable(&store, &kept, &kept_bytes).await;
    }
    // What fits is taken, and so is the rest when there is room again.
    let (fits, fits_bytes) = content(1_000_000, 3);
    store.put_blob(&fits, &fits_bytes).await.unwrap();
    room.fetch_add(3_000_000, Ordering::SeqCst);
    store.put_blob(&large, &large_bytes).await.unwrap();
    assert_readable(&store, &large, &large_bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_from_where_it_was_when_there_is_room_again() {
    let data = tempfile::tempdir().unwrap();
    let (_engine, store, room) = small_disk(data.path()).await;
    let (blob, bytes) = content(3_000_000, 1);
    let mut staged = store.stage(oci_spec_types::Algorithm::Sha256).await.unwrap();
    staged.append(bytes.slice(..1_500_000)).await.unwrap();
    let upload = staged.suspend().await.unwrap();
    let mut staged = store.resume(&upload).await.unwrap();
    let mut outcome = staged.append(bytes.slice(1_500_000..)).await;
    if outcome.is_ok() {
        outcome = staged.commit(&blob.digest).await;
    }
    assert_eq!(*outcome.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(room.load(Ordering::SeqCst), ROOM - 1_500_000);
    room.fetch_add(3_000_000, Ordering::SeqCst);
    let mut staged = store.resume(&upload).await.unwrap();
    assert_eq!(staged.offset(), 1_500_000);
    staged.append(bytes.slice(1_500_000..)).await.unwrap();
    staged.commit(&blob.digest).await.unwrap();
    assert_readable(&store, &blob, &bytes).await;
}

/// What came after nothing had been recorded belongs to nobody, whether or not the database can note that the upload has ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_recorded_goes_even_if_its_upload_cannot_be_closed() {
    let data = tempfile::tempdir().unwrap();
    let (engine, store, room) = small_disk(data.path()).await;
    let (other, _) = content(1, 9);
    let (_, bytes) = content(1_500_000, 1);
    let upload = store.stage(oci_spec_types::Algorithm::Sha256).await.unwrap();
    let upload = upload.suspend().await.unwrap();
    let database = data.path().join("metadata.sqlite");
    rusqlite::Connection::open(database)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER no_room BEFORE INSERT ON closed_session BEGIN SELECT raise(FAIL, 'full'); END",
        )
        .unwrap();
    let mut staged = store.resume(&upload).await.unwrap();
    staged.append(bytes).await.unwrap();
    let refused = staged.commit(&other.digest).await.unwrap_err();
    assert_eq!(refused.code(), Some(&oci_spec_types::ErrorCode::DigestInvalid), "{refused:?}");
    assert_eq!(engine.objects.list(None, 9).await.unwrap(), []);
    assert_eq!(room.load(Ordering::SeqCst), ROOM);
    // And the upload is where it was.
    assert_eq!(store.upload_offset(&upload).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_room_refuses_writes_and_goes_on_reading() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_owned();
    let metadata = blocking::run(move || Sqlite::open(&path.join("db"), true, 0)).await.unwrap();
    let new = |n: u8| {
        let (blob, bytes) = content(20_000, n);
        crate::metadata::NewBlob {
            repository: "a/b".parse().unwrap(),
            digest: blob.digest,
            size: blob.size,
            content: crate::metadata::Content::Inline(bytes),
            session: None,
            now: 0,
        }
    };
    metadata.commit_blob(new(0)).await.unwrap();
    metadata.limit_pages(60).await;
    let pushes =
        futures_util::future::join_all((1..50).map(|n| metadata.commit_blob(new(n)))).await;
    let (done, failed): (Vec<_>, Vec<_>) = pushes.into_iter().partition(|push| push.is_ok());
    // One of those that shared a transaction is told why, and the others to try again.
    let kinds: Vec<ErrorKind> =
        failed.into_iter().map(|push| push.unwrap_err().kind().clone()).collect();
    assert!(kinds.contains(&ErrorKind::StorageFull), "{kinds:?}");
    let expected = [ErrorKind::StorageFull, ErrorKind::Unavailable];
    assert!(kinds.iter().all(|kind| expected.contains(kind)), "{kinds:?}");

    let here = async |n: u8| {
        let blob = new(n);
        metadata.blob(&blob.repository, &blob.digest).await.unwrap().is_some()
    };
    assert!(here(0).await);
    let mut count = 0;
    for n in 1..50 {
        count += usize::from(here(n).await);
    }
    assert_eq!(count, done.len(), "what was acknowledged is there, and nothing else");
    metadata.limit_pages(100_000).await;
    for n in 1..50 {
        metadata.commit_blob(new(n)).await.unwrap();
    }
}
