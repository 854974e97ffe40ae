//! `docker-archive:`, what `docker save` writes and `docker load` reads.
//!
//! - `manifest_json.rs`: the file that says what is in an archive. No I/O.
//! - `images.rs`: the images in an archive, as manifests and blobs.
//! - `read.rs`, `write.rs`: [`DockerArchive`] and [`DockerArchiveWriter`].

mod images;
mod manifest_json;
mod read;
mod write;

pub use read::{DockerArchive, DockerArchiveImage};
pub use write::{DockerArchiveOptions, DockerArchiveWriter};
