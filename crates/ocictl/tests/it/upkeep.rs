//! `ocictl gc`, `fsck` and `backup`, alone and beside a server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The files of a data directory that hold blobs.
pub(crate) fn files(data: &Path) -> Vec<PathBuf> {
    let directories = fs::read_dir(data.join("objects")).unwrap();
    let files = directories.flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// A layout with an image that has a layer of a few hundred KB.
fn large_image(scratch: &Path) -> String {
    let path = scratch.join("large");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::create(&path).await.unwrap();
        let layer: Vec<u8> =
            (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let config =
            oci_spec_types::Descriptor::of(oci_spec_types::MediaType::OCI_IMAGE_CONFIG, b"{}");
        let blob = oci_spec_types::Descriptor::of("application/x-noise".parse().unwrap(), &layer);
        for (descriptor, bytes) in [(&config, b"{}".to_vec()), (&blob, layer)] {
            oci_ref::Store::put_blob(&layout, descriptor, &bytes::Bytes::from(bytes))
                .await
                .unwrap();
        }
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": oci_spec_types::MediaType::OCI_IMAGE_MANIFEST,
            "config": config, "layers": [blob],
        });
        let manifest = oci_ref::Manifest::parse(manifest.to_string().into(), None, None).unwrap();
        let tags = ["image".parse().unwrap()];
        oci_ref::Store::put_manifest(&layout, &manifest, &tags, &oci_ref::Precondition::None)
            .await
            .unwrap();
    });
    format!("oci:{}:image", path.display())
}

#[test]
fn upkeep_goes_through_a_running_server_or_alone() {
    let (scratch, layout, _) = scratch();
    let data = scratch.path().join("data");
    let path = data.to_str().unwrap();
    let server = Server::start(&data);
    let image = format!("docker://{}/a/b:v1", server.host);
    done(&["copy", "--quiet", &format!("{layout}:index"), &image]);
    done(&[
        "copy",
        "--quiet",
        &large_image(scratch.path()),
        &format!("docker://{}/c:v1", server.host),
    ]);
    let mode = fs::metadata(data.join("control")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let backups = [scratch.path().join("backup1"), scratch.path().join("backup2")];
    let upkeep = |backup: &Path| {
        let report = json(&done(&["gc", "--data", path, "--json", "--dry-run"]));
        assert_eq!((&report["dry_run"], &report["blobs"]), (&true.into(), &0.into()));
        let said = done(&["gc", "--data", path, "--untagged-older-than", "30d"]);
        assert!(said.contains("0 untagged manifests deleted"), "{said}");
        let said = done(&["fsck", "--data", path, "--rate", "1000"]);
        assert!(said.contains("all is well") && said.contains("2 files"), "{said}");
        let said = done(&["backup", backup.to_str().unwrap(), "--data", path]);
        assert!(said.contains("2 of them in files"), "{said}");
    };
    upkeep(&backups[0]);
    let said = failed(&["backup", backups[0].to_str().unwrap(), "--data", path], 1);
    assert!(said.contains("not empty"), "{said}");
    drop(server);
    upkeep(&backups[1]);

    for backup in backups {
        let said = done(&["fsck", "--data", backup.to_str().unwrap()]);
        assert!(said.contains("all is well"), "{said}");
        let server = Server::start(&backup);
        let restored = format!("docker://{}/a/b:v1", server.host);
        let back = format!("oci:{}:x", backup.join("back").display());
        done(&["copy", "--quiet", &restored, &back]);
    }
}

/// By default the files of what is collected stay for an hour. The server can be told otherwise, and so can a collection.
#[test]
fn files_stay_as_long_as_it_is_said() {
    for (of_server, of_collection, deleted) in
        [(None, None, 0), (Some("0s"), None, 1), (None, Some("0s"), 1), (Some("0s"), Some("1h"), 0)]
    {
        let (scratch, layout, _) = scratch();
        let image = large_image(scratch.path());
        let data = scratch.path().join("data");
        let path = data.to_str().unwrap();
        let flag =
            |time: Option<&'static str>| time.map_or(vec![], |time| vec!["--longest-read", time]);
        let serve = [&["--gc-grace", "0s", "--gc-interval", "0s"], &flag(of_server)[..]].concat();
        let server = Server::start_with(&data, &serve);
        let to = format!("docker://{}/a/b:v1", server.host);
        done(&["copy", "--quiet", &image, &to]);
        done(&["copy", "--quiet", &format!("{layout}:index"), &to]);
        let before = files(&data).len();
        let gc = ["gc", "--json", "--data", path, "--untagged-older-than", "0s"];
        let report = json(&done(&[&gc, &flag(of_collection)[..]].concat()));
        assert_eq!(
            (&report["manifests"], &report["files"]),
            (&1.into(), &deleted.into()),
            "{report}"
        );
        assert_eq!(files(&data).len(), before - deleted);
    }
}

#[test]
fn damage_is_found_and_mended_and_has_its_exit_code() {
    for beside in [false, true] {
        let (scratch, ..) = scratch();
        let image = large_image(scratch.path());
        let data = scratch.path().join("data");
        let path = data.to_str().unwrap();
        let server = Server::start(&data);
        done(&["copy", "--quiet", &image, &format!("docker://{}/a/b:v1", server.host)]);
        let file = files(&data).pop().unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes[1000] ^= 1;
        fs::write(&file, bytes).unwrap();
        let server = beside.then_some(server);

        let output = ocictl(&["fsck", "--data", path]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("damaged") && said.contains("with --repair: "), "{said}");
        let lines = String::from_utf8(ocictl(&["fsck", "--json", "--data", path]).stdout).unwrap();
        let lines: Vec<Value> = lines.lines().map(json).collect();
        assert!(lines[0]["problem"]["remedy"].is_string(), "{lines:?}");
        assert_eq!(lines[1]["problems"], 1, "{lines:?}");

        let said = done(&["fsck", "--repair", "--data", path]);
        assert!(said.contains("mending: ") && said.contains("1 problems, 1 mended"), "{said}");
        done(&["fsck", "--data", path]);
        drop(server);
        // A push brings it back.
        let server = Server::start(&data);
        let registry = format!("docker://{}/a/b:v1", server.host);
        let back = format!("oci:{}:x", scratch.path().join("back").display());
        assert!(!ocictl(&["copy", "--quiet", &registry, &back]).status.success());
        done(&["copy", "--quiet", &image, &registry]);
        done(&["copy", "--quiet", &registry, &back]);
    }
}

#[test]
fn what_cannot_be_worked_on_is_said() {
    let scratch = TempDir::new().unwrap();
    let nothing = scratch.path().join("nothing");
    for command in [vec!["gc"], vec!["fsck"], vec!["backup", "/x"]] {
        let said = failed(&[&command[..], &["--data", nothing.to_str().unwrap()]].concat(), 1);
        assert!(said.contains("not a data directory") && said.contains("--data"), "{said}");
    }
    assert!(!nothing.exists(), "a command made a data directory");
    failed(&["gc", "--untagged-older-than", "long"], 2);

    // A server whose socket is gone.
    let data = scratch.path().join("data");
    let server = Server::start(&data);
    fs::remove_file(data.join("control")).unwrap();
    let said = failed(&["gc", "--data", data.to_str().unwrap()], 5);
    assert!(said.contains("control") && said.contains("stop it first"), "{said}");
    drop(server);
}
