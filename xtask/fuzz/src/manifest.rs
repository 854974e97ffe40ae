//! Documents of any kind, with each type that they can come with.
//!
//! What is accepted has the bytes and the digest of what came, no key twice, and views, conversions and walks that
//! agree with it.

use oci_spec_types::MediaType;

use crate::document;

/// Checks one input: a document.
pub fn check(data: &[u8]) {
    document::check_bytes(data);
    document::check(data, None);
    for declared in [
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::DOCKER_MANIFEST,
        MediaType::OCI_ARTIFACT_MANIFEST,
        MediaType::from_static("application/vnd.example+json"),
    ] {
        if let Some(manifest) = document::check(data, Some(&declared))
            && declared.is_manifest()
        {
            assert_eq!(*manifest.media_type(), declared, "read as another type than it came with");
        }
    }
}
