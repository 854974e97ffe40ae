//! Copying between two repositories.

mod admission;
mod before;
mod content;
mod copier;
mod done;
mod formats;
mod kept;
mod limits;
mod options;
mod progress;
mod referrers;
mod run;
mod select;
mod sparse;
mod tagged;

use std::sync::Arc;

use oci_spec_types::Descriptor;

use crate::{Result, Source, Store, Target};

pub use admission::{Admission, AdmissionRequest, Reached};
pub use copier::Copier;
pub use formats::Format;
pub use options::{CopyOptions, Select, Siblings};
pub use progress::{CopyEvent, OnCopyEvent};

/// What a copy did, or for a dry run what it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The manifest that the destination now has: what was asked for, or the image that was chosen of it.
    pub descriptor: Descriptor,
    /// Manifests written, each once, whatever else of it was set.
    pub manifests: u64,
    /// Blobs transferred.
    pub blobs: u64,
    /// Bytes of the blobs transferred.
    pub bytes: u64,
    /// Blobs taken over from a sibling repository.
    pub mounted: u64,
    /// Manifests and blobs that were there already.
    pub skipped: u64,
}

/// Copies a manifest and all that it references, byte for byte: children before their parents, tags last.
///
/// What the destination has is not sent again, and each digest moves once, however many manifests reference it. That a
/// manifest is there says nothing about what it references, so that is looked at all the same. A copy that fails, or
/// whose future is dropped, leaves no manifest without what it references, and the same copy run again completes it.
/// It must run on a tokio runtime.
///
/// # Errors
/// Those of the source and of the destination, with what was being copied. Nothing is written if the destination cannot
/// hold what was asked for, if it takes images for certain operating systems and one of them is for
/// another, if it is named by another digest than what is copied has, or if `options` name entries
/// that are not there.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use oci_ref::{CopyOptions, Manifest, Memory, Precondition, Source, Store, copy};
/// use oci_spec_types::Tag;
///
/// let (from, to) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
/// let latest: Tag = "latest".parse().unwrap();
/// let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let index = Manifest::parse(index.as_slice().into(), None, None)?;
/// from.put_manifest(&index, &[latest.clone()], &Precondition::None).await?;
///
/// let options = CopyOptions { tags: vec![latest.clone()], ..CopyOptions::default() };
/// let copied = copy(from, &latest.clone().into(), to.clone(), options).await?;
/// assert_eq!(copied.manifests, 1);
/// assert_eq!(to.manifest(&latest.into()).await?.bytes(), index.bytes());
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
pub async fn copy(
    from: Arc<dyn Source>,
    target: &Target,
    to: Arc<dyn Store>,
    options: CopyOptions,
) -> Result<Copied> {
    let run = Arc::new(run::Run::new(from, to, options));
    let found = run.read_named(target).await?;
    let (root, selection) = select::choose_root(&run, found).await?;
    run.selection.get_or_init(|| selection);
    before::check(&run, &root).await?;
    run.copy_root(root).await
}
