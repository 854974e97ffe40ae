//! podman: pulls, pushes and searches, with storage as buildah's.

use crate::interop::buildah::{contained, policy};
use crate::interop::client::Client;
use crate::interop::world::{World, expect, expect_lines, text};
use crate::process::Result;

pub(crate) const CLIENT: Client = Client {
    name: "podman",
    programs: &[("podman", &["--version"])],
    scenarios: &[
        ("pulls, pushes to another repository, and pulls that after a kill", pull_push_kill_pull),
        ("lists repositories and tags", list),
        (
            "loads the archives that ocictl writes, and saves archives that ocictl reads",
            load_and_save,
        ),
    ],
    not_covered: "running what it pulled (it needs namespaces); delete and attach (it has no command for them)",
};

fn podman(world: &World<'_>, storage: &str, args: &[&str]) -> Result<String> {
    contained(world, "podman", storage, args)
}

fn pull_push_kill_pull(world: &World<'_>) -> Result {
    let policy = policy(world)?;
    let flags = ["--quiet", "--signature-policy", &policy, "--tls-verify=false"];
    let pull = |storage: &str, from: &str| {
        let mut args = vec!["pull"];
        args.extend(flags);
        args.push(from);
        podman(world, storage, &args)
    };
    let server = world.serve()?;
    let from = format!("{}/sample/image:v1", server.host);
    world.put("image", &from)?;
    let pulled = pull("one", &from)?;
    let mut push = vec!["push", "--format", "oci"];
    push.extend(flags);
    let to = format!("{}/podman/image:v1", server.host);
    push.extend([from.as_str(), to.as_str()]);
    podman(world, "one", &push)?;
    server.kill()?;

    let server = world.serve()?;
    let from = format!("{}/podman/image:v1", server.host);
    let back = pull("two", &from)?;
    if pulled != back {
        return Err(format!("podman pulled {back}, expected {pulled}"));
    }
    let manifest = world.ocictl(&["inspect", "--raw", &format!("docker://{from}")])?;
    expect("the manifest", &manifest, pulled.trim())
}

fn list(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let repository = format!("{}/sample/listed", server.host);
    for tag in ["a", "b"] {
        world.put("image", &format!("{repository}:{tag}"))?;
    }
    let search =
        |args: &[&str]| podman(world, "one", &[&["search", "--tls-verify=false"], args].concat());
    let tags = search(&["--list-tags", &repository])?;
    let tags: Vec<_> = tags.lines().flat_map(str::split_whitespace).collect();
    if tags != ["NAME", "TAG", &repository, "a", &repository, "b"] {
        return Err(format!("podman search --list-tags printed {tags:?}, expected a and b"));
    }
    let repositories = search(&["--format", "{{.Name}}", &format!("{}/", server.host)])?;
    expect_lines("podman search", &repositories, &[&repository])
}

fn load_and_save(world: &World<'_>) -> Result {
    let policy = policy(world)?;
    let from = format!("oci:{}:image", text(&world.layout));
    // What podman calls an image's id is the digest of its config.
    let config = world.config(&from)?;
    let id = config.strip_prefix("sha256:").unwrap_or(&config);
    for form in ["docker-archive", "oci-archive"] {
        let [ours, theirs] = ["ours", "theirs"].map(|who| world.text(&format!("{who}-{form}.tar")));
        // A name in an OCI archive is a tag of ours; podman takes it for a name of its own.
        let name = if form == "docker-archive" { "sample/loaded:v1" } else { "loaded" };
        world.ocictl(&["copy", &from, &format!("{form}:{ours}:{name}")])?;
        let storage = format!("storage-{form}");
        podman(world, &storage, &["load", "--quiet", "--signature-policy", &policy, "-i", &ours])?;
        let loaded = podman(world, &storage, &["images", "--quiet", "--no-trunc"])?;
        expect_lines("podman images", &loaded, &[&config])?;
        podman(world, &storage, &["save", "--quiet", "--format", form, "-o", &theirs, id])?;
        let read = format!("oci:{}:image", world.text(&format!("read-{form}")));
        world.ocictl(&["copy", &format!("{form}:{theirs}"), &read])?;
        let found = world.config(&read)?;
        if found != config {
            return Err(format!("what podman saved has the config {found}, expected {config}"));
        }
    }
    Ok(())
}
