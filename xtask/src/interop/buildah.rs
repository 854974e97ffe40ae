//! buildah: builds images, and pushes and pulls them. It does not keep the bytes of layers, so
//! what is compared is what stays: configs and files.

use serde_json::Value;

use crate::interop::client::Client;
use crate::interop::world::{World, expect, text};
use crate::process::Result;

pub(crate) const CLIENT: Client = Client {
    name: "buildah",
    programs: &[("buildah", &["--version"])],
    scenarios: &[
        (
            "builds on what ocictl pushed, pushes, and pulls it back after a kill",
            build_push_kill_pull,
        ),
        ("pushes an index of images that another repository has", copy_index),
        ("pulls from the files that ocictl writes", pull_files),
    ],
    not_covered: "RUN in builds (it needs namespaces); list, delete and attach (it has no command for them)",
};

/// Accepts every image, whatever the policy of the machine is.
const POLICY: &str = r#"{"default":[{"type":"insecureAcceptAnything"}]}"#;

/// Runs a program of the family with storage of its own, which needs no kernel's help.
pub(super) fn contained(
    world: &World<'_>,
    program: &str,
    storage: &str,
    args: &[&str],
) -> Result<String> {
    let root = world.text(&format!("{storage}-root"));
    let state = world.text(&format!("{storage}-state"));
    let mut all = vec!["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
    all.extend(args);
    world.run(program, &all)
}

/// Writes a policy file, which `--signature-policy` takes.
pub(super) fn policy(world: &World<'_>) -> Result<String> {
    world.file("policy.json", POLICY)
}

/// The last line of what a program printed: the id of what it made.
fn id(printed: &str) -> String {
    printed.lines().next_back().unwrap_or_default().trim().to_owned()
}

fn build_push_kill_pull(world: &World<'_>) -> Result {
    let policy = policy(world)?;
    let server = world.serve()?;
    let base = format!("{}/sample/image:v1", server.host);
    world.put("image", &base)?;
    world.directory("context")?;
    world.file("context/hello", "hello\n")?;
    world.file(
        "context/Containerfile",
        format!("FROM {base}\nCOPY hello /hello\nENV MADE=here\n"),
    )?;
    let buildah = |args: &[&str]| contained(world, "buildah", "one", args);
    let built = id(&buildah(&[
        "build",
        "--isolation",
        "chroot",
        "--tls-verify=false",
        "--signature-policy",
        &policy,
        "--tag",
        "made:v1",
        &world.text("context"),
    ])?);
    let to = format!("docker://{}/buildah/made:v1", server.host);
    buildah(&["push", "--signature-policy", &policy, "--tls-verify=false", "made:v1", &to])?;
    server.kill()?;

    // The storage of the second is empty: all comes from the registry.
    let server = world.serve()?;
    let from = format!("{}/buildah/made:v1", server.host);
    let buildah = |args: &[&str]| contained(world, "buildah", "two", args);
    let pulled =
        id(&buildah(&["pull", "--signature-policy", &policy, "--tls-verify=false", &from])?);
    if built != pulled {
        return Err(format!("buildah pulled {pulled}, expected {built}"));
    }
    let config = world.ocictl(&["inspect", "--raw", &format!("docker://{from}")])?;
    expect("the manifest", &config, &built)?;
    let container = id(&buildah(&[
        "from",
        "--pull-never",
        "--isolation",
        "chroot",
        "--signature-policy",
        &policy,
        &from,
    ])?);
    let mounted = id(&buildah(&["mount", &container])?);
    for (file, content) in [("hello", "hello\n"), ("etc/platform", "linux/amd64\n")] {
        let path = std::path::Path::new(&mounted).join(file);
        let found = std::fs::read_to_string(&path);
        let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
        expect(file, &found, content)?;
    }
    Ok(())
}

fn pull_files(world: &World<'_>) -> Result {
    let policy = policy(world)?;
    let from = format!("oci:{}:image", text(&world.layout));
    let config = world.config(&from)?;
    for form in ["oci", "oci-archive", "dir", "docker-archive"] {
        // buildah makes a name of the path, which must not have what names cannot have: it runs in the home directory.
        let path = format!("files-{form}");
        let name = match form {
            "dir" => "",
            "docker-archive" => ":sample/image:v1",
            _ => ":image",
        };
        let files = format!("{form}:{path}{name}");
        world.ocictl(&["copy", &from, &files])?;
        let args = ["pull", "--quiet", "--signature-policy", &policy, &files];
        let pulled = id(&contained(world, "buildah", &format!("storage-{form}"), &args)?);
        expect("buildah pull", &config, &pulled)?;
    }
    Ok(())
}

fn copy_index(world: &World<'_>) -> Result {
    let policy = policy(world)?;
    let server = world.serve()?;
    let source = format!("{}/sample/platforms:v1", server.host);
    world.put("platforms", &source)?;
    let buildah = |args: &[&str]| contained(world, "buildah", "one", args);
    buildah(&["manifest", "create", "list"])?;
    let from = format!("docker://{source}");
    buildah(&["manifest", "add", "--all", "--tls-verify=false", "list", &from])?;
    let to = format!("docker://{}/buildah/list:v1", server.host);
    buildah(&[
        "manifest",
        "push",
        "--all",
        "--signature-policy",
        &policy,
        "--tls-verify=false",
        "list",
        &to,
    ])?;
    // buildah compresses what was not compressed, so the manifests are its own; the configs are what they were.
    let source = images(world, &source)?;
    let pushed = images(world, &format!("{}/buildah/list:v1", server.host))?;
    if source != pushed {
        return Err(format!(
            "buildah pushed images with the configs {pushed:?}, expected {source:?}"
        ));
    }
    world.get(&format!("{}/buildah/list:v1", server.host), "back", "list")
}

/// The platform of each image of an index, and the digest of its config.
fn images(world: &World<'_>, index: &str) -> Result<Vec<(Value, Value)>> {
    let raw = |reference: &str| {
        let printed = world.ocictl(&["inspect", "--raw", &format!("docker://{reference}")])?;
        serde_json::from_str::<Value>(&printed).map_err(|error| format!("{reference}: {error}"))
    };
    let listed = raw(index)?;
    let entries = listed["manifests"].as_array().ok_or_else(|| format!("{index} is no index"))?;
    let repository = index.rsplit_once(':').map_or(index, |(repository, _)| repository);
    let image = |entry: &Value| {
        let digest = entry["digest"].as_str().ok_or_else(|| format!("{index}: {entry}"))?;
        let manifest = raw(&format!("{repository}@{digest}"))?;
        Ok((entry["platform"].clone(), manifest["config"]["digest"].clone()))
    };
    entries.iter().map(image).collect()
}
