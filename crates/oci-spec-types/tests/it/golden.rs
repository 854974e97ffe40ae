//! Documents as tools write them, under `testdata/spec/`.

use oci_spec_types::{
    Descriptor, ImageConfig, ImageIndex, ImageManifest, MediaType, Platform, annotations,
    check_document,
};
use serde_json::Value;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/spec/", $name))
            .as_slice()
    };
}

/// Checks that nothing is lost or invented when `parsed`, read from `bytes`, is written again.
fn assert_kept(bytes: &[u8], parsed: &impl serde::Serialize) {
    let original: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), original);
}

#[test]
fn oci_manifest() {
    let bytes = golden!("oci-manifest.json");
    let manifest = ImageManifest::from_slice(bytes).unwrap();
    assert_kept(bytes, &manifest);
    assert_eq!(manifest.media_type, Some(MediaType::OCI_IMAGE_MANIFEST));
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[0].size, 28_231_465);
    assert_eq!(manifest.layers[1].digest.algorithm(), "sha512");
    assert_eq!(manifest.layers[1].urls, ["https://cdn.example.org/app.zst"]);
    assert_eq!(manifest.annotations[annotations::BASE_NAME], "registry.example.org/base:stable");
    assert_eq!(manifest.extra["org.example.build"]["id"], 4711);
}

#[test]
fn oci_config() {
    let bytes = golden!("oci-config.json");
    let config = ImageConfig::from_slice(bytes).unwrap();
    assert_kept(bytes, &config);
    assert_eq!((config.os.as_str(), config.architecture.as_str()), ("linux", "arm"));
    assert_eq!(config.rootfs.diff_ids.len(), 2);
    assert_eq!(config.history[1].empty_layer, Some(true));
    let run = config.config.unwrap();
    assert!(run.exposed_ports.contains("8080/tcp") && run.volumes.contains("/var/lib/app"));
    assert_eq!(run.entrypoint, ["/usr/bin/app"]);
    assert!(run.extra.contains_key("Healthcheck"));

    let manifest = ImageManifest::from_slice(golden!("oci-manifest.json")).unwrap();
    assert_eq!(manifest.config.size, bytes.len() as u64);
    manifest.config.digest.verify(bytes).unwrap();
}

#[test]
fn oci_artifact_with_subject() {
    let bytes = golden!("oci-artifact.json");
    let artifact = ImageManifest::from_slice(bytes).unwrap();
    assert_kept(bytes, &artifact);
    assert_eq!(artifact.config, Descriptor::empty_json());
    assert_eq!(artifact.artifact_type.as_deref(), Some("application/vnd.example.sbom.v1+json"));
    artifact.subject.unwrap().digest.verify(golden!("oci-manifest.json")).unwrap();
}

// `oras push … note.txt:'text/plain; charset=utf-8'`, oras 1.3.6
#[test]
fn oras_artifact_of_a_text() {
    let bytes = golden!("oras-text.json");
    let artifact = ImageManifest::from_slice(bytes).unwrap();
    assert_kept(bytes, &artifact);
    assert_eq!(artifact.layers[0].media_type.as_str(), "text/plain; charset=utf-8");
}

// `buildctl build … --export-cache type=registry,mode=max,image-manifest=false`
#[test]
fn buildkit_cache() {
    let bytes = golden!("buildkit-cache.json");
    let index = ImageIndex::from_slice(bytes).unwrap();
    assert_kept(bytes, &index);
    assert_eq!(index.manifests.iter().filter(|entry| entry.media_type.is_layer()).count(), 2);
    assert!(index.manifests.iter().all(|entry| !entry.media_type.is_manifest()));
}

#[test]
fn oci_index() {
    let bytes = golden!("oci-index.json");
    let index = ImageIndex::from_slice(bytes).unwrap();
    assert_kept(bytes, &index);
    assert_eq!(index.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
    assert_eq!(
        index.manifests[1].platform.as_ref().unwrap().to_string(),
        "windows(10.0.20348.2340)/amd64"
    );
    assert_eq!(index.manifests[3].extra["org.example.note"], "kept");
    assert!(index.manifests[4].media_type.is_index());
    index.manifests[0].digest.verify(golden!("oci-manifest.json")).unwrap();
}

#[test]
fn docker_schema_2() {
    let bytes = golden!("docker-manifest.json");
    let manifest = ImageManifest::from_slice(bytes).unwrap();
    assert_kept(bytes, &manifest);
    assert!(manifest.config.media_type.is_config());
    assert!(manifest.layers[1].media_type.is_non_distributable());

    let list = golden!("docker-manifest-list.json");
    let index = ImageIndex::from_slice(list).unwrap();
    assert_kept(list, &index);
    let platform: &Platform = index.manifests[0].platform.as_ref().unwrap();
    assert_eq!(platform.features, ["sse4"]);
    index.manifests[0].digest.verify(bytes).unwrap();
}

#[test]
fn docker_config_with_nulls() {
    let config = ImageConfig::from_slice(golden!("docker-config.json")).unwrap();
    let run = config.config.unwrap();
    assert!(run.volumes.is_empty() && run.entrypoint.is_empty() && run.labels.is_empty());
    assert_eq!(run.user.as_deref(), Some(""));
    assert_eq!(run.extra["OnBuild"], Value::Null);
    assert_eq!(config.extra["docker_version"], "24.0.7");
}

#[test]
fn every_prefix_of_a_document_is_refused() {
    let bytes = golden!("oci-manifest.json").trim_ascii_end();
    for end in 0..bytes.len() {
        assert!(check_document(&bytes[..end]).is_err(), "prefix of {end} bytes");
        assert!(ImageManifest::from_slice(&bytes[..end]).is_err(), "prefix of {end} bytes");
    }
}
