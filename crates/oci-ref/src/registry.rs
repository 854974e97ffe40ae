//! Many repositories by name: the engine of a registry.

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec_types::{Descriptor, Digest, Name};

use crate::{Cursor, Page, Result, Source, Store};

/// The purpose for which a repository is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read. A repository that holds nothing is not known.
    Read,
    /// To write. A repository that is not known can come to be, once something is stored in it.
    Write,
}

/// A registry's engine: repositories by name. The crate `oci-registry-server` puts HTTP over it.
///
/// Repositories are isolated: what a [`Store`] of one repository returns must not depend on what
/// another one holds. Only a mount takes content over; the server decides first whether the caller
/// may read its source.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Opens a repository. With [`Access::Write`] one that is not known is made as soon as
    /// something is stored in it, and not before.
    ///
    /// # Errors
    /// `NAME_UNKNOWN` with [`Access::Read`] if it is not known.
    async fn repository(&self, name: &Name, access: Access) -> Result<Arc<dyn Store>>;

    /// Returns a page of at most `limit` names of known repositories, in the order of their bytes.
    async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>>;

    /// Returns at most `limit` repositories that hold a blob, for a mount that does not say from
    /// where. The server takes the first from which the caller may pull. An engine that has no
    /// index of this returns none, and such a mount becomes an upload.
    async fn holders(&self, _digest: &Digest, _limit: usize) -> Result<Vec<Name>> {
        Ok(Vec::new())
    }

    /// Links a blob into a repository: its bytes stay in `source`, and are read from there whenever
    /// it is pulled. Returns false if the engine cannot do this, and the bytes are to be copied
    /// instead.
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
