//! Rows that no transaction leaves behind, and that nobody would ever come upon: what only damage makes, or a mistake.

/// A kind of row that fits to nothing, or contradicts another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A blob whose object is condemned, so that it would be deleted.
    Condemned,
    /// A blob that no repository has.
    Blob,
    /// The bytes of a manifest that no repository has.
    Manifest,
    /// A repository with no content.
    Repository,
}

/// The statement that looks at links, in both dialects: after the one of the first and second
/// parameters, its blob and its repository; of blobs up to the third parameter; no more than the
/// fourth. Each comes with the blob's digest and the repository's name if it is forgotten. A blob
/// may have very many links, and each step looks at a bounded number of them: in the order of an
/// index, and each by another one. PostgreSQL may read all references at once for EXISTS, and does
/// not for a value.
pub(super) const LINKS: &str = "
    SELECT link.blob, link.repository,
        CASE WHEN forgotten THEN (SELECT digest FROM blob WHERE blob.id = link.blob) END,
        CASE WHEN forgotten THEN (SELECT name FROM repository WHERE repository.id = link.repository) END
    FROM (
        SELECT link.blob, link.repository, link.candidate_since IS NULL AND (
            SELECT 1 FROM manifest_blob AS held
            WHERE held.repository = link.repository AND held.blob = link.blob LIMIT 1) IS NULL AS forgotten
        FROM repository_blob AS link
        WHERE (link.blob, link.repository) > ($1, $2) AND link.blob <= $3
        ORDER BY link.blob, link.repository LIMIT $4
    ) AS link
    ORDER BY link.blob, link.repository";

/// Which blobs are forgotten, by their links, which the statement calls `link`.
pub(super) const FORGOTTEN_LINK: &str = "link.candidate_since IS NULL AND NOT EXISTS (
    SELECT 1 FROM manifest_blob AS held WHERE held.repository = link.repository AND held.blob = link.blob)";

impl Misfit {
    /// All kinds. What is condemned must not be any more before anything else is mended.
    pub(crate) const ALL: [Self; 4] =
        [Self::Condemned, Self::Blob, Self::Manifest, Self::Repository];

    /// The statement that lists them, in both dialects: their ids after the first parameter, and their digests or names; no
    /// more than the second parameter.
    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Condemned => {
                "SELECT id, digest FROM blob WHERE id > $1
                 AND EXISTS (SELECT 1 FROM pending_object WHERE pending_object.key = blob.object)
                 ORDER BY id LIMIT $2"
            }
            Self::Blob => {
                "SELECT id, digest FROM blob WHERE id > $1
                 AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = blob.id)
                 ORDER BY id LIMIT $2"
            }
            Self::Manifest => {
                "SELECT id, digest FROM manifest WHERE id > $1
                 AND NOT EXISTS (SELECT 1 FROM repository_manifest AS link WHERE link.manifest = manifest.id)
                 ORDER BY id LIMIT $2"
            }
            Self::Repository => {
                "SELECT id, name FROM repository WHERE id > $1
                 AND NOT EXISTS (SELECT 1 FROM repository_blob AS link WHERE link.repository = repository.id)
                 AND NOT EXISTS (SELECT 1 FROM repository_manifest AS link WHERE link.repository = repository.id)
                 ORDER BY id LIMIT $2"
            }
        }
    }
}
