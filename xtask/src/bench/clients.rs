//! `ocictl copy` beside other people's clients: the same images, at the same server, in turn.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_ref::{Compression, ImageBuilder, LayerContent, Layout};

use crate::bench::client_aims;
use crate::bench::delay::Delay;
use crate::bench::floor::Floor;
use crate::bench::settle;
use crate::bench::stats::{self, Usage};
use crate::interop::program::Programs;
use crate::process::{Result, Server, say};

/// What is added to each request to a registry that is far away.
pub(super) const FAR: Duration = Duration::from_millis(200);

/// An image that is moved.
struct Image {
    name: &'static str,
    layers: usize,
    size: usize,
    far: bool,
}

const IMAGES: [Image; 3] = [
    Image { name: "8 layers of 64 MiB", layers: 8, size: 64 << 20, far: false },
    Image { name: "40 layers of 64 KiB", layers: 40, size: 64 << 10, far: false },
    Image { name: "40 layers of 64 KiB, 200 ms away", layers: 40, size: 64 << 10, far: true },
];

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Task {
    Push,
    Pull,
    Copy,
}

const TASKS: [(&str, Task); 3] =
    [("push", Task::Push), ("pull to a layout", Task::Pull), ("registry to registry", Task::Copy)];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Ours,
    Skopeo,
    Crane,
}

struct Client {
    name: &'static str,
    kind: Kind,
    program: PathBuf,
}

/// Where an image is, for one run.
struct Places<'a> {
    layout: &'a Path,
    /// What is pushed to, or read from.
    registry: String,
    /// What is copied to.
    other: String,
    back: PathBuf,
}

/// What one client did.
pub(super) struct Row {
    image: &'static str,
    what: &'static str,
    pub(super) task: Task,
    layers: (usize, usize),
    pub(super) far: bool,
    client: &'static str,
    pub(super) ours: bool,
    pub(super) wall: Duration,
    pub(super) used: Usage,
    /// The processor time of hashing the bytes, where they are many.
    pub(super) hash: Option<Duration>,
    /// The least processor time that hashing and moving them takes, where they are moved as well.
    pub(super) least: Option<Duration>,
}

impl Row {
    pub(super) fn name(&self) -> String {
        format!("{}: {}", self.image, self.what)
    }

    /// Whether both did the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.image, self.what) == (other.image, other.what)
    }

    /// Whether this did nearby what the other did at a registry that is far away.
    pub(super) fn is_same_nearby(&self, far: &Self) -> bool {
        !self.far && self.layers == far.layers && self.task == far.task
    }
}

/// Layers at least so large, in bytes, make the start of a process count for nothing.
const LARGE: usize = 1 << 20;

/// The clients that are measured, and the server that they are measured at.
pub(super) struct Clients<'a> {
    ocictl: &'a Path,
    clients: Vec<Client>,
}

impl<'a> Clients<'a> {
    /// Ours, and those others that are installed.
    pub(super) fn find(ocictl: &'a Path, directories: &[PathBuf]) -> Self {
        let programs = Programs { first: directories.to_vec() };
        let mut clients =
            vec![Client { name: "ocictl", kind: Kind::Ours, program: ocictl.to_owned() }];
        for (name, kind) in [("skopeo", Kind::Skopeo), ("crane", Kind::Crane)] {
            match programs.find(name) {
                Some(program) => clients.push(Client { name, kind, program }),
                None => say(&format!("{name} is not installed: it is not measured")),
            }
        }
        Self { ocictl, clients }
    }

    pub(super) fn run(&self, rounds: usize, filter: Option<&str>, touch_memory: bool) -> Result {
        let mut rows = Vec::new();
        for image in &IMAGES {
            if filter.is_some_and(|filter| !image.name.contains(filter)) {
                continue;
            }
            rows.extend(self.measure(image, rounds, touch_memory)?);
        }
        say(&table(&rows));
        say(&client_aims::table(&rows));
        Ok(())
    }

