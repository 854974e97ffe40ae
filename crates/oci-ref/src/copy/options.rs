//! How to copy.

use std::fmt;
use std::sync::Arc;

use oci_spec_types::{Digest, Name, Platform, Reference, Tag};

use super::admission::Admission;
use super::formats::Format;
use super::progress::{CopyEvent, OnCopyEvent};
use crate::{Loss, Precondition};

/// What of an index to copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// All of it.
    #[default]
    All,
    /// The image that fits this platform best, in place of the index ([`host_platform`](crate::host_platform) is the
    /// system's own). Indexes in the index are looked into.
    Image(Platform),
    /// The index, with the entries that fit these platforms best. Indexes in the index are looked
    /// into. It is unchanged, so the others stay listed but are missing, and the destination must
    /// take sparse indexes, unless they are [stripped](CopyOptions::strip).
    Platforms(Vec<Platform>),
    /// The index, with these entries. It is unchanged, so the others stay listed but are missing,
    /// and the destination must take sparse indexes, unless they are
    /// [stripped](CopyOptions::strip). An empty selection copies the index alone.
    Instances(Vec<Digest>),
}

/// Says in which repository of a registry a blob is, if it knows one.
pub type Siblings = Arc<dyn Fn(&Digest) -> Option<Name> + Send + Sync>;

/// How to copy.
#[derive(Clone)]
pub struct CopyOptions {
    /// The tags that shall name the copy. They are set last. None: the copy is known by its digest only.
    pub tags: Vec<Tag>,
    /// The condition under which the tags are set.
    pub when: Precondition,
    /// The digest by which the destination is named. Nothing is written unless what is copied has
    /// it: so nothing is converted, and the digest of an index is refused where one image is copied
    /// in its place.
    pub digest: Option<Digest>,
    /// The entries of an index to copy. Of a single image there is nothing to select: it must fit
    /// the platforms that are asked for, or be the entry.
    pub select: Select,
    /// Takes a single image for any platform, whatever was selected. An image that says of
    /// no platform that it is for it fits each.
    pub any_platform: bool,
    /// Writes an index of which entries were selected with these alone. It then has
    /// another digest, so its signatures and what refers to it are left behind, which
    /// [`CopyEvent::Dropped`] tells; those of the entries go along.
    pub strip: bool,
    /// In which format manifests are written.
    pub format: Format,
    /// What to do with what that format cannot hold.
    pub loss: Loss,
    /// How many manifests, and as many blobs, move at a time.
    pub concurrency: usize,
    /// How many bytes the blobs that move at a time may have together. One larger blob moves alone.
    pub bytes_in_flight: u64,
    /// How deep indexes may be nested, and referrers refer to referrers.
    pub max_depth: usize,
    /// The name of the source's repository at the destination's registry, where both are one: blobs are mounted from it.
    pub mount_from: Option<Name>,
    /// Asked for each blob that is not there in which other repository of the destination's registry it is, to be mounted from
    /// there. Where it knows none, `mount_from` is tried.
    pub siblings: Option<Siblings>,
    /// Whether everything that refers to what is copied goes along, and what refers to that.
    pub referrers: bool,
    /// Whether content under tags that are made of the digest goes along: `sha256-<hex>`, and that with `.sig`, `.att`
    /// and `.sbom`.
    pub tag_schemes: bool,
    /// Whether detached signatures are left behind. Else a destination that cannot keep them is an error, before
    /// anything is copied.
    pub drop_signatures: bool,
    /// Asked about each manifest, before anything that it references is read.
    pub admission: Option<Arc<dyn Admission>>,
    /// The reference by which the source is named, for `admission`.
    pub name: Option<Reference>,
    /// Told what happens.
    pub progress: Option<OnCopyEvent>,
    /// Whether nothing is written: the result says what would be.
    pub dry_run: bool,
}

impl Default for CopyOptions {
    /// No tags, no condition, all of an index as it is, 8 at a time of up to 1 GiB together, 16 levels, no referrers.
    fn default() -> Self {
        Self {
            tags: Vec::new(),
            when: Precondition::None,
            digest: None,
            select: Select::All,
            any_platform: false,
            strip: false,
            format: Format::Preserve,
            loss: Loss::Refuse,
            concurrency: 8,
            bytes_in_flight: 1 << 30,
            max_depth: 16,
            mount_from: None,
            siblings: None,
            referrers: false,
            tag_schemes: false,
            drop_signatures: false,
            admission: None,
            name: None,
            progress: None,
            dry_run: false,
        }
    }
}

impl CopyOptions {
    /// The format in which manifests are written. What is named by its digest stays as it is.
    pub(super) fn written_format(&self) -> Format {
        if self.digest.is_some() { Format::Preserve } else { self.format }
    }

    pub(super) fn tell(&self, event: &CopyEvent<'_>) {
        if let Some(progress) = &self.progress {
            progress(event);
        }
    }
}

impl fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions")
            .field("tags", &self.tags)
            .field("when", &self.when)
            .field("digest", &self.digest)
            .field("select", &self.select)
            .field("any_platform", &self.any_platform)
            .field("strip", &self.strip)
            .field("format", &self.format)
            .field("loss", &self.loss)
            .field("concurrency", &self.concurrency)
            .field("bytes_in_flight", &self.bytes_in_flight)
            .field("max_depth", &self.max_depth)
            .field("mount_from", &self.mount_from)
            .field("siblings", &self.siblings.is_some())
            .field("referrers", &self.referrers)
            .field("tag_schemes", &self.tag_schemes)
            .field("drop_signatures", &self.drop_signatures)
            .field("admission", &self.admission.is_some())
            .field("name", &self.name)
            .field("progress", &self.progress.is_some())
            .field("dry_run", &self.dry_run)
            .finish()
    }
}
