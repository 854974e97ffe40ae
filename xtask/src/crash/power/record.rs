//! What is recorded: a server under strace, and clients that push, move, delete and suspend.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use super::trace::{self, Action, Event};
use crate::crash::check::finish_upload;
use crate::crash::client::{Client, Failed, Step};
use crate::crash::content::{Blob, Manifest};
use crate::crash::model::Model;
use crate::crash::tools::{DELETING, runtime};
use crate::process::{Result, Server};

/// Longer strings are not written to the log. The engine writes at most 256 KiB at a time.
const LONGEST: &str = "1048576";

/// What a run has done to the disk, and what its clients were told.
pub(super) struct Recording {
    pub(super) name: String,
    /// The directory of the data, which was not there before.
    pub(super) data: PathBuf,
    pub(super) events: Vec<Event>,
    pub(super) clients: Vec<Recorded>,
    /// The events after which cuts are looked at.
    pub(super) cuts: Range<usize>,
}

/// What one client was told, request by request.
pub(super) struct Recorded {
    pub(super) steps: Vec<Step>,
    pub(super) end: Model,
}

/// How a server process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Shutdown,
    Kill,
}

struct Recorder<'a> {
    ocictl: &'a Path,
    directory: &'a Path,
    options: &'a [&'a str],
    logs: Vec<PathBuf>,
}

impl Recorder<'_> {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&mut self, inject: Option<&str>) -> Command {
        let log = self.directory.join(format!("log{}", self.logs.len()));
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-yy", "-xx", "-s", LONGEST, "-o"]).arg(&log);
        command.arg("-e").arg(format!("trace={}", trace::CALLS));
        command.args(inject.map(|inject| format!("--inject={inject}")));
        command.arg(self.ocictl).args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(self.data()).args(self.options);
        self.logs.push(log);
        command
    }

    fn start(&mut self) -> Result<Traced> {
        Ok(Traced { server: Server::spawn(self.command(None))? })
    }

    /// Starts a server that is killed when it syncs for the given time, and tells whether it was.
    fn start_killed(&mut self, sync: usize) -> Result<bool> {
        let mut command = self.command(Some(&format!("fsync,fdatasync:signal=KILL:when={sync}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("strace: {error}"))?;
        let mut first = [0];
        let read = child.stdout.take().map(|mut out| out.read(&mut first));
        // It has said where it listens, and so was not killed.
        let listens = matches!(read, Some(Ok(1)));
        if listens {
            end_tracee(child.id(), End::Kill)?;
        }
        child.wait().map_err(|error| format!("strace: {error}"))?;
        Ok(!listens)
    }

    /// All that its processes did, and where the last of them begins.
    fn events(&self) -> Result<(Vec<Event>, usize)> {
        let mut events: Vec<Event> = Vec::new();
        let mut first = 0;
        for log in &self.logs {
            let text = std::fs::read_to_string(log)
                .map_err(|error| format!("{}: {error}", log.display()))?;
            // The directory above is there, and stays.
            let read = trace::read(&text, self.directory)
                .map_err(|error| format!("{}: {error}", log.display()))?;
            first = events.len();
            events.extend(read.into_iter().map(|event| match event {
                Event::Began(id, action) => Event::Began(first + id, action),
                Event::Ended(id) => Event::Ended(first + id),
            }));
        }
        Ok((events, first))
    }
}

struct Traced {
    server: Server,
}

impl Traced {
    /// Ends the server, and waits until strace has written all that it did.
    fn end(self, end: End) -> Result {
        end_tracee(self.server.pid(), end)?;
        self.server.wait()
    }
}

/// Ends the program that strace runs.
fn end_tracee(strace: u32, end: End) -> Result {
    let path = format!("/proc/{strace}/task/{strace}/children");
    let children = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let child = children.split_whitespace().next().ok_or("strace runs no program")?;
    let signal = if end == End::Kill { "-KILL" } else { "-TERM" };
    let done = Command::new("kill").args([signal, child]).status();
    done.map(drop).map_err(|error| format!("kill: {error}"))
}

/// Whether processes can be traced here.
pub(super) fn check_strace() -> Result {
    let tried: std::io::Result<Child> = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .spawn();
    let status = tried.and_then(|mut child| child.wait());
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("strace cannot trace here: {status}")),
        Err(error) => {
            Err(format!("strace cannot be started: {error}; install it (apt install strace)"))
        }
    }
}

