//! Copies that are interrupted, killed, or run over a line that breaks, and then run again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_ref::{ArtifactBuilder, LayerContent};
use oci_spec_types::MediaType;

use super::http::Http;
use super::*;

/// The size of the one layer.
const SIZE: usize = 8 << 20;

/// After how many bytes the line stops.
const STOP: u64 = 4 << 20;

/// A line to a server on which so many bytes move, both ways together, and then no more. When more
/// are allowed, connections of before are cut: what lies in their buffers, which may be all that is
/// left, does not arrive.
#[derive(Clone)]
struct Line(Arc<(Mutex<State>, Condvar)>);

struct State {
    moved: u64,
    allowed: u64,
    /// The number of times that it has been said how many bytes are allowed.
    turn: u64,
}

impl Line {
    /// The line, and the host by which the server is reached.
    fn to(server: &str) -> (Self, String) {
        let state = State { moved: 0, allowed: u64::MAX, turn: 0 };
        let line = Self(Arc::new((Mutex::new(state), Condvar::new())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (this, server) = (line.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let pair = |stream: &TcpStream| stream.try_clone().unwrap();
                for (from, to) in [(pair(&client), pair(&server)), (server, client)] {
                    let line = this.clone();
                    thread::spawn(move || line.carry(from, to));
                }
            }
        });
        (line, host)
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        let turn = self.0.0.lock().unwrap().turn;
        while let Ok(count) = from.read(&mut buffer)
            && count > 0
            && self.lets_pass(count as u64, turn)
            && to.write_all(&buffer[..count]).is_ok()
        {}
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }

    /// Waits until bytes of a connection that began in this turn may pass. False if it is cut.
    fn lets_pass(&self, count: u64, turn: u64) -> bool {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        if state.turn == turn {
            state.moved += count;
            changed.notify_all();
        }
        while state.turn == turn && state.moved > state.allowed {
            state = changed.wait(state).unwrap();
        }
        state.turn == turn
    }

    /// Counts anew, up to so many bytes.
    fn allow(&self, allowed: u64) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        *state = State { moved: 0, allowed, turn: state.turn + 1 };
        changed.notify_all();
    }

    /// Waits until the line has stopped.
    fn stopped(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        drop(changed.wait_while(state, |state| state.moved <= state.allowed).unwrap());
    }

    fn moved(&self) -> u64 {
        self.0.0.lock().unwrap().moved
    }
}

/// A layout with an artifact that has one large layer.
fn large_layout(path: &Path) {
    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()
    })
    .take(SIZE / 8)
    .flatten()
    .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::create(path).await.unwrap();
        let kind = MediaType::from_static("application/vnd.example.large");
        let layer = LayerContent::blob(kind.clone(), Bytes::from(noise));
        let tag = "v1".parse().unwrap();
        ArtifactBuilder::new(kind).layer(layer).write(&layout, &[tag]).await.unwrap();
    });
}

/// The world of one test: a server with a line to it, a layout, and a place for state.
struct World {
    scratch: TempDir,
    server: Server,
    line: Line,
    host: String,
    large: String,
}

