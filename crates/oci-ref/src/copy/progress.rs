//! What a copy tells while it runs.

use std::sync::Arc;

use oci_spec_types::Descriptor;

use crate::Dropped;

/// Something that happened during a copy. A bar, a log or JSON can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyEvent<'a> {
    /// A blob will be transferred.
    Begun(&'a Descriptor),
    /// So many more bytes of a blob have been read from the source.
    Bytes(&'a Descriptor, u64),
    /// The transfer of a blob goes on, or begins again, at this byte: what comes before may be there
    /// from an earlier copy.
    Retried(&'a Descriptor, u64),
    /// A blob has been transferred.
    Transferred(&'a Descriptor),
    /// A blob has been taken over from a sibling repository.
    Mounted(&'a Descriptor),
    /// A manifest has been written.
    Written(&'a Descriptor),
    /// A blob or manifest was there already.
    Skipped(&'a Descriptor),
    /// The format in which a manifest is written cannot hold something of it, or it is another now
    /// and something of the old one is left behind.
    Dropped(&'a Descriptor, &'a Dropped),
    /// Detached signatures may lie at this place, which the source cannot read, so none of those go
    /// along. It is told once, before anything is copied, unless signatures are to be dropped.
    SignaturesElsewhere(&'a str),
}

/// Told what happens. It is called from several tasks, and must not block.
pub type OnCopyEvent = Arc<dyn Fn(&CopyEvent<'_>) + Send + Sync>;
