//! `oci-archive:`, an OCI image layout in a tar archive.
//!
//! - `tar_index.rs`: where what lies in a tar archive. `entry.rs`: its headers, and what they must not say.
//! - `tar_layout.rs`: the layout in an archive.
//! - `tar_writer.rs`: archives of files, written deterministically.
//! - `read.rs`, `write.rs`: [`OciArchive`] and [`OciArchiveWriter`].

mod entry;
mod read;
pub(crate) mod staging;
mod tar_index;
mod tar_layout;
mod tar_writer;
mod write;

pub use read::OciArchive;
pub use write::{OciArchiveOptions, OciArchiveWriter};

pub(crate) use entry::{compression_of, quoted};
pub(crate) use tar_index::TarIndex;
pub(crate) use tar_layout::TarLayout;
pub(crate) use tar_writer::TarWriter;
