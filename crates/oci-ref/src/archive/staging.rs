//! What is to be in an archive, gathered in a layout beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::files::{TEMPORARY, blocking, directory_of};
use crate::{Error, Layout, LayoutOptions, Result};

/// A layout in a temporary directory beside the file that an archive will be.
pub(crate) struct Staging {
    /// The layout.
    pub(crate) layout: Layout,
    /// The file that the archive will be.
    pub(crate) path: PathBuf,
    /// Whether the archive is synced before it is named.
    pub(crate) sync: bool,
    _directory: TempDir,
}

impl Staging {
    pub(crate) async fn create(path: PathBuf, sync: bool, sparse: bool) -> Result<Arc<Self>> {
        let beside = path.clone();
        let make = move || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(TEMPORARY).tempdir_in(directory_of(&beside)).map_err(|error| {
                let message = format!("archive {} cannot be begun", beside.display());
                Error::io(message, error)
            })
        };
        let directory = blocking(make).await?;
        let options = LayoutOptions { sparse, ..LayoutOptions::default() };
        let layout = Layout::create_with(directory.path().join("layout"), options).await?;
        Ok(Arc::new(Self { layout, path, sync, _directory: directory }))
    }

    /// The directory that the archive will be in.
    pub(crate) fn directory(&self) -> &Path {
        directory_of(&self.path)
    }

    /// The error for an archive that cannot be written.
    pub(crate) fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("archive {} cannot be written", self.path.display()), error)
    }
}

/// Reads what is gathered for an archive.
macro_rules! source_of_staging {
    ($writer:ty) => {
        #[async_trait::async_trait]
        impl $crate::Source for $writer {
            async fn resolve(
                &self,
                target: &$crate::Target,
            ) -> $crate::Result<oci_spec_types::Descriptor> {
                self.staging.layout.resolve(target).await
            }

            async fn manifest(&self, target: &$crate::Target) -> $crate::Result<$crate::Manifest> {
                self.staging.layout.manifest(target).await
            }

            async fn blob_size(
                &self,
                digest: &oci_spec_types::Digest,
            ) -> $crate::Result<Option<u64>> {
                self.staging.layout.blob_size(digest).await
            }

            async fn blob(
                &self,
                digest: &oci_spec_types::Digest,
                range: $crate::ByteRange,
            ) -> $crate::Result<$crate::BlobRead> {
                self.staging.layout.blob(digest, range).await
            }

            async fn tags(
                &self,
                after: Option<&$crate::Cursor>,
                limit: usize,
            ) -> $crate::Result<$crate::Page<oci_spec_types::Tag>> {
                self.staging.layout.tags(after, limit).await
            }

            async fn referrers(
                &self,
                subject: &oci_spec_types::Digest,
                artifact_type: Option<&str>,
                after: Option<&$crate::Cursor>,
                limit: usize,
            ) -> $crate::Result<$crate::Referrers> {
                self.staging.layout.referrers(subject, artifact_type, after, limit).await
            }
        }
    };
}
pub(crate) use source_of_staging;
