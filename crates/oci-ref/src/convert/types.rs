//! Which layer type of one format is which of the other.

use oci_spec_types::MediaType;

const PAIRS: [(MediaType, MediaType); 4] = [
    (MediaType::OCI_LAYER, MediaType::DOCKER_LAYER),
    (MediaType::OCI_LAYER_GZIP, MediaType::DOCKER_LAYER_GZIP),
    (MediaType::OCI_LAYER_NONDISTRIBUTABLE, MediaType::DOCKER_FOREIGN_LAYER),
    (MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP, MediaType::DOCKER_FOREIGN_LAYER_GZIP),
];

/// A layer type in the other format.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Layer {
    Official(MediaType),
    /// A type that the format does not define, but that some readers know.
    Unofficial(MediaType),
    None,
}

/// The layer type that a layer of `from` has in the format. A type of that format stays.
pub(super) fn layer_type(from: &MediaType, docker: bool) -> Layer {
    let pair = PAIRS.into_iter().find(|(oci, of_docker)| from == oci || from == of_docker);
    match pair {
        Some((_, of_docker)) if docker => Layer::Official(of_docker),
        Some((oci, _)) => Layer::Official(oci),
        None if *from == MediaType::OCI_LAYER_ZSTD || *from == MediaType::DOCKER_LAYER_ZSTD => {
            if docker {
                Layer::Unofficial(MediaType::DOCKER_LAYER_ZSTD)
            } else {
                Layer::Official(MediaType::OCI_LAYER_ZSTD)
            }
        }
        None if *from == MediaType::OCI_LAYER_NONDISTRIBUTABLE_ZSTD && !docker => {
            Layer::Official(from.clone())
        }
        None => Layer::None,
    }
}