impl World {
    fn new() -> Self {
        let scratch = TempDir::new().unwrap();
        let server = Server::start(&scratch.path().join("data"));
        let (line, host) = Line::to(&server.host);
        let large = scratch.path().join("large");
        large_layout(&large);
        let large = format!("oci:{}:v1", large.display());
        Self { scratch, server, line, host, large }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(OCICTL);
        command.args(args).env("OCICTL_STATE_DIR", self.path("state"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command until the line stops and `ready`, and ends it by a signal.
    fn interrupt(&self, args: &[&str], signal: &str, ready: impl Fn() -> bool) -> Output {
        self.line.allow(STOP);
        let child = self.command(args).spawn().unwrap();
        self.line.stopped();
        until(ready);
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        child.wait_with_output().unwrap()
    }

    /// Runs the same command again, and gives how much moved.
    fn again(&self, args: &[&str]) -> u64 {
        self.line.allow(u64::MAX);
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.line.moved()
    }

    /// The bytes that the server has of the upload that is remembered.
    fn uploaded(&self) -> u64 {
        let Ok(mut records) = fs::read_dir(self.path("state/uploads")) else { return 0 };
        let Some(Ok(record)) = records.next() else { return 0 };
        let address = fs::read_to_string(record.path()).unwrap();
        let Some(at) = address.find("/v2/") else { return 0 };
        let answer = Http::connect(&self.server.host).ask("GET", address[at..].trim(), b"");
        let range = answer.header("range").unwrap_or_default();
        range.rsplit('-').next().and_then(|last| last.parse().ok()).unwrap_or(0)
    }
}

fn until(mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < end, "it does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The hidden entries of a directory.
fn hidden(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|it| it.path());
    entries.filter(|path| path.file_name().unwrap().as_encoded_bytes()[0] == b'.').collect()
}

fn size_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

// containers/image#2045, foundriesio/aktualizr-lite#241
#[test]
fn a_pull_that_was_ended_goes_on() {
    let world = World::new();
    let registry = format!("docker://{}/a/b:v1", world.host);
    world.again(&["copy", &world.large, &registry]);
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(143))] {
        let layout = world.path(signal);
        let to = format!("oci:{}:v1", layout.display());
        let come = || size_of(&hidden(&layout.join("blobs"))) > STOP - (1 << 20);
        let ended = world.interrupt(&["copy", &registry, &to], signal, come);
        assert_eq!(ended.status.code(), code);
        let said = String::from_utf8(ended.stderr).unwrap();
        if code.is_some() {
            let shown = layout.display();
            assert!(said.starts_with("ocictl: interrupted; "), "{said}");
            assert!(said.contains(&format!(" MiB of 8.0 MiB kept in {shown}, run ")), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        let moved = world.again(&["copy", &registry, &to]);
        assert!(moved < SIZE as u64 - STOP + (1 << 20), "{signal}: {moved}");
        assert!(hidden(&layout.join("blobs")).is_empty());
    }
}

#[test]
fn a_push_that_was_ended_goes_on() {
    let world = World::new();
    for (signal, code) in [("KILL", None), ("INT", Some(130)), ("TERM", Some(143))] {
        let name = signal.to_lowercase();
        let registry = format!("docker://{}/{name}:v1", world.host);
        let copy = ["copy", &world.large, &registry];
        let ended = world.interrupt(&copy, signal, || true);
        assert_eq!(ended.status.code(), code);
        if code.is_some() {
            let said = String::from_utf8(ended.stderr).unwrap();
            assert!(said.contains(&format!("sent to {}, run the same", world.host)), "{said}");
        }
        // The server hears that it is over, and keeps what came.
        world.line.allow(u64::MAX);
        until(|| world.uploaded() > STOP - (1 << 20));
        let moved = world.again(&copy);
        assert!(moved < SIZE as u64 - STOP + (1 << 20), "{signal}: {moved}");
        assert!(fs::read_dir(world.path("state/uploads")).unwrap().next().is_none());
        done(&["inspect", &registry]);
    }

    // Nothing is remembered where nothing is to be.
    let registry = format!("docker://{}/none:v1", world.host);
    let output = world.command(&["copy", "--no-state", &world.large, &registry]).output().unwrap();
    assert!(output.status.success());
}

// podman#19201, skopeo#2419
#[test]
fn an_archive_that_was_ended_leaves_nothing_for_long() {
    let world = World::new();
    let registry = format!("docker://{}/a/b:v1", world.host);
    world.again(&["copy", &world.large, &registry]);
    let directory = world.path("archives");
    fs::create_dir(&directory).unwrap();
    let to = format!("oci-archive:{}:v1", directory.join("a.tar").display());
    let copy = ["copy", &registry, &to];
    let come = || {
        let blobs = hidden(&directory).iter().map(|it| it.join("layout/blobs")).next_back();
        blobs.is_some_and(|blobs| size_of(&hidden(&blobs)) > 1 << 20)
    };
    let ended = world.interrupt(&copy, "INT", come);
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("interrupted; ") && said.contains("removed"), "{said}");
    assert!(fs::read_dir(&directory).unwrap().next().is_none());

    let ended = world.interrupt(&copy, "KILL", come);
    assert_eq!(ended.status.code(), None);
    assert_eq!(hidden(&directory).len(), 1);
    world.again(&copy);
    assert!(hidden(&directory).is_empty());
}

/// The directory of a distribution registry, with what is in a layout as `a/b:v1`.
fn distribution(layout: &Path, to: &Path) {
    let root = to.join("docker/registry/v2");
    let write = |path: String, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        let hex = blob.file_name().into_string().unwrap();
        let bytes = fs::read(blob.path()).unwrap();
        write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), &bytes);
        write(
            format!("repositories/a/b/_layers/sha256/{hex}/link"),
            format!("sha256:{hex}").as_bytes(),
        );
    }
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let manifests = "repositories/a/b/_manifests";
    write(format!("{manifests}/revisions/sha256/{hex}/link"), digest.as_bytes());
    write(format!("{manifests}/tags/v1/current/link"), digest.as_bytes());
}

#[test]
fn an_import_that_was_ended_goes_on_and_leaves_nothing() {
    let world = World::new();
    let from = world.path("distribution");
    distribution(&world.path("large"), &from);
    let (from, to) = (from.display().to_string(), format!("docker://{}", world.host));
    let import = ["import", &from, &to];
    let ended = world.interrupt(&import, "INT", || true);
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("interrupted; ") && said.contains("run the same command"), "{said}");
    // What the server has of the upload is owned: this machine remembers it.
    world.line.allow(u64::MAX);
    until(|| world.uploaded() > STOP - (1 << 20));
    let moved = world.again(&import);
    assert!(moved < SIZE as u64 - STOP + (1 << 20), "{moved}");
    assert!(fs::read_dir(world.path("state/uploads")).unwrap().next().is_none());
    done(&["inspect", &format!("{to}/a/b:v1")]);
    let data = world.path("data");
    let left = ["gc", "--json", "--uploads", "--dry-run", "--data", data.to_str().unwrap()];
    let left: serde_json::Value = serde_json::from_str(done(&left).trim()).unwrap();
    assert_eq!(left["uploads"], 0, "{left}");
}

// skopeo#2419
#[test]
fn a_copy_that_fails_leaves_no_temporary_files() {
    let (scratch, layout, _) = scratch();
    let image = format!("{layout}:index");
    let directory = scratch.path().join("to");
    fs::create_dir(&directory).unwrap();
    // One of the blobs is not there.
    let blobs = scratch.path().join("sample/blobs/sha256");
    let largest = fs::read_dir(&blobs).unwrap().map(|it| it.unwrap().path());
    let largest = largest.max_by_key(|it| fs::metadata(it).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    for to in ["oci-archive:a.tar:v1", "oci:lay:v1", "dir:dir"] {
        let output = Command::new(OCICTL)
            .args(["copy", "--quiet", "--retries=0", &image, to])
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{to}");
    }
    let all = [directory.clone(), directory.join("lay"), directory.join("lay/blobs")];
    for at in all.iter().chain([&directory.join("dir")]) {
        assert!(hidden(at).is_empty(), "{:?}", hidden(at));
    }
}
