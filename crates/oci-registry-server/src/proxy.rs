//! A registry that reads from another one through the client.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{
    Access, BlobRead, ByteRange, Capabilities, Cursor, Error, Manifest, Page, Precondition,
    Referrers, Registry, Result, Source, Staged, Store, Target,
};
use oci_registry_client::{Client, Repository};
use oci_spec_types::{Algorithm, Descriptor, Digest, Host, Name, Reference, Tag};

/// Another registry, read through a [`Client`]: every pull is passed on, and nothing is kept here. Writes are
/// `UNSUPPORTED`.
///
/// Whoever may pull from it sees what the client's credentials may see there, so it wants an
/// [`AccessPolicy`](crate::AccessPolicy) of its own unless that is public. What clients send as credentials is not passed
/// on.
///
/// ```
/// use oci_registry_client::Client;
/// use oci_registry_server::ProxyRegistry;
///
/// let proxy = ProxyRegistry::new(Client::builder().build()?, "registry.example".parse()?);
/// # let _ = proxy;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ProxyRegistry {
    client: Client,
    upstream: Host,
}

impl ProxyRegistry {
    /// The registry at `upstream`, as the client reaches it.
    pub fn new(client: Client, upstream: Host) -> Self {
        Self { client, upstream }
    }
}

#[async_trait]
impl Registry for ProxyRegistry {
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>> {
        match access {
            Access::Read => {
                let reference = Reference::new(self.upstream.clone(), name.clone());
                Ok(Arc::new(ReadOnly(self.client.repository(&reference)?)))
            }
            Access::Write => Err(read_only()),
        }
    }

    async fn catalog(&self, _after: Option<&Cursor>, _limit: usize) -> Result<Page<Name>> {
        Err(Error::unsupported("a proxy has no catalogue of its own"))
    }
}

fn read_only() -> Error {
    Error::unsupported("this registry passes pulls on to another one, and takes nothing")
}

/// A repository of the other registry, of which only the reading half is used.
struct ReadOnly(Repository);

#[async_trait]
impl Source for ReadOnly {
    async fn resolve(&self, target: &Target) -> Result<Descriptor> {
        self.0.resolve(target).await
    }

    async fn manifest(&self, target: &Target) -> Result<Manifest> {
        self.0.manifest(target).await
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.0.blob_size(digest).await
    }

    async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        self.0.has_blob(blob).await
    }

    async fn blob(&self, digest: &Digest, range: ByteRange) -> Result<BlobRead> {
        Source::blob(&self.0, digest, range).await
    }

    async fn tags(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Tag>> {
        Source::tags(&self.0, after, limit).await
    }

    async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Referrers> {
        Source::referrers(&self.0, subject, artifact_type, after, limit).await
    }

    async fn signatures(&self, manifest: &Digest) -> Result<Vec<Bytes>> {
        self.0.signatures(manifest).await
    }

    fn may_have_signatures(&self) -> bool {
        self.0.may_have_signatures()
    }
}

#[async_trait]
impl Store for ReadOnly {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn stage(&self, _algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        Err(read_only())
    }

    async fn put_manifest(
        &self,
        _manifest: &Manifest,
        _tags: &[Tag],
        _when: &Precondition,
    ) -> Result<()> {
        Err(read_only())
    }

    async fn delete_tag(&self, _tag: &Tag) -> Result<()> {
        Err(read_only())
    }

    async fn delete_manifest(&self, _digest: &Digest) -> Result<()> {
        Err(read_only())
    }

    async fn delete_blob(&self, _digest: &Digest) -> Result<()> {
        Err(read_only())
    }
}
