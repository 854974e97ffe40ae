//! regctl: copies with all that refers to an image, attaches artifacts, lists and deletes.

use crate::interop::client::Client;
use crate::interop::content::{digest, same};
use crate::interop::world::{World, expect, expect_lines, text};
use crate::process::{Result, say};

pub(crate) const CLIENT: Client = Client {
    name: "regctl",
    programs: &[("regctl", &["version", "--format", "{{.VCSTag}}"])],
    scenarios: &[
        ("pushes everything, the server is killed, it pulls all back", push_kill_pull),
        ("copies between repositories, referrers included", copy),
        ("attaches and lists artifacts", attach),
        ("lists and deletes tags, manifests and blobs", manage),
    ],
    not_covered: "",
};

/// Every entry of the sample that has a name.
const NAMES: [&str; 9] = [
    "image",
    "platforms",
    "index",
    "notes",
    "sha512",
    "empty",
    "embedded",
    "docker",
    "docker-list",
];

fn regctl(world: &World<'_>, host: &str, args: &[&str]) -> Result<String> {
    let registry = format!("reg={host},tls=disabled");
    let mut all = vec!["--host", &registry];
    all.extend(args);
    world.run("regctl", &all)
}

fn push_kill_pull(world: &World<'_>) -> Result {
    let server = world.serve()?;
    for name in NAMES {
        let from = format!("ocidir://{}:{name}", text(&world.layout));
        let to = format!("{}/regctl/sample:{name}", server.host);
        regctl(world, &server.host, &["image", "copy", &from, &to])?;
    }
    server.kill()?;

    let server = world.serve()?;
    let mut count = 0;
    for name in NAMES {
        let from = format!("{}/regctl/sample:{name}", server.host);
        world.check(&from, name)?;
        let to = format!("ocidir://{}:{name}", world.text("back"));
        regctl(world, &server.host, &["image", "copy", &from, &to])?;
        count += same(&world.layout, &world.path("back"), name)?;
    }
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

fn copy(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let from = format!("{}/sample/from:v1", server.host);
    let to = format!("{}/sample/to:v1", server.host);
    world.put("image", &from)?;
    world.put("embedded", &format!("{}/sample/from:embedded", server.host))?;
    regctl(world, &server.host, &["image", "copy", "--referrers", &from, &to])?;
    world.check(&to, "image")?;
    let referrer = digest(&world.layout, "embedded")?;
    world.check(&format!("{}/sample/to@{referrer}", server.host), "embedded")?;
    let tree = regctl(world, &server.host, &["artifact", "tree", &to])?;
    expect("regctl artifact tree", &tree, referrer.as_str())
}

fn attach(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let subject = format!("{}/sample/image:v1", server.host);
    world.put("image", &subject)?;
    let file = world.file("note", "a note\n")?;
    for kind in ["application/vnd.example.a", "application/vnd.example.b"] {
        let put = ["artifact", "put", "--subject", &subject, "--artifact-type", kind];
        let what = ["--file", &file, "--file-media-type", "text/plain"];
        regctl(world, &server.host, &[&put[..], &what].concat())?;
    }
    server.kill()?;

    let server = world.serve()?;
    let subject = format!("{}/sample/image:v1", server.host);
    let format = "{{range .Descriptors}}{{println .ArtifactType}}{{end}}";
    let list = ["artifact", "list", "--format", format];
    let all = regctl(world, &server.host, &[&list[..], &[&subject]].concat())?;
    let both = ["application/vnd.example.a", "application/vnd.example.b"];
    expect_lines("regctl artifact list", &all, &both)?;
    let only = ["--filter-artifact-type", both[1], &subject];
    let one = regctl(world, &server.host, &[&list[..], &only].concat())?;
    expect_lines("regctl artifact list", &one, &both[1..])?;
    let get = ["artifact", "get", "--subject", &subject, "--filter-artifact-type", both[0]];
    expect_lines("regctl artifact get", &regctl(world, &server.host, &get)?, &["a note"])
}

fn manage(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let repository = format!("{}/sample/managed", server.host);
    for (tag, name) in [("a", "image"), ("b", "image"), ("c", "empty")] {
        world.put(name, &format!("{repository}:{tag}"))?;
    }
    let run = |args: &[&str]| regctl(world, &server.host, args);
    expect_lines("regctl repo ls", &run(&["repo", "ls", &server.host])?, &["sample/managed"])?;
    expect_lines("regctl tag ls", &run(&["tag", "ls", &repository])?, &["a", "b", "c"])?;
    // A tag's deletion leaves its siblings.
    run(&["tag", "delete", &format!("{repository}:a")])?;
    expect_lines("regctl tag ls", &run(&["tag", "ls", &repository])?, &["b", "c"])?;
    world.check(&format!("{repository}:b"), "image")?;
    let empty = format!("{repository}@{}", digest(&world.layout, "empty")?);
    run(&["manifest", "delete", &empty])?;
    world.check_gone(&empty)?;
    world.check_gone(&format!("{repository}:c"))?;

    let image = format!("{repository}:b");
    let config = run(&["manifest", "get", "--format", "{{.GetConfig.Digest}}", &image])?;
    let blob = config.trim();
    run(&["blob", "head", &repository, blob])?;
    let other = format!("{}/sample/other", server.host);
    run(&["blob", "copy", &repository, &other, blob])?;
    run(&["blob", "head", &other, blob])?;
    run(&["blob", "delete", &other, blob])?;
    match run(&["blob", "head", &other, blob]) {
        Err(_) => run(&["blob", "head", &repository, blob]).map(|_| ()),
        Ok(_) => Err("the blob was deleted, but is still there".into()),
    }
}
