//! `oci-archive:`, an OCI image layout in a tar archive.
//!
//! - `tar_index.rs`: where what lies in a tar archive. `entry.rs`: its headers, and what they must not say.
//! - `spool.rs`: compressed archives, and those from a pipe, on their way into a temporary file.
//! - `tar_layout.rs`: the layout in an archive.
//! - `tar_writer.rs`: archives of files, written deterministically.
//! - `read.rs`, `write.rs`: [`OciArchive`] and [`OciArchiveWriter`].

mod entry;
mod read;
mod spool;
pub(crate) mod staging;
mod tar_index;
mod tar_layout;
mod tar_writer;
mod write;

pub use read::OciArchive;
pub use spool::SpoolOptions;
pub use write::{OciArchiveOptions, OciArchiveWriter};

pub(crate) use entry::{clean, compression_of, quoted};
pub(crate) use tar_index::TarIndex;
pub(crate) use tar_layout::TarLayout;
pub(crate) use tar_writer::TarWriter;
