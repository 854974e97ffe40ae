//! `docker-archive:`, what `docker save` writes and `docker load` reads.
//!
//! - `manifest_json.rs`: the file that says what is in an archive. No I/O.
//! - `images.rs`: the images in an archive, as manifests and blobs; `originals.rs` those manifests
//!   that are in it, `file.rs` its files.
//! - `read.rs`, `write.rs`: [`DockerArchive`] and [`DockerArchiveWriter`].

mod file;
mod images;
mod manifest_json;
mod originals;
mod read;
mod write;

pub use read::{DockerArchive, DockerArchiveImage};
pub use write::{DockerArchiveOptions, DockerArchiveWriter};
