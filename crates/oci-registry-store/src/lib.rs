//! A durable engine for an OCI registry: metadata in SQLite or PostgreSQL, bytes in local files.
//!
//! [`DurableRegistry`] is a [`Registry`](oci_ref::Registry) over a data directory.
//!
//! # Several processes
//! With SQLite one process uses a data directory at a time. With [`EngineOptions::database`] naming a PostgreSQL database (feature
//! `postgres`), any number of them share it, together with the files. What one has acknowledged the others give at once,
//! uploads go on in any of them, and one that ends in the middle of anything leaves nothing that the others do not find and
//! remove once its lease has run out.
//!
//! # How content lies
//! The database holds the truth, the files hold bytes under random names, and a commit is one transaction. An upload is
//! written straight into the file where it stays; the digest gets its name by a row. Manifests, and blobs of up to 32 KiB, lie in
//! the database. Equal content is stored once, and each repository has it only if it was pushed or mounted there.
//!
//! With the feature `clouds`, the bytes can lie in a bucket of Amazon S3 (or what speaks its protocol), Google Cloud Storage or
//! Azure Blob Storage: see [`Storage`]. The rest is the same.
//!
//! # What holds
//! - Content is acknowledged after its bytes are synced and its transaction is committed. Concurrent requests share a commit.
//! - A file is announced in the database before it is made, so that a crash leaves nothing that the next start does not
//!   find and remove.
//! - A manifest is stored with its references, its entry among referrers and its tags at once, or not at all.
//! - A blob that a manifest of the same repository references cannot be deleted from it (`DENIED`). The manifests of an
//!   index can.
//! - An upload that was suspended goes on after a restart, at the offset that was recorded.
//! - Blobs that no manifest of their repository references go after a time of grace, by [`DurableRegistry::collect`], which runs
//!   beside pushes and pulls. Whoever pushes, mounts or asks for a blob has that time again. Manifests that have lost their
//!   tags go only if [`EngineOptions::untagged`] says so, and never what a manifest that stays lists or is about.
//!
//! # What is absent
//! Systems without Unix files.

#[cfg(not(unix))]
compile_error!(
    "oci-registry-store needs positioned reads and writes, and directories that can be synced, as on Unix"
);

mod backup;
mod blocking;
mod buffers;
mod cache;
mod collect;
mod database;
mod directory;
mod engine;
mod fsck;
mod metadata;
mod objects;
mod options;
mod private;
mod random;
mod registry;
mod repository;
mod space;
mod storage;
mod upgrade;
mod upload;
mod verify;
mod weight;

pub use backup::BackupReport;
pub use collect::{CollectOptions, CollectReport};
pub use database::Database;
pub use fsck::{FsckEvent, FsckOptions, FsckProblem, FsckReport, FsckStage};
pub use options::{EngineOptions, References};
pub use registry::DurableRegistry;
pub use storage::Storage;
