//! Build caches and artifact manifests: imported, copied, shown, and refused where that was asked
//! for.

use std::fs;

use bytes::Bytes;
use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};
use serde_json::{Value, json};

use super::*;

/// A cache as BuildKit writes it with `image-manifest=false`.
fn cache() -> (Manifest, Vec<(Descriptor, Bytes)>) {
    let config = MediaType::from_static("application/vnd.buildkit.cacheconfig.v0");
    let parts = [
        (MediaType::OCI_LAYER_GZIP, Bytes::from_static(b"not read by anybody")),
        (config, Bytes::from_static(b"{\"layers\":[],\"records\":[]}")),
    ];
    let blobs = parts.map(|(media_type, bytes)| (Descriptor::of(media_type, &bytes), bytes));
    let index = ImageIndex::new(blobs.iter().map(|(entry, _)| entry.clone()).collect());
    let index = serde_json::to_vec(&index).unwrap();
    (Manifest::parse(index.into(), None, None).unwrap(), blobs.into())
}

/// A storage directory of a distribution registry that holds one.
fn distribution(root: &Path, manifest: &Manifest, blobs: &[(Descriptor, Bytes)]) {
    let root = root.join("docker/registry/v2");
    let link = |place: &str, digest: &Digest| {
        let place = root.join("repositories/bk/cache").join(place);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("link"), digest.as_str()).unwrap();
    };
    let blob = |digest: &Digest, bytes: &[u8]| {
        let hex = digest.encoded();
        let place = root.join("blobs/sha256").join(&hex[..2]).join(hex);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("data"), bytes).unwrap();
    };
    blob(manifest.digest(), manifest.bytes());
    link(
        &format!("_manifests/revisions/sha256/{}", manifest.digest().encoded()),
        manifest.digest(),
    );
    link("_manifests/tags/t/current", manifest.digest());
    for (descriptor, bytes) in blobs {
        blob(&descriptor.digest, bytes);
        link(&format!("_layers/sha256/{}", descriptor.digest.encoded()), &descriptor.digest);
    }
}

// moby/buildkit#1550, #3781, goharbor/harbor#14774
#[test]
fn a_build_cache_is_imported_copied_and_shown() {
    let scratch = TempDir::new().unwrap();
    let server = Server::start(&scratch.path().join("data"));
    let (manifest, blobs) = cache();
    let old = scratch.path().join("old");
    distribution(&old, &manifest, &blobs);
    let to = format!("docker://{}", server.host);
    let said = done(&["import", "--json", &old.display().to_string(), &to]);
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&said["manifests"], &said["blobs"], &said["problems"]),
        (&1.into(), &2.into(), &0.into())
    );

    let imported = format!("{to}/bk/cache:t");
    let layout = format!("oci:{}:t", scratch.path().join("layout").display());
    let back = format!("{to}/back:t");
    done(&["copy", &imported, &layout]);
    done(&["copy", &layout, &back]);
    for reference in [&imported, &layout, &back] {
        assert_eq!(done(&["inspect", "--raw", reference]).as_bytes(), manifest.bytes());
        let shown = done(&["inspect", reference]);
        for (descriptor, _) in &blobs {
            assert!(shown.contains(&format!("  blob {}", descriptor.digest)), "{shown}");
        }
        let shown: Value = serde_json::from_str(&done(&["inspect", "--json", reference])).unwrap();
        let entries = shown["manifests"].as_array().unwrap();
        let blob = |entry: &Value| (entry["blob"].clone(), entry["missing"].clone());
        assert_eq!(entries.len(), 3);
        assert!(entries[1..].iter().all(|entry| blob(entry) == (true.into(), false.into())));
    }
}

// goharbor/harbor#12975
#[test]
fn manifests_of_other_types_are_shown_and_taken_unless_they_are_refused() {
    let scratch = TempDir::new().unwrap();
    let path = scratch.path().join("layout");
    let blob = Bytes::from_static(b"attached");
    let described = Descriptor::of(MediaType::from_static("text/plain"), &blob);
    let documents = [
        (
            "oci",
            json!({"mediaType": MediaType::OCI_ARTIFACT_MANIFEST, "artifactType": "a/b", "blobs": [described]}),
        ),
        (
            "oras",
            json!({"mediaType": MediaType::ORAS_ARTIFACT_MANIFEST, "artifactType": "a/b", "blobs": [described]}),
        ),
        (
            "other",
            json!({"mediaType": "application/vnd.example+json", "artifactType": "a/b", "x": [described]}),
        ),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::create(&path).await.unwrap();
        layout.put_blob(&described, &blob).await.unwrap();
        for (name, document) in &documents {
            let manifest = Manifest::parse(document.to_string().into(), None, None).unwrap();
            let tag = name.parse().unwrap();
            layout.put_manifest(&manifest, &[tag], &Precondition::None).await.unwrap();
        }
    });
    let server = Server::start(&scratch.path().join("data"));
    let strict = scratch.path().join("strict");
    let strict = Server::start_with(&strict, &["--unknown-manifests", "refuse"]);
    for (name, _) in documents {
        let from = format!("oci:{}:{name}", path.display());
        let to = format!("docker://{}/x:{name}", server.host);
        done(&["copy", &from, &to]);
        for reference in [&from, &to] {
            let shown = done(&["inspect", reference]);
            let line = format!("  {}  text/plain  8 B", described.digest);
            assert!(shown.contains(&line) && shown.contains("artifact a/b"), "{shown}");
        }
        let said = failed(&["copy", &from, &format!("docker://{}/x:{name}", strict.host)], 1);
        assert!(said.contains("MANIFEST_INVALID") || said.contains("not taken here"), "{said}");
    }
}
