//! Objects in a bucket: `<prefix>/objects/<first two digits>/<key>`.
//!
//! An upload is one PUT if it is small, and a multipart upload otherwise. Nothing of either can be seen before it is whole.

mod connect;
mod failure;
mod parts;
mod state;
mod writer;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutPayload};
use oci_ref::{Body, Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use self::connect::{Bucket, Connected};
use self::parts::PartSizes;
use self::state::State;
use self::writer::CloudWriter;
use super::{Journal, ObjectKey, ObjectWrite, Objects};
use crate::options::EngineOptions;

/// Below the prefix, where objects are.
const ROOT: &str = "objects";

const MIB: usize = 1 << 20;

/// The least memory for uploads, with which parts of the first size can be filled and sent.
const LEAST_MEMORY: usize = 32 * MIB;

/// How long a URL is good that nobody gets.
const URL_PROBE: Duration = Duration::from_secs(60);

/// What is written to see whether a bucket can be written.
const PROBE: &[u8] = b"This object may be deleted.\n";

/// Objects in a bucket.
pub(crate) struct Cloud {
    shared: Arc<Shared>,
    signer: Option<Arc<dyn Signer>>,
}

/// What writers need of it.
struct Shared {
    /// The storage's URL, for messages.
    name: String,
    bucket: Arc<dyn Bucket>,
    aborts: bool,
    sizes: PartSizes,
    /// Memory for what is being sent, in MiB.
    memory: Arc<Semaphore>,
}

impl Cloud {
    /// A bucket, which has been tried out. `None` if objects are files.
    pub(crate) async fn open(options: &EngineOptions) -> Result<Option<Self>> {
        let Some(Connected { bucket, signer, aborts }) = connect::connect(&options.storage)? else {
            return Ok(None);
        };
        let memory = options.upload_memory.max(LEAST_MEMORY);
        let shared = Shared {
            name: options.storage.to_string(),
            bucket,
            aborts,
            sizes: PartSizes::within(memory as u64),
            memory: Arc::new(Semaphore::new((memory / MIB).min(Semaphore::MAX_PERMITS))),
        };
        let cloud = Self { shared: Arc::new(shared), signer };
        if options.redirect_reads {
            cloud.probe_signing().await?;
        }
        cloud.shared.probe().await?;
        Ok(Some(cloud))
    }

    /// Whether a URL for a read can be signed, if there is anything to sign with: otherwise no large blob could be read.
    async fn probe_signing(&self) -> Result<()> {
        let Some(signer) = &self.signer else { return Ok(()) };
        let signed = signer.signed_url(Method::GET, &Path::from("probe"), URL_PROBE).await;
        let doing = "sign URLs for redirected reads";
        signed.map_err(|error| failure::unusable(&self.shared.name, doing, &error)).map(|_| ())
    }
}

impl Shared {
    /// Whether the bucket is there, and can be written, read and deleted from. Leaves nothing.
    async fn probe(&self) -> Result<()> {
        let random: [u8; 8] = crate::random::bytes()?;
        let path = Path::from(format!("probe-{}", hex::encode(random)));
        let failed = |doing: &str, error| failure::unusable(&self.name, doing, &error);
        let payload = PutPayload::from_static(PROBE);
        self.bucket.put(&path, payload).await.map_err(|error| failed("write to it", error))?;
        let found = self.bucket.get_range(&path, 0..PROBE.len() as u64).await;
        let deleted = self.bucket.delete(&path).await;
        let found = found.map_err(|error| failed("read from it", error))?;
        deleted.map_err(|error| failed("delete from it", error))?;
        if found != PROBE {
            let message =
                format!("storage {}: what was written to it is not what is read", self.name);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }

    fn failed(&self, doing: &str, key: &ObjectKey, error: &object_store::Error) -> Error {
        failure::failed(&self.name, &format!("{doing} object {key}"), error)
    }
}

fn path_of(key: &ObjectKey) -> Path {
    Path::from(format!("{ROOT}/{}/{key}", &key.as_str()[..2]))
}

#[async_trait]
impl Objects for Cloud {
    async fn create(
        &self,
        key: &ObjectKey,
        journal: Arc<dyn Journal>,
    ) -> Result<Box<dyn ObjectWrite>> {
        Ok(Box::new(CloudWriter::create(Arc::clone(&self.shared), key.clone(), journal)))
    }

    async fn reopen(
        &self,
        key: &ObjectKey,
        offset: u64,
        state: Bytes,
    ) -> Result<Box<dyn ObjectWrite>> {
        let state = State::decode(&state)?;
        let length = state.stored + state.tail.len() as u64;
        if length != offset {
            let message = format!("suspended object {key} has {length} bytes, expected {offset}");
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(Box::new(CloudWriter::reopen(Arc::clone(&self.shared), key.clone(), state)))
    }

    async fn open(&self, key: &ObjectKey, range: Range<u64>) -> Result<Body> {
        if range.is_empty() {
            return Ok(futures_util::stream::empty().boxed());
        }
        let options =
            GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let found = self.shared.bucket.get_opts(&path_of(key), options).await;
        let found = found.map_err(|error| self.shared.failed("read", key, &error))?;
        if found.range != range {
            let message = format!(
                "stored object {key} in {} has {} bytes, expected at least {}",
                self.shared.name, found.meta.size, range.end
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let reader = Reader {
            shared: Arc::clone(&self.shared),
            key: key.clone(),
            stream: Some(found.into_stream()),
            left: range.end - range.start,
        };
        Ok(reader.into_body())
    }

    /// What was recorded of an upload names each of its parts by what was in it, so that a part that another writes in its place makes
    /// its completion fail.
    fn must_fork(&self) -> bool {
        false
    }

    async fn delete(&self, key: &ObjectKey, state: Option<Bytes>) -> Result<()> {
        let path = path_of(key);
        let bucket = &self.shared.bucket;
        if let Some(state) = state.filter(|state| !state.is_empty()) {
            let upload = State::decode(&state)?.upload;
            let aborted = match self.shared.aborts {
                true => bucket.abort_multipart(&path, &upload).await,
                // An object that is written whole takes the place of the parts, too.
                false => bucket.put(&path, PutPayload::new()).await.map(|_| ()),
            };
            match aborted {
                Err(error) if !failure::is_over(&error) => {
                    return Err(self.shared.failed("abort the upload of", key, &error));
                }
                _ => {}
            }
        }
        match bucket.delete(&path).await {
            Err(error) if !failure::is_missing(&error) => {
                Err(self.shared.failed("delete", key, &error))
            }
            _ => Ok(()),
        }
    }

    async fn size(&self, key: &ObjectKey) -> Result<Option<u64>> {
        match self.shared.bucket.head(&path_of(key)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if failure::is_missing(&error) => Ok(None),
            Err(error) => Err(self.shared.failed("look at", key, &error)),
        }
    }

    /// Buckets list in the order of names, which is that of keys. Not all begin where they are told to.
    async fn list(&self, after: Option<&ObjectKey>, limit: usize) -> Result<Vec<ObjectKey>> {
        let root = Path::from(ROOT);
        let listed = match after {
            Some(after) => self.shared.bucket.list_with_offset(Some(&root), &path_of(after)),
            None => self.shared.bucket.list(Some(&root)),
        };
        let found: Vec<_> = listed
            .map_err(|error| failure::failed(&self.shared.name, "list objects", &error))
            .try_filter_map(|found| {
                let key = found.location.filename().and_then(ObjectKey::parse);
                let key = key.filter(|key| after.is_none_or(|after| key > after));
                std::future::ready(Ok(key))
            })
            .take(limit)
            .try_collect()
            .await?;
        Ok(found)
    }

    fn min_chunk(&self) -> Option<u64> {
        Some(parts::LEAST)
    }

    async fn url(&self, key: &ObjectKey, lifetime: Duration) -> Result<Option<String>> {
        let Some(signer) = &self.signer else { return Ok(None) };
        let url = signer.signed_url(Method::GET, &path_of(key), lifetime).await;
        let url = url.map_err(|error| self.shared.failed("sign a URL of", key, &error))?;
        Ok(Some(url.into()))
    }
}

/// Passes on what a bucket sends, and sees that it is all.
struct Reader {
    shared: Arc<Shared>,
    key: ObjectKey,
    /// `None` after an error.
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    left: u64,
}

impl Reader {
    fn into_body(self) -> Body {
        futures_util::stream::unfold(self, |mut reader| async move {
            let chunk = reader.next().await?;
            if chunk.is_err() {
                reader.stream = None;
            }
            Some((chunk, reader))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<Bytes>> {
        match self.stream.as_mut()?.next().await {
            Some(Ok(chunk)) if chunk.len() as u64 <= self.left => {
                self.left -= chunk.len() as u64;
                Some(Ok(chunk))
            }
            None if self.left == 0 => None,
            Some(Err(error)) => Some(Err(self.shared.failed("read", &self.key, &error))),
            _ => {
                let message = format!(
                    "storage {}: object {} came in another length",
                    self.shared.name, self.key
                );
                Some(Err(Error::new(ErrorKind::Unavailable, message)))
            }
        }
    }
}
