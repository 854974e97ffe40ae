//! Several copies between the same two repositories.

use std::fmt;
use std::sync::Arc;

use oci_spec_types::Tag;

use super::run::Run;
use super::{CopyOptions, before, select};
use crate::{Result, Source, Store, Target};

/// Several copies between the same two repositories, such as of all that a repository holds: they share their limits, and
/// each digest moves once, however many of them reach it.
///
/// Each takes a manifest with all that it references, as [`copy`](crate::copy()) does. One that fails does not stop the
/// others. Which tags there are, they are told one by one; [`tags`](CopyOptions::tags), [`digest`](CopyOptions::digest),
/// [`select`](CopyOptions::select), [`referrers`](CopyOptions::referrers) and
/// [`tag_schemes`](CopyOptions::tag_schemes) have no meaning here. What was done, `progress` is told.
///
/// It remembers each digest that it has seen, some 300 bytes for each. Clones share all of it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use oci_ref::{Copier, CopyOptions, Memory, Source};
///
/// let (from, to) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
/// let copier = Copier::new(from.clone(), to, CopyOptions::default());
/// for tag in from.tags(None, 1000).await?.items {
///     copier.copy(&tag.clone().into(), &[tag]).await?;
/// }
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Copier(Arc<Run>);

impl Copier {
    /// From one repository to another.
    pub fn new(from: Arc<dyn Source>, to: Arc<dyn Store>, options: CopyOptions) -> Self {
        let options = CopyOptions {
            tags: Vec::new(),
            digest: None,
            select: super::Select::All,
            referrers: false,
            tag_schemes: false,
            ..options
        };
        Self(Arc::new(Run::new(from, to, options)))
    }

    /// Copies a manifest and all that it references, and sets tags last. Several calls may be under way.
    ///
    /// # Errors
    /// As for [`copy`](crate::copy()).
    pub async fn copy(&self, target: &Target, tags: &[Tag]) -> Result<()> {
        let found = self.0.read_named(target).await?;
        let (root, _) = select::choose_root(&self.0, found).await?;
        before::check(&self.0, &root).await?;
        self.0.clone().copy_one(root, tags).await
    }
}

impl fmt::Debug for Copier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copier").field("options", &self.0.options).finish_non_exhaustive()
    }
}
