//! Documents that come as an OCI index or a Docker list: as `manifest.rs`, and choosing from them and editing them.

use std::sync::Arc;

use oci_ref::{Memory, Ref, WalkOptions, choose_image};
use oci_spec_types::{MediaType, Platform};

use crate::document;
use crate::reading::bounds;
use crate::support::{assert_fit_for_logs, block_on};

/// Checks one input: a document.
pub fn check(data: &[u8]) {
    document::check_bytes(data);
    for declared in [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST] {
        let Some(manifest) = document::check(data, Some(&declared)) else { continue };
        document::check_edits(&manifest);
        let root = Ref::new(manifest, Arc::new(Memory::new())).expect("a list is a ref");
        let index = root.as_index().expect("a document of a list type is an index");
        for wanted in
            ["linux/amd64", "linux/arm/v7", "windows(10.0.20348.1)/amd64", "unknown/unknown"]
        {
            let wanted: Platform = wanted.parse().expect("a platform");
            match index.choose(&wanted) {
                Ok(choice) => assert_eq!(index.manifests()[choice.position], choice.descriptor),
                Err(none) => drop(none.to_string()),
            }
            let bounds = WalkOptions { sparse: false, ..bounds() };
            if let Err(error) = block_on(choose_image(index, &wanted, &bounds)) {
                // It tells of all candidates.
                assert_fit_for_logs(&error, 64 << 10);
            }
        }
    }
}
