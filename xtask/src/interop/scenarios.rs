//! What is tried with each client.

use std::path::Path;

use crate::interop::World;
use crate::interop::content::{digest, same};
use crate::process::{Result, client, say};

type Scenario = fn(&World) -> Result;

pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("skopeo pushes an index, the server is killed, both pull it back", skopeo_push_kill_pull),
    ("ocictl pushes, skopeo pulls", ocictl_push_skopeo_pull),
    ("what skopeo does not copy comes back through ocictl after a kill", what_skopeo_does_not_know),
    ("skopeo lists, inspects and deletes", skopeo_manages),
    ("umoci's image goes through the registry and is unpacked", umoci_round_trip),
];

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn skopeo(args: &[&str]) -> Result<String> {
    // The policy of the machine must not decide what a test may copy.
    let mut all = vec!["--insecure-policy"];
    all.extend(args);
    client("skopeo", all)
}

/// Copies all of an index. Unless it is told to keep digests, skopeo compresses the layers that are not compressed.
fn skopeo_copy(args: &[&str]) -> Result<String> {
    let mut all = vec!["copy", "--all", "--preserve-digests"];
    all.extend(args);
    skopeo(&all)
}

fn skopeo_push_kill_pull(world: &World) -> Result {
    let sample = text(&world.layout);
    let server = world.serve()?;
    let registry = format!("docker://{}/sample/index:v1", server.host);
    skopeo_copy(&["--dest-tls-verify=false", &format!("oci:{sample}:platforms"), &registry])?;
    server.kill()?;

    let server = world.serve()?;
    let registry = format!("docker://{}/sample/index:v1", server.host);
    let ours = world.path("ours");
    world.ocictl(&["copy", &registry, &format!("oci:{}:platforms", text(&ours))])?;
    let count = same(&world.layout, &ours, "platforms")?;
    let theirs = world.path("theirs");
    let theirs_ref = format!("oci:{}:platforms", text(&theirs));
    skopeo_copy(&["--src-tls-verify=false", &registry, &theirs_ref])?;
    same(&world.layout, &theirs, "platforms")?;
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

fn ocictl_push_skopeo_pull(world: &World) -> Result {
    let server = world.serve()?;
    for name in ["platforms", "image"] {
        let registry = format!("docker://{}/sample/{name}:v1", server.host);
        world.ocictl(&["copy", &format!("oci:{}:{name}", text(&world.layout)), &registry])?;
        let back = world.path(name);
        let back_ref = format!("oci:{}:{name}", text(&back));
        skopeo_copy(&["--src-tls-verify=false", &registry, &back_ref])?;
        same(&world.layout, &back, name)?;
    }
    Ok(())
}

fn what_skopeo_does_not_know(world: &World) -> Result {
    let names =
        ["index", "platforms", "notes", "sha512", "empty", "embedded", "docker", "docker-list"];
    let server = world.serve()?;
    for name in names {
        let registry = format!("docker://{}/sample/all:{name}", server.host);
        world.ocictl(&["copy", &format!("oci:{}:{name}", text(&world.layout)), &registry])?;
    }
    server.kill()?;
    let server = world.serve()?;
    for name in names {
        let registry = format!("docker://{}/sample/all:{name}", server.host);
        let back = world.path("all");
        world.ocictl(&["copy", &registry, &format!("oci:{}:{name}", text(&back))])?;
        same(&world.layout, &back, name)?;
    }
    Ok(())
}

fn skopeo_manages(world: &World) -> Result {
    let server = world.serve()?;
    let registry = format!("docker://{}/sample/managed", server.host);
    for tag in ["a", "b"] {
        world.ocictl(&[
            "copy",
            &format!("oci:{}:image", text(&world.layout)),
            &format!("{registry}:{tag}"),
        ])?;
    }
    let tags = skopeo(&["list-tags", "--tls-verify=false", &registry])?;
    for tag in ["\"a\"", "\"b\""] {
        if !tags.contains(tag) {
            return Err(format!("skopeo list-tags printed {tags}, expected {tag}"));
        }
    }
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("{registry}:a")])?;
    let ours = world.ocictl(&["inspect", "--raw", &format!("{registry}:a")])?;
    if raw != ours {
        return Err("skopeo and ocictl show different manifests".into());
    }
    let shown = world.ocictl(&["inspect", &format!("{registry}:a")])?;
    let expected = digest(&world.layout, "image")?;
    if !shown.contains(expected.as_str()) {
        return Err(format!("ocictl inspect printed {shown}, expected {expected}"));
    }
    // skopeo deletes the manifest, and its tags go along.
    skopeo(&["delete", "--tls-verify=false", &format!("{registry}:a")])?;
    match world.ocictl(&["inspect", &format!("{registry}:b")]) {
        Err(error) if error.contains("exit status: 3") => Ok(()),
        Err(error) => Err(format!("expected not found (3): {error}")),
        Ok(shown) => Err(format!("the manifest was deleted, but is still there: {shown}")),
    }
}

fn umoci_round_trip(world: &World) -> Result {
    let made = text(&world.path("umoci"));
    let image = format!("{made}:base");
    client("umoci", ["init", "--layout", &made])?;
    client("umoci", ["new", "--image", &image])?;
    let file = world.path("hello");
    std::fs::write(&file, "hello\n").map_err(|error| format!("{}: {error}", file.display()))?;
    client("umoci", ["insert", "--rootless", "--image", &image, &text(&file), "/hello"])?;

    let server = world.serve()?;
    let registry = format!("docker://{}/umoci/image:v1", server.host);
    world.ocictl(&["copy", &format!("oci:{image}"), &registry])?;
    server.kill()?;
    let server = world.serve()?;
    let registry = format!("docker://{}/umoci/image:v1", server.host);
    let back = world.path("back");
    world.ocictl(&["copy", &registry, &format!("oci:{}:base", text(&back))])?;
    same(Path::new(&made), &back, "base")?;

    let bundle = world.path("bundle");
    let image = format!("{}:base", text(&back));
    client("umoci", ["unpack", "--rootless", "--image", &image, &text(&bundle)])?;
    let unpacked = std::fs::read_to_string(bundle.join("rootfs").join("hello"));
    match unpacked {
        Ok(content) if content == "hello\n" => Ok(()),
        other => Err(format!("umoci unpacked {other:?}, expected \"hello\"")),
    }
}