/// A server that works as usual: a first start, requests of each kind, an orderly end, a second start, more requests, a kill,
/// a third start, a last request.
pub(super) fn usual(ocictl: &Path, directory: &Path, options: &[&str]) -> Result<Recording> {
    let mut recorder = Recorder { ocictl, directory, options, logs: Vec::new() };
    let mut clients = Clients::new(["one", "two"]);
    let runtime = runtime()?;

    let server = recorder.start()?;
    clients.connect(&server.server.host);
    runtime.block_on(first(&mut clients)).map_err(String::from)?;
    server.end(End::Shutdown)?;

    let server = recorder.start()?;
    clients.connect(&server.server.host);
    runtime.block_on(second(&mut clients)).map_err(String::from)?;
    server.end(End::Kill)?;

    let server = recorder.start()?;
    clients.connect(&server.server.host);
    runtime.block_on(third(&mut clients)).map_err(String::from)?;
    server.end(End::Shutdown)?;

    let (events, _) = recorder.events()?;
    let (name, data) = ("usual".to_owned(), recorder.data());
    Ok(Recording { name, data, events, clients: clients.recorded(), cuts: 0..usize::MAX })
}

/// A server whose database log grows until it is merged into the database, and begins anew.
pub(super) fn checkpointed(ocictl: &Path, directory: &Path, options: &[&str]) -> Result<Recording> {
    /// The log is merged at 16 MiB, and begins anew some commits later.
    const MOST: u64 = 1000;
    /// Pushes into the new log.
    const AFTER: u64 = 40;
    let mut recorder = Recorder { ocictl, directory, options, logs: Vec::new() };
    let mut clients = Clients::new(["one"]);
    let log = recorder.data().join("metadata.sqlite-wal");
    let server = recorder.start()?;
    clients.connect(&server.server.host);
    let pushes = async {
        let [one] = clients.get();
        let (mut first, mut end) = (None, MOST);
        for number in 0.. {
            if number == end {
                break;
            }
            let blob = Blob::noise(1000 + number, 32 << 10);
            one.push_at_once("a", &blob).await?;
            // So that what is checked on each state stays little.
            if number % 10 != 0 {
                one.delete_blob("a", &blob.digest).await?;
            }
            let header = log_header(&log)?;
            if end == MOST && *first.get_or_insert(header) != header {
                end = number + AFTER;
            }
        }
        Ok::<_, Failed>(())
    };
    runtime()?.block_on(pushes).map_err(String::from)?;
    server.end(End::Kill)?;
    let (events, _) = recorder.events()?;
    let data = recorder.data();
    let cuts = merge(&events, &data.join("metadata.sqlite"), &log)?;
    let name = "log merged into the database".to_owned();
    Ok(Recording { name, data, events, clients: clients.recorded(), cuts })
}

/// What tells the database's log from the one before it: the start of its file has a number and a salt.
fn log_header(log: &Path) -> std::result::Result<[u8; 32], Failed> {
    let mut header = [0; 32];
    let read = File::open(log).and_then(|mut file| file.read_exact(&mut header));
    read.map_err(|error| Failed::Wrong(format!("{}: {error}", log.display())))?;
    Ok(header)
}

/// The events from shortly before the log is merged into the database to well after it has begun anew. Between the
/// two come some rounds of merging and syncing, and commits beside them.
fn merge(events: &[Event], database: &Path, log: &Path) -> Result<Range<usize>> {
    /// Before the merge, and into the new log.
    const AROUND: [usize; 2] = [20, 300];
    let find = |what: &str, from: usize, wanted: &dyn Fn(&Action) -> bool| {
        let found = events[from..].iter().position(|event| match event {
            Event::Began(_, action) => wanted(action),
            Event::Ended(_) => false,
        });
        found.map(|at| from + at).ok_or_else(|| {
            format!(
                "a merge of the log into the database was to be recorded, and there is no {what}"
            )
        })
    };
    // The first start writes to the database itself, too, but that is recorded elsewhere.
    let answer = find("answer", 0, &|action| matches!(action, Action::Answer(_)))?;
    let merge = find(
        "write to the database",
        answer,
        &|action| matches!(action, Action::Write { path, .. } if path == database),
    )?;
    let anew = find(
        "write to the start of the log after it",
        merge,
        &|action| matches!(action, Action::Write { path, offset: 0, .. } if path == log),
    )?;
    Ok(merge.saturating_sub(AROUND[0])..anew + AROUND[1])
}

