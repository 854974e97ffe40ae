//! skopeo's files: layouts, archives and directories, written by one tool and read by the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::interop::content::same;
use crate::interop::skopeo::{skopeo, skopeo_copy};
use crate::interop::world::{World, expect, text};
use crate::process::Result;

/// What of the sample skopeo keeps in layouts as it is: it takes only OCI manifests there.
const OCI: [&str; 2] = ["platforms", "image"];

/// Copies to a form of files with one tool and on with the other, both ways round. Nothing may change.
fn round_trips(world: &World<'_>, names: &[&str], form: impl Fn(&str, &str) -> String) -> Result {
    for name in names {
        let from = format!("oci:{}:{name}", text(&world.layout));
        let [ours, theirs] = ["ours", "theirs"].map(|who| form(&format!("{who}-{name}"), name));
        let back = format!("back-{name}");
        world.ocictl(&["copy", &from, &ours])?;
        skopeo_copy(world, &[&ours, &theirs])?;
        world.ocictl(&["copy", &theirs, &format!("oci:{}:{name}", world.text(&back))])?;
        same(&world.layout, &world.path(&back), name)?;
    }
    Ok(())
}

pub(super) fn layouts(world: &World<'_>) -> Result {
    round_trips(world, &OCI, |path, name| format!("oci:{}:{name}", world.text(path)))
}

pub(super) fn oci_archives(world: &World<'_>) -> Result {
    round_trips(world, &OCI, |path, name| format!("oci-archive:{}.tar:{name}", world.text(path)))
}

pub(super) fn directories(world: &World<'_>) -> Result {
    let names = ["platforms", "image", "docker", "docker-list"];
    round_trips(world, &names, |path, _| format!("dir:{}", world.text(path)))
}

/// Signatures of a list and of an image in it go from directory to directory, with either tool.
pub(super) fn signatures(world: &World<'_>) -> Result {
    let made = world.text("made");
    let from = format!("oci:{}:platforms", text(&world.layout));
    world.ocictl(&["copy", &from, &format!("dir:{made}")])?;
    let list = world.read("made/manifest.json")?;
    let list: Value = serde_json::from_slice(&list).map_err(|error| error.to_string())?;
    let digest = list["manifests"][0]["digest"].as_str().unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").ok_or("the list's first entry has no digest")?;
    // The first byte is that of an OpenPGP packet, by which skopeo knows its kind.
    world.file("made/signature-1", b"\x90of the list")?;
    world.file(&format!("made/{hex}.signature-1"), b"\x90of an image")?;
    let [theirs, ours] = ["theirs", "ours"].map(|name| format!("dir:{}", world.text(name)));
    skopeo_copy(world, &[&format!("dir:{made}"), &theirs])?;
    world.ocictl(&["copy", &theirs, &ours])?;
    let [made, theirs, ours] = ["made", "theirs", "ours"].map(|name| files(&world.path(name)));
    let (made, theirs, ours) = (made?, theirs?, ours?);
    if made != theirs || made != ours {
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        return Err(format!(
            "the directories differ: made {:?}, by skopeo {:?}, by ocictl {:?}",
            names(&made),
            names(&theirs),
            names(&ours)
        ));
    }
    Ok(())
}

/// The files of a directory with their content.
fn files(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let failed = |error| format!("{}: {error}", path.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let content = fs::read(entry.path()).map_err(failed)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), content);
    }
    Ok(files)
}

/// What Docker saves has other layers than an image in a registry: not compressed, and with other digests. What stays is
/// the config, and with it what the layers are when they are unpacked.
pub(super) fn docker_archives(world: &World<'_>) -> Result {
    // Docker's own format has no zstd, which the others of the sample are packed with.
    for name in ["empty", "docker"] {
        let from = format!("dir:{}", world.text(name));
        world.ocictl(&["copy", &format!("oci:{}:{name}", text(&world.layout)), &from])?;
        let config = world.config(&from)?;
        let archive = |who: &str| {
            format!("docker-archive:{}.tar:sample/{name}:v1", world.text(&format!("{who}-{name}")))
        };
        let (theirs, ours) = (archive("theirs"), archive("ours"));
        skopeo(world, &["copy", &from, &theirs])?;
        let read = format!("oci:{}:{name}", world.text(&format!("read-{name}")));
        // Its layers are verified by their diff IDs, which the config has.
        world.ocictl(&["copy", &theirs, &read])?;
        world.ocictl(&["copy", &from, &ours])?;
        let back = format!("oci:{}:{name}", world.text(&format!("back-{name}")));
        skopeo(world, &["copy", &ours, &back])?;
        for copied in [&read, &back] {
            let found = world.config(copied)?;
            if found != config {
                return Err(format!("{copied} has the config {found}, expected {config}"));
            }
        }
    }
    let list = format!("oci:{}:platforms", text(&world.layout));
    let to = format!("docker-archive:{}:sample/list:v1", world.text("list.tar"));
    match world.ocictl(&["copy", &list, &to]) {
        Err(error) => expect("ocictl", &error, "choose one image of it"),
        Ok(_) => Err("ocictl wrote a list as a docker-archive".into()),
    }
}
