//! What the router needs of an engine.

use std::sync::Arc;

use async_trait::async_trait;
use oci_ref::{Cursor, Page, Result, Source, Store};
use oci_spec_types::{Descriptor, Digest, Name};

/// What a repository is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read. A repository that holds nothing is not known.
    Read,
    /// To write. A repository that is not known can come to be, once something is stored in it.
    Write,
}

/// An engine: repositories by name.
///
/// Repositories are isolated: what a [`Store`] of one repository gives or says must not depend on what another one
/// holds. Only a mount takes content over, and the router asks the [`AccessPolicy`](crate::AccessPolicy) about its
/// source first.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// A repository. With [`Access::Read`] one that is not known is the error `NAME_UNKNOWN`; with [`Access::Write`]
    /// it is made as soon as something is stored in it, and not before.
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>>;

    /// A page of at most `limit` names of known repositories, in the order of their bytes.
    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>>;

    /// At most `limit` repositories that hold a blob, for a mount that does not say from where. The router takes the
    /// first from which the caller may pull. An engine that has no index of this answers with none, and such a mount
    /// becomes an upload.
    async fn holders(&self, _digest: &Digest, _limit: usize) -> Result<Vec<Name>> {
        Ok(Vec::new())
    }

    /// Takes a blob into a repository whose bytes stay in `source`, to be read from there whenever it is pulled, for
    /// [`add_ref`](crate::add_ref()). An engine that cannot do this says `false`, and the bytes are copied instead.
    async fn link(
        &self,
        _name: &Name,
        _blob: &Descriptor,
        _source: &Arc<dyn Source>,
    ) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl<T: Registry + ?Sized> Registry for Arc<T> {
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>> {
        (**self).repository(name, access).await
    }

    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>> {
        (**self).catalog(after, limit).await
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>> {
        (**self).holders(digest, limit).await
    }

    async fn link(&self, name: &Name, blob: &Descriptor, source: &Arc<dyn Source>) -> Result<bool> {
        (**self).link(name, blob, source).await
    }
}