/// A server that collects garbage: what nothing references goes, and the rest stays.
pub(super) fn collected(ocictl: &Path, directory: &Path, options: &[&str]) -> Result<Recording> {
    const POLLS: u64 = 200;
    let collecting = ["--gc-interval", "300ms", "--gc-grace", "1s"];
    let options = [options, &collecting, &DELETING].concat();
    let mut recorder = Recorder { ocictl, directory, options: &options, logs: Vec::new() };
    let mut clients = Clients::new(["one"]);
    clients.0[0].model.grace = Some(Duration::from_secs(1));
    let objects = recorder.data().join("objects");
    let server = recorder.start()?;
    clients.connect(&server.server.host);
    let story = async {
        let [one] = clients.get();
        let layer = Blob::noise(42, 80_000);
        keep(one, "a", &[Blob::noise(41, 400), layer], Some("latest")).await?;
        for blob in [Blob::noise(43, 700), Blob::noise(44, 90_000)] {
            one.push_at_once("b", &blob).await?;
        }
        let target = format!("/v2/b/blobs/{}", Blob::noise(44, 90_000).digest);
        for poll in 0.. {
            if one.get(&target).await?.status == 404 {
                break;
            }
            if poll == POLLS {
                return Err(Failed::Wrong(format!("{target} was not collected")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        one.push_at_once("c", &Blob::noise(45, 60_000)).await?;
        // Deleted, its bytes go with the next collection, and others come meanwhile.
        one.delete_blob("c", &Blob::noise(45, 60_000).digest).await?;
        for poll in 0.. {
            keep(one, "a", &[Blob::noise(46 + poll, 50)], None).await?;
            if files(&objects) <= 1 {
                break;
            }
            if poll == POLLS {
                return Err(Failed::Wrong("the files of deleted blobs are not deleted".into()));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        keep(one, "c", &[Blob::noise(40, 70_000)], None).await
    };
    runtime()?.block_on(story).map_err(String::from)?;
    server.end(End::Kill)?;
    let (events, _) = recorder.events()?;
    let (name, data) = ("a collection".to_owned(), recorder.data());
    // What comes before the first answer is recorded elsewhere.
    let answer = |event: &Event| matches!(event, Event::Began(_, Action::Answer(_)));
    let first = events.iter().position(answer).unwrap_or(0);
    Ok(Recording { name, data, events, clients: clients.recorded(), cuts: first..usize::MAX })
}

/// Pushes blobs and an image of them. Unlike what nothing references, which may have been collected before a state
/// is looked at, they must be there from then on.
async fn keep(
    client: &mut Client,
    repository: &str,
    blobs: &[Blob],
    tag: Option<&str>,
) -> std::result::Result<(), Failed> {
    /// The first may be collected before the image comes, on a machine that is so slow.
    const TRIES: usize = 20;
    let (config, layers) = blobs.split_first().ok_or(Failed::Wrong("no blobs to keep".into()))?;
    let image = Manifest::image(config, layers, None, "kept");
    for _ in 0..TRIES {
        for blob in blobs {
            client.push_at_once(repository, blob).await?;
        }
        client.put_manifest(repository, &image, tag).await?;
        let certain =
            |blob: &Blob| client.model.is_certain(&(repository.to_owned(), blob.digest.clone()));
        if client.model.manifests_of(repository).any(|kept| kept.digest == image.digest)
            && blobs.iter().all(certain)
        {
            return Ok(());
        }
    }
    Err(Failed::Wrong(format!("{repository}: blobs are collected before their image comes")))
}

/// A first start that is killed at one of its syncs, a second start, and pushes. `None`: there are not so many syncs.
pub(super) fn interrupted(
    ocictl: &Path,
    directory: &Path,
    options: &[&str],
    sync: usize,
) -> Result<Option<Recording>> {
    let mut recorder = Recorder { ocictl, directory, options, logs: Vec::new() };
    let mut clients = Clients::new(["one"]);
    if !recorder.start_killed(sync)? {
        return Ok(None);
    }
    let server = recorder.start()?;
    clients.connect(&server.server.host);
    let pushes = async {
        let [one] = clients.get();
        one.push_at_once("a", &Blob::noise(1, 70_000)).await?;
        one.push_at_once("a", &Blob::noise(2, 700)).await
    };
    runtime()?.block_on(pushes).map_err(String::from)?;
    server.end(End::Kill)?;
    // What comes before the second start is recorded elsewhere.
    let (events, first_cut) = recorder.events()?;
    let name = format!("first start killed at sync {sync}");
    let data = recorder.data();
    Ok(Some(Recording {
        name,
        data,
        events,
        clients: clients.recorded(),
        cuts: first_cut..usize::MAX,
    }))
}

/// How many files there are below a directory.
fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

struct Clients<const N: usize>([Client; N]);

impl<const N: usize> Clients<N> {
    fn new(names: [&str; N]) -> Self {
        Self(names.map(|name| {
            let mut client = Client::new(name, "", Rc::new(|| ()));
            client.steps = Some(Vec::new());
            client
        }))
    }

    fn connect(&mut self, host: &str) {
        for client in &mut self.0 {
            client.reconnect(host, Rc::new(|| ()));
        }
    }

    fn get(&mut self) -> [&mut Client; N] {
        self.0.each_mut()
    }

    fn recorded(self) -> Vec<Recorded> {
        let recorded = self.0.map(|mut client| Recorded {
            steps: client.steps.take().unwrap_or_default(),
            end: client.model,
        });
        recorded.into_iter().collect()
    }
}

async fn first(clients: &mut Clients<2>) -> std::result::Result<(), Failed> {
    let [one, two] = clients.get();
    let (small, large) = (Blob::noise(11, 900), Blob::noise(12, 300_000));
    one.push_at_once("one/a", &small).await?;
    one.push_at_once("one/a", &large).await?;
    let image = Manifest::image(&small, std::slice::from_ref(&large), None, "first");
    one.put_manifest("one/a", &image, Some("latest")).await?;
    // Both at a time, so that they share a commit.
    let (chunked, other) = (Blob::noise(13, 120_000), Blob::noise(14, 30_000));
    let pushes = futures_util::future::join(
        async {
            let upload = one.begin("one/a", &chunked).await?;
            one.patch(upload, 50_000).await?;
            one.patch(upload, 50_000).await?;
            one.commit(upload).await.map(drop)
        },
        async {
            two.push_at_once("two/a", &other).await?;
            two.push_at_once("two/a", &small).await?;
            two.push_at_once("two/a", &large).await
        },
    );
    let (one_done, two_done) = pushes.await;
    one_done.and(two_done)?;
    let second = Manifest::image(&small, &[chunked.clone(), large.clone()], Some(&image), "second");
    one.put_manifest("one/a", &second, Some("latest")).await?;
    let index = Manifest::index(&[image.clone(), second.clone()], "index");
    one.put_manifest("one/a", &index, Some("all")).await?;
    one.mount("one/a", "one/b", &large).await?;
    one.delete_tag("one/a", "all").await?;
    one.delete_manifest("one/a", &second.digest).await?;
    one.delete_blob("one/a", &chunked.digest).await?;
    let (suspended, little) = (Blob::noise(15, 150_000), Blob::noise(16, 500));
    let upload = one.begin("one/b", &suspended).await?;
    one.patch(upload, 90_000).await?;
    let upload = two.begin("two/b", &little).await?;
    two.patch(upload, 200).await?;
    let given_up = two.begin("two/b", &suspended).await?;
    two.patch(given_up, 60_000).await?;
    two.cancel(given_up).await
}

async fn second(clients: &mut Clients<2>) -> std::result::Result<(), Failed> {
    let [one, two] = clients.get();
    let open: Vec<u64> = one.model.uploads.keys().copied().collect();
    for upload in open {
        finish_upload(one, upload).await?;
    }
    let small = Blob::noise(21, 5000);
    two.push_at_once("two/a", &small).await?;
    let image = Manifest::image(&small, &[], None, "third");
    two.put_manifest("two/a", &image, Some("latest")).await?;
    let large = Blob::noise(22, 200_000);
    let upload = two.begin("two/a", &large).await?;
    two.patch(upload, 100_000).await
}

async fn third(clients: &mut Clients<2>) -> std::result::Result<(), Failed> {
    let [one, two] = clients.get();
    one.push_at_once("one/c", &Blob::noise(31, 50_000)).await?;
    let open: Vec<u64> = two.model.uploads.keys().copied().collect();
    for upload in open {
        finish_upload(two, upload).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_merge_reaches_into_the_new_log() {
        let (database, log) = (PathBuf::from("/d/db"), PathBuf::from("/d/db-wal"));
        let write = |path: &Path, offset| {
            let action = Action::Write { path: path.to_owned(), offset, bytes: vec![0; 32] };
            Event::Began(0, action)
        };
        let mut events = vec![write(&log, 0), write(&database, 0), write(&log, 32)];
        events.push(Event::Began(0, Action::Answer(1)));
        events.extend((0..100).map(|frame| write(&log, 100 + frame)));
        let merges = events.len();
        for round in 0..4 {
            events.extend((0..200).map(|page| write(&database, page)));
            events.push(Event::Began(0, Action::Sync(database.clone())));
            events.push(write(&log, 1000 + round));
        }
        let error = merge(&events, &database, &log).unwrap_err();
        assert!(error.contains("no write to the start of the log"), "{error}");
        let anew = events.len();
        events.push(write(&log, 0));
        assert_eq!(merge(&events, &database, &log), Ok(merges - 20..anew + 300));
    }
}
