//! Keys of annotations with a meaning (image-spec, `annotations.md`), and a few that tools agree on.

/// When the image was built, as an RFC 3339 date and time.
pub const CREATED: &str = "org.opencontainers.image.created";
/// Who is responsible for the image, free text.
pub const AUTHORS: &str = "org.opencontainers.image.authors";
/// Where to find more about the image.
pub const URL: &str = "org.opencontainers.image.url";
/// Where to find its documentation.
pub const DOCUMENTATION: &str = "org.opencontainers.image.documentation";
/// Where to find its source code.
pub const SOURCE: &str = "org.opencontainers.image.source";
/// The version of the packaged software.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The revision of its source code.
pub const REVISION: &str = "org.opencontainers.image.revision";
/// Who distributes it.
pub const VENDOR: &str = "org.opencontainers.image.vendor";
/// Its licences, as an SPDX expression.
pub const LICENSES: &str = "org.opencontainers.image.licenses";
/// The name of an entry in an image layout's `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// A title for people; for artifacts, the file name of a layer.
pub const TITLE: &str = "org.opencontainers.image.title";
/// A description for people.
pub const DESCRIPTION: &str = "org.opencontainers.image.description";
/// The digest of the image that this one is based on.
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// The reference of the image that this one is based on.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// When an artifact was made, as an RFC 3339 date and time.
pub const ARTIFACT_CREATED: &str = "org.opencontainers.artifact.created";
/// The full reference of an entry in a layout that containerd wrote.
pub const CONTAINERD_IMAGE_NAME: &str = "io.containerd.image.name";
/// In an answer to a referrers request: the filters that the registry applied.
pub const REFERRERS_FILTERS_APPLIED: &str = "org.opencontainers.referrers.filtersApplied";
