//! The in-memory engine: a map of repositories.

mod repository;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use oci_ref::{Access, Cursor, Error, Memory, Page, Registry, Result, Source, Store};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Name};

use repository::Repository;

/// A registry in memory: for tests, and as the simplest engine. Clones share the content.
///
/// It holds all that is pushed for as long as it lives; uploads that nobody goes on with are forgotten after a time.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use oci_ref::{Reopen, Store};
/// use oci_registry_server::MemoryRegistry;
/// use oci_spec_types::{Descriptor, MediaType};
///
/// let registry = MemoryRegistry::new();
/// let repository = registry.memory(&"team/app".parse().unwrap());
/// let blob = bytes::Bytes::from_static(b"hello");
/// let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &blob);
/// repository.put_blob(&descriptor, &blob).await?;
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryRegistry(Arc<Inner>);

struct Inner {
    repositories: RwLock<BTreeMap<Name, Entry>>,
    sparse: bool,
    upload_expiry: Duration,
    swept: Mutex<Instant>,
}

struct Entry {
    repository: Arc<Repository>,
    /// When it was last wanted for writing.
    written: Instant,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::with(false, Duration::from_secs(3600))
    }

    /// An empty registry that takes manifests whose references, manifests or blobs, are not all there.
    pub fn sparse() -> Self {
        Self::with(true, Duration::from_secs(3600))
    }

    /// The same registry, empty, with another time after which an upload is forgotten that nobody goes on with.
    /// Default: one hour.
    #[must_use]
    pub fn upload_expiry(self, expiry: Duration) -> Self {
        Self::with(self.0.sparse, expiry)
    }

    fn with(sparse: bool, upload_expiry: Duration) -> Self {
        Self(Arc::new(Inner {
            repositories: RwLock::default(),
            sparse,
            upload_expiry,
            swept: Mutex::new(Instant::now()),
        }))
    }

    /// A repository itself, to fill it or look into it without HTTP. It becomes known to others when something is
    /// stored in it; one in which nothing is stored is forgotten as uploads are, and wants to be asked for again.
    /// Manifests that are stored this way are not checked for what they reference.
    pub fn memory(&self, name: &Name) -> Memory {
        self.0.writable(name, &self.0).memory()
    }
}

impl Inner {
    /// A repository that holds something.
    fn known(&self, name: &Name) -> Option<Arc<Repository>> {
        // Every change under the lock is complete before anything can panic, here and below.
        let repositories = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        let entry = repositories.get(name)?;
        (!entry.repository.is_empty()).then(|| entry.repository.clone())
    }

    fn writable(&self, name: &Name, this: &Arc<Self>) -> Arc<Repository> {
        self.sweep();
        let mut repositories = self.repositories.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = repositories
            .entry(name.clone())
            .or_insert_with(|| Entry { repository: Arc::new(Repository::new(this)), written: now });
        entry.written = now;
        entry.repository.clone()
    }

    /// Forgets uploads that have expired, and repositories in which nothing was ever stored; now and then.
    fn sweep(&self) {
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.elapsed() < self.upload_expiry / 4 {
                return;
            }
            *swept = Instant::now();
        }
        let mut repositories = self.repositories.write().unwrap_or_else(PoisonError::into_inner);
        repositories.retain(|_, entry| {
            let repository = &entry.repository;
            repository.memory().expire_uploads(self.upload_expiry);
            let unused = entry.written.elapsed() >= self.upload_expiry
                && Arc::strong_count(repository) == 1
                && repository.is_empty();
            !unused
        });
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>> {
        match access {
            Access::Write => Ok(self.0.writable(name, &self.0)),
            Access::Read => match self.0.known(name) {
                Some(repository) => Ok(repository),
                None => Err(Error::new(
                    ErrorCode::NameUnknown,
                    format!("repository {name} is not known"),
                )),
            },
        }
    }

    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>> {
        let after = after.map(Cursor::name).transpose()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let repositories = self.0.repositories.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = repositories
            .range::<str, _>((from, Bound::Unbounded))
            .filter(|(_, entry)| !entry.repository.is_empty())
            .map(|(name, _)| name);
        let items: Vec<Name> = known.by_ref().take(limit).cloned().collect();
        let next = match items.last() {
            Some(last) if known.next().is_some() => Some(Cursor::After(last.to_string())),
            _ => None,
        };
        Ok(Page { items, next })
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>> {
        let repositories = self.0.repositories.read().unwrap_or_else(PoisonError::into_inner);
        let holders = repositories
            .iter()
            .filter(|(_, entry)| entry.repository.holds(digest))
            .map(|(name, _)| name.clone());
        Ok(holders.take(limit).collect())
    }

    async fn link(&self, name: &Name, blob: &Descriptor, source: &Arc<dyn Source>) -> Result<bool> {
        self.0.writable(name, &self.0).link(blob, source);
        Ok(true)
    }
}