    fn measure(&self, image: &Image, rounds: usize, touch_memory: bool) -> Result<Vec<Row>> {
        let scratch =
            tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
        let layout = scratch.path().join("image");
        image.write(&layout)?;
        let large = image.size >= LARGE;
        let settle = || {
            settle::disk();
            if touch_memory && large { settle::memory() } else { Ok(()) }
        };
        let mut rows: Vec<Row> = Vec::new();
        let blobs = layout.join("blobs/sha256");
        let mut floor: Option<Floor> = None;
        for round in 0..rounds {
            if large {
                settle()?;
                let measured = Floor::measure(&files(&blobs)?, scratch.path())?;
                floor = Some(floor.map_or(measured, |floor| floor.least(measured)));
            }
            // Each comes first in turn.
            let (first, last) = self.clients.split_at(round % self.clients.len());
            for client in last.iter().chain(first) {
                // Each finds a server that has nothing.
                let here = scratch.path().join(format!("{}-{round}", client.name));
                fs::create_dir(&here).map_err(|error| format!("{}: {error}", here.display()))?;
                let server = Server::start(self.ocictl, &here.join("data"), &["--no-sync"])?;
                let delay = image.far.then(|| Delay::start(&server.host, FAR)).transpose()?;
                let host = delay.as_ref().map_or(&server.host, |delay| &delay.host);
                let places = Places {
                    layout: &layout,
                    registry: format!("{host}/bench/one:v1"),
                    other: format!("{host}/bench/two:v1"),
                    back: here.join("back"),
                };
                settle()?;
                for (name, task) in TASKS {
                    let (wall, used) = client.run(task, &places, &here)?;
                    let seconds = wall.as_secs_f64();
                    say(&format!("{}: {name}: {}: {seconds:.2} s", image.name, client.name));
                    let best =
                        rows.iter_mut().find(|row| row.task == task && row.client == client.name);
                    match best {
                        Some(best) if best.wall <= wall => {}
                        Some(best) => (best.wall, best.used) = (wall, used),
                        None => rows.push(Row {
                            image: image.name,
                            what: name,
                            task,
                            layers: (image.layers, image.size),
                            far: image.far,
                            client: client.name,
                            ours: client.kind == Kind::Ours,
                            wall,
                            used,
                            hash: None,
                            least: None,
                        }),
                    }
                }
                drop(server);
                fs::remove_dir_all(&here)
                    .map_err(|error| format!("{}: {error}", here.display()))?;
            }
        }
        if let Some(floor) = floor {
            say(&format!(
                "{}: processor time of hashing {:.2} s, of receiving and writing {:.2} s, of reading and sending {:.2} s",
                image.name,
                floor.hash.as_secs_f64(),
                floor.receive.as_secs_f64(),
                floor.send.as_secs_f64(),
            ));
            for row in &mut rows {
                row.hash = Some(floor.hash);
                row.least = match row.task {
                    Task::Push => Some(floor.hash + floor.send),
                    Task::Pull => Some(floor.hash + floor.receive),
                    // Mounted: nothing is moved.
                    Task::Copy => None,
                };
            }
        }
        rows.sort_by_key(|row| (row.what, !row.ours, row.client));
        Ok(rows)
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| format!("{}: {error}", directory.display());
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

impl Image {
    fn write(&self, path: &Path) -> Result {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| format!("starting the async runtime: {error}"))?;
        let written = runtime.block_on(async {
            let layout = Layout::create(path).await?;
            let mut image = ImageBuilder::for_platform(&oci_ref::host_platform());
            for number in 0..self.layers {
                // None of the clients looks into it.
                let layer = noise(number as u64, self.size);
                image = image.layer(LayerContent::tar(layer, Compression::None)?);
            }
            let tag = "v1".parse().map_err(|_| oci_ref::Error::unsupported("a tag"))?;
            image.write(&layout, &[tag]).await.map(|_| ())
        });
        written.map_err(|error: oci_ref::Error| format!("writing an image: {error}"))
    }
}

/// Bytes that look like nothing, and different for each layer.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

impl Client {
    fn run(&self, task: Task, places: &Places<'_>, home: &Path) -> Result<(Duration, Usage)> {
        let (layout, back) = (places.layout.display(), places.back.display());
        let (one, two) = (&places.registry, &places.other);
        let local = |place: &str| format!("oci:{place}:v1");
        let remote = |place: &str| format!("docker://{place}");
        let (from, to) = match task {
            Task::Push => (local(&layout.to_string()), remote(one)),
            Task::Pull => (remote(one), local(&back.to_string())),
            Task::Copy => (remote(one), remote(two)),
        };
        let (layout, back) = (layout.to_string(), back.to_string());
        let args: Vec<&str> = match (self.kind, task) {
            (Kind::Ours, _) => vec!["copy", "--quiet", &from, &to],
            (Kind::Skopeo, _) => vec![
                "--insecure-policy",
                "copy",
                "--quiet",
                "--preserve-digests",
                "--src-tls-verify=false",
                "--dest-tls-verify=false",
                &from,
                &to,
            ],
            (Kind::Crane, Task::Push) => vec!["--insecure", "push", &layout, one],
            (Kind::Crane, Task::Pull) => vec!["--insecure", "pull", "--format", "oci", one, &back],
            (Kind::Crane, Task::Copy) => vec!["--insecure", "copy", one, two],
        };
        let mut command = Command::new(&self.program);
        crate::interop::program::apart(&mut command, home);
        let begin = Instant::now();
        let child = command
            .args(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.name))?;
        let used = stats::follow(child.id());
        let wall = begin.elapsed();
        let output = child.wait_with_output().map_err(|error| format!("{}: {error}", self.name))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} {}: {}: {said}", self.name, args.join(" "), output.status));
        }
        Ok((wall, used))
    }
}

/// The table, in Markdown: each time and each processor time as a part of the fastest other client's, and the processor
/// time as a part of what hashing and moving the bytes takes at least.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n| scenario | client | s | of the best other | CPU s | of its CPU | of hashing and moving | peak MiB |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let others = rows.iter().filter(|other| other.is_same(row) && other.client != row.client);
        let best = others.min_by_key(|other| other.wall);
        let part = |of: fn(&Row) -> f64| best.map_or(f64::NAN, |best| of(row) / of(best));
        let _ = writeln!(
            text,
            "| {} | {} | {:.3} | {:.2} | {:.2} | {:.2} | {} | {:.0} |",
            row.name(),
            row.client,
            row.wall.as_secs_f64(),
            part(|row| row.wall.as_secs_f64()),
            row.used.cpu.as_secs_f64(),
            part(|row| row.used.cpu.as_secs_f64()),
            row.least.map_or("-".to_owned(), |least| {
                format!("{:.2}", row.used.cpu.as_secs_f64() / least.as_secs_f64())
            }),
            row.used.peak_resident as f64 / f64::from(1 << 20),
        );
    }
    text
}
