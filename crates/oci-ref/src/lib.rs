//! The OCI content graph: what a repository holds, wherever it lies.
//!
//! A repository of content is one small interface: [`Source`] reads, [`Store`] also writes. A registry over HTTP is one,
//! a layout on disk is one, [`Memory`] is one, and everything else is [`copy`] between two of them.
//!
//! | where | read | written | feature |
//! |---|---|---|---|
//! | memory | [`Memory`] | [`Memory`] | |
//! | `oci:` | `Layout` | `Layout` | `layout` |
//! | `dir:` | `Directory` | `Directory` | `layout` |
//! | a distribution registry's directory | `DistributionDirectory` | | `layout` |
//! | `oci-archive:` | `OciArchive` | `OciArchiveWriter` | `tar` |
//! | `docker-archive:` | `DockerArchive` | `DockerArchiveWriter` | `tar` |
//!
//! - [`Manifest`] holds exact bytes, their digest, and a parsed view. It is made by verifying bytes.
//! - [`Ref`] is an [`Image`] or an [`Index`]; [`walk_refs`] visits all that a ref reaches, as a stream; [`visit_refs`] calls a function.
//! - [`Blob`] verifies what it reads: whoever reads it to its end has read the right bytes.
//! - [`Staged`] is a blob being written: it has no name until its digest has been verified.
//!
//! Nothing here knows HTTP. Errors are one type, [`Error`], whose kinds are the distribution spec's error codes.

mod apart;
#[cfg(feature = "tar")]
mod archive;
mod blob;
mod build;
mod convert;
mod copy;
#[cfg(feature = "layout")]
mod dir;
#[cfg(feature = "layout")]
mod distribution;
#[cfg(feature = "tar")]
mod docker_archive;
mod error;
mod fanout;
#[cfg(feature = "layout")]
mod files;
mod graph;
mod layers;
#[cfg(feature = "layout")]
mod layout;
mod list;
mod lock;
mod manifest;
mod memory;
mod platform;
mod referenced;
mod referrers_list;
mod registry;
mod source;
mod store;
#[cfg(feature = "suite")]
pub mod suite;
mod target;
mod walk;

pub use apart::{LARGE_DOCUMENT, apart};
#[cfg(feature = "tar")]
pub use archive::{OciArchive, OciArchiveOptions, OciArchiveWriter, SpoolOptions};
pub use blob::{Blob, DEFAULT_BLOB_LIMIT};
pub use build::{ArtifactBuilder, Built, ImageBuilder, LayerContent};
pub use convert::{Change, Conversion, Dropped, Loss};
pub use copy::{
    Admission, AdmissionRequest, Copied, Copier, CopyEvent, CopyOptions, Format, OnCopyEvent,
    Reached, Select, Siblings, copy,
};
#[cfg(feature = "layout")]
pub use dir::{Directory, DirectoryOptions};
#[cfg(feature = "layout")]
pub use distribution::{
    DistributionContents, DistributionDirectory, DistributionRepositories, DistributionRepository,
};
#[cfg(feature = "tar")]
pub use docker_archive::{
    DockerArchive, DockerArchiveImage, DockerArchiveOptions, DockerArchiveWriter,
};
pub use error::{Error, ErrorKind, Result};
pub use fanout::Fanout;
pub use graph::{Image, Index, Ref};
pub use layers::Compression;
#[cfg(feature = "compression")]
pub use layers::{DEFAULT_LAYER_LIMIT, Layer, Layers};
#[cfg(feature = "layout")]
pub use layout::{
    Collected, GcOptions, Layout, LayoutCheck, LayoutEntry, LayoutOptions, LayoutProblem,
};
pub use list::{List, ListUpdate};
pub use lock::open_locked;
pub use manifest::{Document, Manifest, ManifestError};
pub use memory::Memory;
pub use platform::{
    Candidate, Choice, ChosenImage, Fit, NoMatch, Verdict, choose_entry, choose_image,
    host_platform,
};
pub use referenced::{Form, Referenced};
pub use registry::{Access, Registry};
pub use source::{BlobRead, Body, ByteRange, Cursor, ManifestBytes, Page, Referrers, Source};
pub use store::{Capabilities, Mounted, Precondition, Reopen, SourceBlob, Staged, Store, UploadId};
pub use target::Target;
pub use walk::{Found, RefPath, Visit, WalkOptions, visit_refs, walk_refs};
