//! ctr: containerd's client, with a daemon of its own. Its content store keeps every byte.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;

use crate::interop::client::Client;
use crate::interop::content::{digest, same_content};
use crate::interop::program::{self, LIMIT};
use crate::interop::world::{World, text};
use crate::process::{Result, say};

pub(crate) const CLIENT: Client = Client {
    name: "ctr",
    programs: &[("ctr", &["--version"]), ("containerd", &["--version"])],
    scenarios: &[
        ("imports and pushes, the server is killed, it fetches all again", push_kill_fetch),
        ("copies between repositories", copy),
        ("pushes a blob that no manifest names", push_object),
    ],
    not_covered: "unpacking and running (they mount); sha512 (containerd verifies sha256 only); list, delete and \
                  attach (it has no command for them)",
};

/// A running containerd. It is killed when it is dropped.
struct Daemon<'a> {
    world: &'a World<'a>,
    child: Child,
    socket: String,
}

impl<'a> Daemon<'a> {
    /// Starts a daemon whose store is empty, and waits until it serves.
    fn start(world: &'a World<'a>, name: &str) -> Result<Self> {
        let directory = world.directory(name)?;
        let owner = std::fs::metadata(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let own = |file: &str| text(&directory.join(file));
        let ids = format!("uid = {}\ngid = {}", owner.uid(), owner.gid());
        // What belongs to Kubernetes is not wanted, nor what writes outside of the scratch directory.
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n{ids}\n[ttrpc]\naddress = {:?}\n{ids}\n",
            own("root"),
            own("state"),
            own("grpc"),
            own("ttrpc"),
        );
        let config = world.file(&format!("{name}/config.toml"), config)?;
        let mut child = world
            .programs
            .command("containerd", &world.path("home"))?
            .args(["--config", &config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("containerd: cannot be started: {error}"))?;
        let log = child.stderr.take().ok_or("containerd has no standard error")?;
        let daemon = Self { world, child, socket: own("grpc") };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Read to the end, or containerd would wait for a reader.
            for line in BufReader::new(log).lines().map_while(std::io::Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut seen = String::new();
        loop {
            let Ok(line) = lines.recv_timeout(LIMIT) else {
                return Err(format!("containerd does not start:\n{seen}"));
            };
            if line.contains("containerd successfully booted") {
                return Ok(daemon);
            }
            seen.push_str(&line);
            seen.push('\n');
        }
    }

    fn ctr(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["--address", &self.socket];
        all.extend(args);
        self.world.run("ctr", &all)
    }

    fn fetch(&self, reference: &str) -> Result {
        self.ctr(&["content", "fetch", "--plain-http", "--all-platforms", reference]).map(|_| ())
    }

    fn push(&self, reference: &str) -> Result {
        self.ctr(&["images", "push", "--plain-http", reference]).map(|_| ())
    }

    /// Writes what the daemon has of an image as a layout.
    fn export(&self, reference: &str, name: &str) -> Result {
        let archive = self.world.text(&format!("{name}.tar"));
        self.ctr(&["images", "export", "--all-platforms", &archive, reference])?;
        let layout = text(&self.world.directory(name)?);
        self.world.run("tar", &["-xf", &archive, "-C", &layout]).map(|_| ())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = program::stop(&mut self.child);
    }
}

const NAMES: [&str; 8] =
    ["image", "platforms", "index", "docker", "docker-list", "empty", "embedded", "notes"];

fn push_kill_fetch(world: &World<'_>) -> Result {
    let archive = world.text("sample.tar");
    world.run("tar", &["-cf", &archive, "-C", &text(&world.layout), "."])?;
    let server = world.serve()?;
    let repository = format!("{}/ctr/sample", server.host);
    let one = Daemon::start(world, "one")?;
    one.ctr(&[
        "images",
        "import",
        "--all-platforms",
        "--no-unpack",
        "--base-name",
        &repository,
        &archive,
    ])?;
    for name in NAMES {
        one.push(&format!("{repository}:{name}"))?;
    }
    server.kill()?;

    // The store of the second is empty: all comes from the registry.
    let server = world.serve()?;
    let two = Daemon::start(world, "two")?;
    let mut count = 0;
    for name in NAMES {
        let reference = format!("{}/ctr/sample:{name}", server.host);
        world.check(&reference, name)?;
        two.fetch(&reference)?;
        two.export(&reference, name)?;
        count += same_content(&world.layout, &world.path(name), name)?;
    }
    say(&format!("   {count} manifests and blobs, the same byte for byte"));
    Ok(())
}

fn copy(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let from = format!("{}/sample/one:v1", server.host);
    let to = format!("{}/sample/other:v1", server.host);
    world.put("platforms", &from)?;
    let daemon = Daemon::start(world, "one")?;
    daemon.fetch(&from)?;
    daemon.ctr(&["images", "tag", &from, &to])?;
    daemon.push(&to)?;
    world.check(&to, "platforms").map(|_| ())
}

fn push_object(world: &World<'_>) -> Result {
    let server = world.serve()?;
    let image = format!("{}/sample/one:v1", server.host);
    world.put("image", &image)?;
    let daemon = Daemon::start(world, "one")?;
    daemon.fetch(&image)?;
    // The manifest goes as a blob, to a repository that has nothing else.
    let manifest = digest(&world.layout, "image")?;
    let to = format!("{}/sample/blobs:any", server.host);
    let kind = "application/octet-stream";
    daemon.ctr(&["content", "push-object", "--plain-http", &to, manifest.as_str(), kind])?;
    let shown = daemon.ctr(&["content", "fetch-object", "--plain-http", &image])?;
    if shown != world.ocictl(&["inspect", "--raw", &format!("docker://{image}")])? {
        return Err("ctr and ocictl show different manifests".into());
    }
    // A blob is no manifest.
    world.check_gone(&format!("{}/sample/blobs@{manifest}", server.host))
}
