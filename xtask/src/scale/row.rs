//! The rows of a registry's metadata, as both databases have them.

/// A row of a table. Numbers in it are ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Repository {
        id: i64,
        name: String,
    },
    /// A blob with its bytes in the database.
    Blob {
        id: i64,
        digest: String,
        data: Vec<u8>,
    },
    /// A repository has a blob.
    Holding {
        repository: i64,
        blob: i64,
    },
    Manifest {
        id: i64,
        digest: String,
        data: Vec<u8>,
    },
    /// A repository has a manifest.
    Link {
        id: i64,
        repository: i64,
        manifest: i64,
        media_type: String,
        artifact_type: Option<String>,
    },
    /// A manifest of a repository references a blob.
    Reference {
        parent: i64,
        repository: i64,
        blob: i64,
    },
    /// An index of a repository lists a manifest.
    Child {
        parent: i64,
        repository: i64,
        child: String,
    },
    Tag {
        repository: i64,
        name: String,
        manifest: i64,
    },
    Referrer {
        repository: i64,
        subject: String,
        digest: String,
        artifact_type: Option<String>,
        manifest: i64,
        descriptor: String,
    },
}
