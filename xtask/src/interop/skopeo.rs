//! skopeo: copies between layouts and registries, lists, inspects, deletes.

use crate::interop::client::Client;
use crate::interop::content::{digest, same};
use crate::interop::skopeo_files;
use crate::interop::world::{World, expect, text};
use crate::process::{Result, say};

pub(crate) const CLIENT: Client = Client {
    name: "skopeo",
    programs: &[("skopeo", &["--version"])],
    scenarios: &[
        ("pushes an index, the server is killed, both pull it back", push_kill_pull),
        ("pulls what ocictl pushed", pull),
        ("what it does not copy comes back through ocictl after a kill", what_it_does_not_know),
        ("copies between repositories", copy),
        ("lists, inspects and deletes", manage),
        ("writes layouts that ocictl reads, and reads what it writes", skopeo_files::layouts),
        ("the same with oci-archive", skopeo_files::oci_archives),
        ("the same with dir", skopeo_files::directories),
        ("carries the signatures in a dir, as ocictl does", skopeo_files::signatures),
        ("the same with docker-archive, of single images", skopeo_files::docker_archives),
    ],
    not_covered: "attach (it knows no referrers); docker load (Docker's daemon needs the kernel's help: podman loads the same)",
};

pub(super) fn skopeo(world: &World<'_>, args: &[&str]) -> Result<String> {
    // The policy of the machine must not decide what a test may copy.
    let mut all = vec!["--insecure-policy"];
    all.extend(args);
    world.run("skopeo", &all)
}

/// Copies all of an index. Unless it is told to keep digests, skopeo compresses the layers that are not compressed.
pub(super) fn skopeo_copy(world: &World<'_>, args: &[&str]) -> Result<String> {
    let mut all = vec!["copy", "--all", "--preserve-digests"];
    all.extend(args);
    skopeo(world, &all)
}

fn push_kill_pull(world: &World<'_>) -> Result {
    let sample = text(&world.layout);
    let server = world.serve()?;
    let registry = format!("docker://{}/sample/index:v1", server.host);
    skopeo_copy(
        world,
        &["--dest-tls-verify=false", &format!("oci:{sample}:platforms"), &registry],
    )?;
    server.kill()?;

    let server = world.serve()?;
    let reference = format!("{}/sample/index:v1", server.host);
    let count = world.check(&reference, "platforms")?;
    let back = format!("oci:{}:platforms", world.text("back"));
    skopeo_copy(world, &["--src-tls-verify=false", &format!("docker://{reference}"), &back])?;
    same(&world.layout, &world.path("back"), "platforms")?;
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

fn pull(world: &World<'_>) -> Result {
    let server = world.serve()?;
    for name in ["platforms", "image"] {
        let reference = format!("{}/sample/{name}:v1", server.host);
        world.put(name, &reference)?;
        let back = format!("oci:{}:{name}", world.text(name));
        skopeo_copy(world, &["--src-tls-verify=false", &format!("docker://{reference}"), &back])?;
        same(&world.layout, &world.path(name), name)?;
    }
    Ok(())
}

fn what_it_does_not_know(world: &World<'_>) -> Result {
    let names =
        ["index", "platforms", "notes", "sha512", "empty", "embedded", "docker", "docker-list"];
    let server = world.serve()?;
    for name in names {
        world.put(name, &format!("{}/sample/all:{name}", server.host))?;
    }
    server.kill()?;
    let server = world.serve()?;
    for name in names {
        world.check(&format!("{}/sample/all:{name}", server.host), name)?;
    }
    Ok(())
}

fn copy(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let reference = format!("{}/sample/one:v1", server.host);
    world.put("platforms", &reference)?;
    let other = format!("{}/sample/other:v1", server.host);
    skopeo_copy(
        world,
        &[
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &format!("docker://{reference}"),
            &format!("docker://{other}"),
        ],
    )?;
    world.check(&other, "platforms").map(|_| ())
}

fn manage(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let repository = format!("{}/sample/managed", server.host);
    for tag in ["a", "b"] {
        world.put("image", &format!("{repository}:{tag}"))?;
    }
    let registry = format!("docker://{repository}");
    let tags = skopeo(world, &["list-tags", "--tls-verify=false", &registry])?;
    for tag in ["\"a\"", "\"b\""] {
        expect("skopeo list-tags", &tags, tag)?;
    }
    let tagged = format!("{registry}:a");
    let raw = skopeo(world, &["inspect", "--raw", "--tls-verify=false", &tagged])?;
    let ours = world.ocictl(&["inspect", "--raw", &tagged])?;
    if raw != ours {
        return Err("skopeo and ocictl show different manifests".into());
    }
    let shown = world.ocictl(&["inspect", &tagged])?;
    expect("ocictl inspect", &shown, digest(&world.layout, "image")?.as_str())?;
    // skopeo deletes the manifest, and its tags go along.
    skopeo(world, &["delete", "--tls-verify=false", &tagged])?;
    world.check_gone(&format!("{repository}:b"))
}
