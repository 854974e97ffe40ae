//! Some images of an index, and single ones.

use crate::{Server, done, failed, scratch};

/// The index without the images that were not chosen arrives everywhere; with them listed, where
/// nothing has moved before that is refused.
// covers: C6
#[test]
fn some_platforms_of_an_index_go_to_every_destination() {
    let (scratch, source, sample) = scratch();
    let server = Server::start(&scratch.path().join("data"));
    let from = format!("{source}@{}", sample.index.digest);
    let chosen = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let places = [
        format!("docker://{}/small:v1", server.host),
        format!("oci:{}:v1", at("small")),
        format!("oci-archive:{}:v1", at("small.tar")),
        format!("dir:{}", at("small.dir")),
    ];
    for to in &places {
        let copied = done(&[&["copy", "--strip"], &chosen[..], &[&from, to]].concat());
        let digest = copied.split(' ').next().unwrap();
        assert_ne!(digest, sample.index.digest.as_str());
        let found = done(&["inspect", to]);
        assert!(found.contains(&format!("index {digest}")), "{found}");
        assert!(found.contains("linux/amd64") && found.contains("linux/arm64"), "{found}");
        assert_eq!(
            found.matches("platform").count() + found.matches("missing").count(),
            0,
            "{found}"
        );
        assert_eq!(found.matches("  linux/").count(), 2, "{found}");
    }
    let places =
        [format!("docker://{}/sparse:v1", server.host), format!("oci:{}:v1", at("sparse"))];
    for to in &places {
        let said = failed(&[&["copy"], &chosen[..], &[&from, to]].concat(), 1);
        assert!(said.contains("--strip") && said.contains("were not chosen"), "{said}");
    }
    assert!(!std::fs::exists(scratch.path().join("sparse/blobs/sha256")).unwrap());
    let repository = format!("docker://{}/sparse@{}", server.host, sample.index.digest);
    failed(&["inspect", &repository], 3);
    let sparse = scratch.path().join("sparse-data");
    let server = Server::start_with(&sparse, &["--references", "sparse-indexes"]);
    let to = format!("docker://{}/sparse:v1", server.host);
    let copied = done(&[&["copy"], &chosen[..], &[&from, &to]].concat());
    assert!(copied.starts_with(sample.index.digest.as_str()), "{copied}");
    let said = failed(&["copy", "--strip", &from, &to], 1);
    assert!(said.contains("--platform or --instance"), "{said}");
}

// covers: C6
#[test]
fn a_single_image_is_for_the_platform_that_is_asked_for() {
    let (scratch, source, sample) = scratch();
    let from = format!("{source}@{}", sample.image.digest);
    let to = format!("oci:{}:v1", scratch.path().join("to").display());
    let said = failed(&["copy", "--platform", "linux/s390x", &from, &to], 3);
    assert!(said.contains("--any-platform") && said.contains("linux/amd64"), "{said}");
    done(&["copy", "--platform", "linux/s390x", "--any-platform", &from, &to]);
    done(&["copy", "--platform", "linux/amd64", &from, &to]);
}

/// A manifest that was written twice, to get a tag, is counted once.
#[test]
fn counts_count_each_thing_once() {
    let (scratch, source, sample) = scratch();
    let from = format!("{source}@{}", sample.image.digest);
    let to = format!("oci:{}:v1", scratch.path().join("to").display());
    let copied = done(&["copy", "--referrers", &from, &to]);
    // The image, its signature, and what else is about it.
    let inspected = done(&["inspect", &from]);
    assert!(inspected.starts_with("oci:"), "{inspected}");
    let manifests = std::fs::read_dir(scratch.path().join("to/blobs/sha256"))
        .unwrap()
        .filter(|file| {
            let text = std::fs::read(file.as_ref().unwrap().path()).unwrap();
            text.starts_with(b"{") && String::from_utf8_lossy(&text).contains("schemaVersion")
        })
        .count();
    assert!(copied.contains(&format!("\n{manifests} manifests and ")), "{manifests}: {copied}");
    let again = done(&["copy", "--referrers", &from, &to]);
    assert!(again.contains("\n0 manifests and 0 blobs (0 B) copied, 0 blobs mounted, "), "{again}");
    let one = format!("docker-archive:{}:a:1", scratch.path().join("one.tar").display());
    let copied = done(&["copy", &format!("{source}@{}", sample.empty.digest), &one]);
    assert!(copied.contains("\n1 manifest and "), "{copied}");
}
