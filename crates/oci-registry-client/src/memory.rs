//! Uploads that a later process goes on with.

use oci_spec_types::{Digest, Host, Name};

/// Remembers the uploads that are open at registries, so that a later process goes on with what
/// this one could not finish. What it fails to keep is sent anew; it has nothing to report.
///
/// It is asked beside requests, and so must not take long.
pub trait UploadMemory: Send + Sync {
    /// The record of the upload of a blob to a repository, for one writer at a time. `None` if
    /// another has it, or nothing can be kept.
    fn record(
        &self,
        host: &Host,
        repository: &Name,
        digest: &Digest,
    ) -> Option<Box<dyn UploadRecord>>;
}

/// The record of one upload. What it has stays when it is dropped.
pub trait UploadRecord: Send {
    /// The address that was kept, if there is one that is not too old.
    fn address(&mut self) -> Option<String>;

    /// Keeps the address where the upload goes on, in the place of the one before, and tells
    /// whether it has. The address has no user name or password, but may allow everybody to write
    /// to the upload.
    fn keep(&mut self, address: &str) -> bool;

    /// Forgets the address: the upload is complete, or given up.
    fn forget(&mut self);
}
