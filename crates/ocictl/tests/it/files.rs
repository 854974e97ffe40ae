//! Layouts and archives as others name, pack and pipe them.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{OCICTL, done, failed, scratch};

// podman-container-tools/skopeo#1975, #762, #405
// covers: C13, C14
#[test]
fn a_layout_takes_the_names_that_skopeo_writes() {
    let (scratch, source, sample) = scratch();
    let from = format!("{source}@{}", sample.platforms.digest);
    let layout = scratch.path().join("o").display().to_string();
    for (number, name) in
        ["busybox:1.36", "library/app:v1", "rancher/x:v0.0.20", "v1"].into_iter().enumerate()
    {
        let archive = scratch.path().join(format!("{number}.tar")).display().to_string();
        for to in [format!("oci:{layout}:{name}"), format!("oci-archive:{archive}:{name}")] {
            // Again: it is there, and stays.
            for _ in 0..2 {
                let said = done(&["copy", &from, &to]);
                assert!(said.contains(&to), "{said}");
            }
            let found = done(&["inspect", &to]);
            assert!(found.contains(sample.platforms.digest.as_str()), "{found}");
        }
    }
    let said = failed(&["copy", &from, &format!("oci:{layout}:a//b")], 1);
    assert!(said.contains("a//b") && said.contains("expected a letter or digit"), "{said}");
}

/// The media type of what is somewhere.
fn media_type(at: &str) -> String {
    let manifest: Value = serde_json::from_str(&done(&["inspect", "--raw", at])).unwrap();
    manifest["mediaType"].as_str().unwrap_or_default().to_owned()
}

// covers: C7, C14
#[test]
fn a_docker_archive_becomes_an_oci_image_in_a_layout() {
    let (scratch, source, sample) = scratch();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let saved = format!("docker-archive:{}", at("saved.tar"));
    let from = format!("{source}@{}", sample.image.digest);
    done(&["copy", &from, &format!("{saved}:app:1")]);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let oci = "application/vnd.oci.image.manifest.v1+json";
    assert_eq!(media_type(&saved), docker);
    let own = done(&["copy", &saved, &format!("oci:{}:app", at("own"))]);
    assert_eq!(media_type(&format!("oci:{}:app", at("own"))), oci);
    let digest = own.split(' ').next().unwrap();
    assert!(done(&["inspect", &format!("oci:{}:app", at("own"))]).contains(digest), "{own}");
    done(&["copy", &saved, &format!("oci-archive:{}:app", at("own.tar"))]);
    assert_eq!(media_type(&format!("oci-archive:{}", at("own.tar"))), oci);
    done(&["copy", "--format", "preserve", &saved, &format!("oci:{}:app", at("as-is"))]);
    assert_eq!(media_type(&format!("oci:{}:app", at("as-is"))), docker);
    let to = format!("oci:{}:app", at("from-layout"));
    done(&["copy", &format!("oci:{}:app", at("as-is")), &to]);
    assert_eq!(media_type(&to), docker, "only docker-archive: is converted unasked");
    done(&["copy", "--format", "supported", &format!("oci:{}:app", at("as-is")), &to]);
    assert_eq!(media_type(&to), oci);
}

/// Runs the tool with a file as its standard input.
fn piped(args: &[&str], file: &Path) -> String {
    let output = Command::new(OCICTL).args(args).stdin(File::open(file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// covers: C14
#[test]
fn archives_come_on_the_standard_input() {
    let (scratch, source, sample) = scratch();
    let at = |name: &str| scratch.path().join(name);
    let from = format!("{source}@{}", sample.image.digest);
    done(&["copy", &from, &format!("oci-archive:{}:v1", at("oci.tar").display())]);
    done(&["copy", &from, &format!("docker-archive:{}:app:1", at("docker.tar").display())]);
    let digest = sample.image.digest.as_str();
    let to = format!("oci:{}:v1", at("to").display());
    assert!(piped(&["copy", "oci-archive:-:v1", &to], &at("oci.tar")).starts_with(digest));
    assert!(piped(&["inspect", "oci-archive:-"], &at("oci.tar")).contains(digest));
    assert!(piped(&["inspect", "docker-archive:-:app:1"], &at("docker.tar")).contains("image "));
    let said = failed(&["copy", &from, "oci-archive:-:v1"], 1);
    assert!(said.contains("standard output") && said.contains("./-"), "{said}");
    let said = failed(
        &[
            "copy",
            "--to-user",
            "me",
            "--to-password-file",
            "-",
            "oci-archive:-",
            "docker://127.0.0.1:1/x",
        ],
        1,
    );
    assert!(said.contains("standard input"), "{said}");
}
