//! Our client and `ocictl` at registries that other people wrote, and at ours.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::interop::client::Client;
use crate::interop::driver::{self, Registry};
use crate::interop::program;
use crate::interop::skopeo;
use crate::interop::world::{World, expect};
use crate::process::{Result, say};

/// distribution 2.8, as Debian has it.
pub(crate) const DISTRIBUTION: Client = Client {
    name: "docker-registry",
    programs: &[("docker-registry", &["--version"])],
    scenarios: &[
        ("ocictl logs in, pushes, pulls back and logs out", login),
        ("our client does all that it can", distribution),
        ("ocictl reads at it as a mirror of ours", mirror),
        ("what ocictl and skopeo pushed to it is imported from its directory", import),
    ],
    not_covered: "",
};

/// Our own.
pub(crate) const OURS: Client = Client {
    name: "ours",
    programs: &[],
    scenarios: &[("our client does all that it can", ours)],
    not_covered: "",
};

const USER: &str = "alice";
const PASSWORD: &str = "an open secret";

/// A running `docker-registry`. Stopped when dropped.
struct Running {
    child: Child,
    host: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = program::stop(&mut self.child);
    }
}

fn start(world: &World<'_>, closed: bool) -> Result<Running> {
    let failed = |error: std::io::Error| format!("starting docker-registry: {error}");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let host = listener.local_addr().map_err(failed)?.to_string();
    drop(listener);
    let mut config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{host}'}}\n\
         storage: {{filesystem: {{rootdirectory: '{}'}}, delete: {{enabled: true}}}}\n",
        world.text("distribution")
    );
    if closed {
        let users = world.run("htpasswd", &["-nbB", USER, PASSWORD])?;
        let file = world.file("htpasswd", users)?;
        config.push_str(&format!("auth: {{htpasswd: {{realm: interop, path: '{file}'}}}}\n"));
    }
    let config = world.file("distribution.yml", config)?;
    let mut command = world.programs.command("docker-registry", &world.path("home"))?;
    let child = command
        .args(["serve", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut running = Running { child, host };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(&running.host).is_err() {
        if let Ok(Some(status)) = running.child.try_wait() {
            return Err(format!("docker-registry ended at once: {status}"));
        }
        if Instant::now() > deadline {
            return Err("docker-registry does not listen after 20 s".into());
        }
        std::thread::yield_now();
    }
    Ok(running)
}

fn distribution(world: &World<'_>) -> Result {
    let running = start(world, true)?;
    let user = Some((USER.to_owned(), PASSWORD.to_owned()));
    driver::run(Registry { host: running.host.clone(), user })
}

fn ours(world: &World<'_>) -> Result {
    let server = world.serve()?;
    driver::run(Registry { host: server.host.clone(), user: None })
}

/// `ocictl login` with a password on its standard input.
fn log_in(world: &World<'_>, host: &str, password: &str) -> Result<String> {
    let mut command = world.ocictl_command();
    command.args(["login", host, "--username", USER, "--password-stdin"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("ocictl login: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{password}").map_err(|error| format!("ocictl login: {error}"))?;
    }
    let output = child.wait_with_output().map_err(|error| format!("ocictl login: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("ocictl login: {}: {said}", output.status)),
    }
}

fn refused(what: &str, done: Result<String>) -> Result {
    match done {
        Err(error) if error.contains("exit status: 4") => Ok(()),
        other => Err(format!("{what}: expected to be refused (4), found {other:?}")),
    }
}

fn login(world: &World<'_>) -> Result {
    let running = start(world, true)?;
    let host = &running.host;
    let reference = format!("docker://{host}/interop/platforms:v1");
    refused("ocictl inspect", world.ocictl(&["inspect", &reference]))?;
    refused("ocictl login", log_in(world, host, "a guess"))?;
    expect("ocictl login", &log_in(world, host, PASSWORD)?, "logged in")?;
    world.put("platforms", &format!("{host}/interop/platforms:v1"))?;
    world.check(&format!("{host}/interop/platforms:v1"), "platforms")?;
    // What others have kept is found too: skopeo reads the same file.
    let shown = world.run(
        "skopeo",
        &["inspect", "--raw", "--tls-verify=false", &reference, "--authfile", &auth_file(world)],
    )?;
    expect("skopeo inspect", &shown, "manifests")?;
    world.ocictl(&["logout", host])?;
    refused("ocictl inspect", world.ocictl(&["inspect", &reference]))
}

fn auth_file(world: &World<'_>) -> String {
    let file = |name: &str| world.path("home").join(name);
    let places = ["run/containers/auth.json", "config/containers/auth.json", ".docker/config.json"];
    let found = places.iter().map(|name| file(name)).find(|path| Path::exists(path));
    found.unwrap_or_default().to_string_lossy().into_owned()
}

fn mirror(world: &World<'_>) -> Result {
    let (server, running) = (world.serve()?, start(world, false)?);
    let primary = format!("{}/interop/platforms:v1", server.host);
    world.put("platforms", &primary)?;
    // The mirror has it under the same name; and one that has nothing comes before it.
    world.put("platforms", &format!("{}/interop/platforms:v1", running.host))?;
    let mirrors = format!("{}={}", server.host, running.host);
    let target = format!("oci:{}:platforms", world.text("back"));
    let source = format!("docker://{primary}");
    world.ocictl(&["copy", "--mirror", &mirrors, &source, &target])?;
    crate::interop::content::same(&world.layout, &world.path("back"), "platforms").map(|_| ())
}

fn import(world: &World<'_>) -> Result {
    let running = start(world, false)?;
    // Nothing with sha512, which it does not take.
    let pushed = ["platforms", "image", "notes", "docker", "docker-list"];
    for name in pushed {
        world.put(name, &format!("{}/team/{name}:v1", running.host))?;
        world.put(name, &format!("{}/all:{name}", running.host))?;
    }
    let sample = crate::interop::world::text(&world.layout);
    let registry = format!("docker://{}/skopeo/platforms:v1", running.host);
    let source = format!("oci:{sample}:platforms");
    skopeo::skopeo_copy(world, &["--dest-tls-verify=false", &source, &registry])?;
    drop(running);

    let server = world.serve()?;
    let (directory, to) = (world.text("distribution"), format!("docker://{}/old", server.host));
    let first = world.ocictl(&["import", &directory, &to])?;
    expect("ocictl import", &first, "7 repositories")?;
    let mut count =
        world.check(&format!("{}/old/skopeo/platforms:v1", server.host), "platforms")?;
    for name in pushed {
        count += world.check(&format!("{}/old/team/{name}:v1", server.host), name)?;
        count += world.check(&format!("{}/old/all:{name}", server.host), name)?;
    }
    let again = world.ocictl(&["import", &directory, &to])?;
    expect("ocictl import", &again, "0 manifests and 0 blobs (0 B) copied, 0 blobs mounted")?;
    let back = format!("oci:{}:platforms", world.text("imported"));
    let imported = format!("{to}/skopeo/platforms:v1");
    skopeo::skopeo_copy(world, &["--src-tls-verify=false", &imported, &back])?;
    crate::interop::content::same(&world.layout, &world.path("imported"), "platforms")?;
    say(&format!("   {count} manifests and blobs, the same byte for byte; {}", first.trim()));
    Ok(())
}
