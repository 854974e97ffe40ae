//! Referrers where the registry has no API for them: a list under a tag of the subject's.

mod left_alone;
pub(crate) mod old;
mod together;
mod writing;

use oci_ref::Manifest;
use oci_registry_client::ReferrersFailure;
use oci_spec_types::{Descriptor, ImageIndex, ImageManifest, MediaType};

use crate::server::Answer;

pub(crate) fn subject() -> Descriptor {
    Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"the subject")
}

pub(crate) fn tag() -> String {
    subject().digest.as_str().replace(':', "-")
}

/// An artifact with the subject, of its own kind and number.
pub(crate) fn artifact(kind: &str, number: u32) -> Manifest {
    let mut image = ImageManifest::new(Descriptor::empty_json(), Vec::new());
    image.artifact_type = Some(kind.into());
    image.subject = Some(subject());
    image.annotations.insert("number".into(), number.to_string());
    Manifest::parse(serde_json::to_vec(&image).unwrap().into(), None, None).unwrap()
}

pub(crate) fn index(entries: &[Descriptor]) -> Answer {
    let index = ImageIndex::new(entries.to_vec());
    Answer::ok(serde_json::to_vec(&index).unwrap())
        .header("Content-Type", MediaType::OCI_IMAGE_INDEX)
}

pub(crate) fn entries(artifacts: &[(&str, u32)]) -> Vec<Descriptor> {
    artifacts.iter().map(|(kind, number)| artifact(kind, *number).as_referrer().unwrap()).collect()
}

pub(crate) fn numbers(listed: &[Descriptor]) -> Vec<&str> {
    listed.iter().map(|entry| entry.annotations["number"].as_str()).collect()
}

/// An index of its own, as somebody else would write it.
pub(crate) fn written_by_others(artifacts: &[(&str, u32)]) -> Manifest {
    let index = ImageIndex::new(entries(artifacts));
    Manifest::parse(serde_json::to_vec(&index).unwrap().into(), None, None).unwrap()
}

/// The failure to change the list, as the client tells it.
fn failure(error: &oci_ref::Error) -> &ReferrersFailure {
    error.find_source::<oci_registry_client::Error>().unwrap().referrers_failure().unwrap()
}
