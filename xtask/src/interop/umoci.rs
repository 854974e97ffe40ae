//! umoci: makes and unpacks images in layouts.

use crate::interop::client::Client;
use crate::interop::content::same;
use crate::interop::world::World;
use crate::process::Result;

pub(crate) const CLIENT: Client = Client {
    name: "umoci",
    programs: &[("umoci", &["--version"])],
    scenarios: &[("its image goes through the registry, past a kill, and is unpacked", round_trip)],
    not_covered: "push, pull, list, delete and attach (it speaks to no registry: ocictl moves its layouts)",
};

fn round_trip(world: &World<'_>) -> Result {
    let made = world.text("made");
    let image = format!("{made}:base");
    world.run("umoci", &["init", "--layout", &made])?;
    world.run("umoci", &["new", "--image", &image])?;
    let file = world.file("hello", "hello\n")?;
    world.run("umoci", &["insert", "--rootless", "--image", &image, &file, "/hello"])?;

    let server = world.serve()?;
    let registry = format!("docker://{}/umoci/image:v1", server.host);
    world.ocictl(&["copy", &format!("oci:{image}"), &registry])?;
    server.kill()?;
    let server = world.serve()?;
    world.get(&format!("{}/umoci/image:v1", server.host), "back", "base")?;
    same(&world.path("made"), &world.path("back"), "base")?;

    let image = format!("{}:base", world.text("back"));
    world.run("umoci", &["unpack", "--rootless", "--image", &image, &world.text("bundle")])?;
    match world.read("bundle/rootfs/hello")?.as_slice() {
        b"hello\n" => Ok(()),
        other => Err(format!("umoci unpacked {other:?}, expected \"hello\"")),
    }
}
