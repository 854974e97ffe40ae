//! crane: copies, lists, changes and deletes, on the registry itself.

use crate::interop::client::Client;
use crate::interop::content::{digest, same_content};
use crate::interop::world::{World, expect, expect_lines, text};
use crate::process::{Result, say};

pub(crate) const CLIENT: Client = Client {
    name: "crane",
    programs: &[("crane", &["version"])],
    scenarios: &[
        ("pushes, the server is killed, it pulls back", push_kill_pull),
        ("copies between repositories", copy),
        ("appends a layer, changes a config, and finds the result valid", append),
        ("lists, tags and deletes", manage),
    ],
    not_covered: "validating zstd layers (it reads gzip only); attach (it has no command for it)",
};

fn crane(world: &World<'_>, args: &[&str]) -> Result<String> {
    let mut all = vec!["--insecure"];
    all.extend(args);
    world.run("crane", &all)
}

fn push_kill_pull(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let source = format!("{}/sample/platforms:v1", server.host);
    world.put("platforms", &source)?;
    let one = world.text("one");
    crane(world, &["pull", "--format", "oci", &source, &one])?;
    let pushed = crane(world, &["push", &one, &format!("{}/crane/platforms:v1", server.host)])?;
    expect("crane push", &pushed, digest(&world.layout, "platforms")?.as_str())?;
    server.kill()?;

    let server = world.serve()?;
    let reference = format!("{}/crane/platforms:v1", server.host);
    let count = world.check(&reference, "platforms")?;
    crane(world, &["pull", "--format", "oci", &reference, &world.text("two")])?;
    same_content(&world.layout, &world.path("two"), "platforms")?;
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

fn copy(world: &World<'_>) -> Result {
    let server = world.serve()?;
    for name in ["index", "image", "docker", "docker-list", "empty", "embedded", "notes"] {
        let from = format!("{}/sample/from:{name}", server.host);
        let to = format!("{}/sample/to:{name}", server.host);
        world.put(name, &from)?;
        crane(world, &["copy", &from, &to])?;
        world.check(&to, name)?;
    }
    Ok(())
}

fn append(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let base = format!("{}/sample/docker:v1", server.host);
    world.put("docker", &base)?;
    world.file("hello", "hello\n")?;
    let layer = world.text("layer.tar");
    world.run("tar", &["-cf", &layer, "-C", &text(world.scratch.path()), "hello"])?;
    let appended = format!("{}/crane/made:v1", server.host);
    crane(world, &["append", "--base", &base, "--new_layer", &layer, "--new_tag", &appended])?;
    let changed = format!("{}/crane/made:v2", server.host);
    crane(world, &["mutate", "--label", "made=here", "--tag", &changed, &appended])?;
    crane(world, &["validate", "--remote", &changed])?;
    expect("crane config", &crane(world, &["config", &changed])?, "\"made\":\"here\"")?;
    let files = world.text("files.tar");
    crane(world, &["export", &changed, &files])?;
    expect_lines("tar", &world.run("tar", &["-xOf", &files, "hello"])?, &["hello"])
}

fn manage(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let repository = format!("{}/sample/managed", server.host);
    let tag = |tag: &str| format!("{repository}:{tag}");
    world.put("index", &tag("a"))?;
    crane(world, &["tag", &tag("a"), "b"])?;
    expect_lines("crane ls", &crane(world, &["ls", &repository])?, &["a", "b"])?;
    expect_lines("crane catalog", &crane(world, &["catalog", &server.host])?, &["sample/managed"])?;
    let index = digest(&world.layout, "index")?;
    expect_lines("crane digest", &crane(world, &["digest", &tag("b")])?, &[index.as_str()])?;
    // A tag's deletion leaves its siblings.
    crane(world, &["delete", &tag("b")])?;
    expect_lines("crane ls", &crane(world, &["ls", &repository])?, &["a"])?;
    world.check(&tag("a"), "index")?;
    // A manifest's takes its tags along.
    crane(world, &["delete", &format!("{repository}@{index}")])?;
    world.check_gone(&tag("a"))
}
