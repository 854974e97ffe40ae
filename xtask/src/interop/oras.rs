//! oras: artifacts in registries and layouts.

use crate::interop::client::Client;
use crate::interop::content::{digest, same};
use crate::interop::world::{World, expect, expect_lines, text};
use crate::process::{Result, say};

pub(crate) const CLIENT: Client = Client {
    name: "oras",
    programs: &[("oras", &["version"])],
    scenarios: &[
        ("copies the sample with its referrers in, past a kill, and out", push_kill_pull),
        ("pushes files, attaches, discovers and pulls", attach),
        ("copies between repositories, referrers included", copy),
        ("lists, tags and deletes", manage),
    ],
    not_covered: "",
};

fn push_kill_pull(world: &World<'_>) -> Result {
    let names = ["index", "platforms", "empty", "embedded", "docker", "docker-list"];
    let server = world.serve()?;
    for name in names {
        let from = format!("{}:{name}", text(&world.layout));
        let to = format!("{}/oras/sample:{name}", server.host);
        world.run("oras", &["cp", "-r", "--from-oci-layout", &from, "--to-plain-http", &to])?;
    }
    server.kill()?;

    let server = world.serve()?;
    let mut count = 0;
    for name in names {
        let from = format!("{}/oras/sample:{name}", server.host);
        world.check(&from, name)?;
        let to = format!("{}:{name}", world.text("back"));
        world.run("oras", &["cp", "-r", "--from-plain-http", &from, "--to-oci-layout", &to])?;
        count += same(&world.layout, &world.path("back"), name)?;
    }
    // What refers to the index came along, without being named.
    let notes = digest(&world.layout, "notes")?;
    world.check(&format!("{}/oras/sample@{notes}", server.host), "notes")?;
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

/// Writes a file where oras runs: it calls what it pushes by its path.
fn in_home(world: &World<'_>, name: &str, content: &str) -> Result<String> {
    world.file(&format!("home/{name}"), content)?;
    Ok(format!("{name}:text/plain"))
}

fn attach(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let subject = format!("{}/oras/artifact:v1", server.host);
    let what = in_home(world, "artifact.txt", "an artifact\n")?;
    let kind = "application/vnd.example.artifact";
    world.run("oras", &["push", "--plain-http", "--artifact-type", kind, &subject, &what])?;
    let both = ["application/vnd.example.a", "application/vnd.example.b"];
    for kind in both {
        let note = in_home(world, "note.txt", kind)?;
        world.run("oras", &["attach", "--plain-http", "--artifact-type", kind, &subject, &note])?;
    }
    server.kill()?;

    let server = world.serve()?;
    let subject = format!("{}/oras/artifact:v1", server.host);
    let discover = ["discover", "--plain-http", "--format", "go-template", "--template"];
    let template = "{{range .referrers}}{{println .artifactType}}{{end}}";
    let all = world.run("oras", &[&discover[..], &[template, &subject]].concat())?;
    expect_lines("oras discover", &all, &both)?;
    let only = [template, "--artifact-type", both[1], &subject];
    let one = world.run("oras", &[&discover[..], &only].concat())?;
    expect_lines("oras discover", &one, &both[1..])?;
    let back = text(&world.directory("back")?);
    world.run("oras", &["pull", "--plain-http", &subject, "--output", &back])?;
    match world.read("back/artifact.txt")?.as_slice() {
        b"an artifact\n" => Ok(()),
        other => Err(format!("oras pulled {other:?}")),
    }
}

fn copy(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let from = format!("{}/sample/from:v1", server.host);
    let to = format!("{}/sample/to:v1", server.host);
    world.put("image", &from)?;
    world.put("embedded", &format!("{}/sample/from:embedded", server.host))?;
    world.run("oras", &["cp", "-r", "--from-plain-http", &from, "--to-plain-http", &to])?;
    world.check(&to, "image")?;
    let referrer = digest(&world.layout, "embedded")?;
    world.check(&format!("{}/sample/to@{referrer}", server.host), "embedded").map(|_| ())
}

fn manage(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let repository = format!("{}/sample/managed", server.host);
    let tag = format!("{repository}:a");
    world.put("image", &tag)?;
    world.run("oras", &["tag", "--plain-http", &tag, "b", "c"])?;
    let list = || world.run("oras", &["repo", "tags", "--plain-http", &repository]);
    expect_lines("oras repo tags", &list()?, &["a", "b", "c"])?;
    let repositories = world.run("oras", &["repo", "ls", "--plain-http", &server.host])?;
    expect_lines("oras repo ls", &repositories, &["sample/managed"])?;
    let image = digest(&world.layout, "image")?;
    let resolved = world.run("oras", &["resolve", "--plain-http", &tag])?;
    expect("oras resolve", &resolved, image.as_str())?;

    // oras deletes the manifest, and its tags go along.
    world.run("oras", &["manifest", "delete", "--plain-http", "--force", &tag])?;
    expect_lines("oras repo tags", &list()?, &[])?;
    world.check_gone(&format!("{repository}:b"))
}
