//! Layouts in which several manifests have one name, or none has one.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{done, failed, scratch};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Lists images by a name, or without one, and gives their digests.
fn list(layout: &Path, images: &[(&str, &str)], name: Option<&str>) {
    let entries: Vec<Value> = images
        .iter()
        .map(|(digest, platform)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            let blob = layout.join("blobs").join(digest.replacen(':', "/", 1));
            let mut entry = json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
                "size": fs::metadata(blob).unwrap().len(),
                "platform": { "os": os, "architecture": architecture },
            });
            if let Some(name) = name {
                entry["annotations"] = json!({ REF_NAME: name });
            }
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

// containers/skopeo#2463
// covers: C13
#[test]
fn a_platform_says_which_of_several_manifests_is_meant() {
    let (scratch, source, sample) = scratch();
    let directory = scratch.path().join("sample");
    let platforms = format!("{source}@{}", sample.platforms.digest);
    let index: Value = serde_json::from_str(&done(&["inspect", "--raw", &platforms])).unwrap();
    let images = index["manifests"].as_array().unwrap();
    let (one, two) = (images[0]["digest"].as_str().unwrap(), images[1]["digest"].as_str().unwrap());
    let both = [(one, "plan9/mips"), (two, "plan9/arm64")];
    for name in [Some("app"), None] {
        list(&directory, &both, name);
        let from = name.map_or(source.clone(), |name| format!("{source}:{name}"));
        for (digest, platform) in both {
            let to = format!("oci:{}", scratch.path().join("to").display());
            let copied = done(&["copy", "--platform", platform, &from, &to]);
            assert!(copied.starts_with(digest), "{copied}");
        }
        let to = format!("oci:{}", scratch.path().join("none").display());
        for args in [
            &["copy", &from, &to][..],
            &["copy", "--platform", "plan9/386", &from, &to],
            &["inspect", &from],
        ] {
            let code = if args.len() == 5 { 3 } else { 1 };
            let said = failed(args, code);
            for part in [one, two] {
                assert!(args.len() == 5 || said.contains(part), "{args:?}: {said}");
            }
        }
        assert!(!scratch.path().join("none").exists());
    }
}
