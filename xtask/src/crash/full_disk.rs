//! A full disk: a small one in memory, pushes that do not fit, and room again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::conformance::wire::Reply;
use crate::crash::check;
use crate::crash::client::{Client, Done, Failed, describe};
use crate::crash::content::{Blob, Manifest};
use crate::crash::model::Change;
use crate::crash::tools::{Tools, runtime};
use crate::noise::Random;
use crate::process::{Result, run as run_program, say};

/// The disk, in MiB, and what it grows to.
const SMALL: usize = 24;
const LARGE: usize = 96;
/// So much of the disk, in bytes, may stay taken by what was refused: the log of the database keeps its size.
const KEPT_AT_MOST: u64 = 6 << 20;
const REPOSITORY: &str = "full/disk";
const INSUFFICIENT_STORAGE: u16 = 507;

/// How much is done.
pub(super) struct Plan {
    pub(super) seed: u64,
    /// How many pushes are tried on the full disk.
    pub(super) pushes: usize,
}

/// A disk in memory. It is unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let size = format!("size={SMALL}m");
        run_program(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path))?;
        Ok(Self(path))
    }

    fn resize(&self, mebibytes: usize) -> Result {
        let size = format!("remount,size={mebibytes}m");
        run_program(Command::new("mount").args(["-o", &size]).arg(&self.0)).map(drop)
    }

    /// Bytes in files, as the disk counts them.
    fn used(&self) -> Result<u64> {
        let printed = run_program(Command::new("df").args(["--output=used", "-B1"]).arg(&self.0))?;
        let used = printed.lines().nth(1).and_then(|line| line.trim().parse().ok());
        used.ok_or_else(|| format!("df printed {printed:?}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is left of a server that was killed may hold it for a moment; then it goes later.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What came of the pushes.
#[derive(Default)]
struct Tally {
    stored: usize,
    refused: usize,
    lost: usize,
    reads: usize,
}

pub(super) fn run(tools: &Tools, plan: &Plan) -> Result {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let disk = Disk::mount(scratch.path().join("disk")).map_err(|error| {
        format!("a small disk cannot be made here (it needs the right to mount a tmpfs): {error}")
    })?;
    // The log of the server lies beside it.
    let inner = disk.0.join("data");
    let data = scratch.path().join("data");
    std::fs::create_dir(&inner)
        .and_then(|()| std::os::unix::fs::symlink(&inner, &data))
        .map_err(|error| format!("{}: {error}", data.display()))?;
    runtime()?.block_on(story(tools, plan, &disk, &data))
}

async fn story(tools: &Tools, plan: &Plan, disk: &Disk, data: &Path) -> Result {
    let mut random = Random::new(plan.seed);
    let server = tools.start(data, &[])?;
    let mut client = Client::new("client", &server.host, Rc::new(|| ()));
    let mut tally = Tally::default();

    // Filled with blobs of half a MiB, then with smaller ones, until none of a size fits.
    for size in [512 << 10, 40 << 10, 3000] {
        while push(&mut client, &mut random, size, &mut tally).await? {}
    }
    say(&format!("full after {} pushes, {} bytes used", tally.stored, disk.used()?));
    for number in 0..plan.pushes {
        let size = [900, 5000, 40_000, 300_000, 3 << 20][random.below(5)];
        match number % 5 {
            0..3 => drop(push(&mut client, &mut random, size, &mut tally).await?),
            3 => chunked(&mut client, &mut random, size, &mut tally).await.map_err(String::from)?,
            _ => manifest(&mut client, number, &mut tally).await?,
        }
        if number % 50 == 0 {
            everything(&mut client, &mut tally).await?;
        }
    }
    everything(&mut client, &mut tally).await?;
    say(&format!(
        "| stored | refused | connections lost while refused | reads beside |\n|---|---|---|---|\n| {} | {} | {} | {} |",
        tally.stored, tally.refused, tally.lost, tally.reads
    ));
    if tally.refused * 4 < plan.pushes {
        return Err(format!("only {} of {} pushes were refused", tally.refused, plan.pushes));
    }
    check_room(&client, disk)?;

    // A server that is killed and started while there is no room keeps what it has.
    server.kill()?;
    let started = tools.start(data, &[]);
    match started {
        Ok(server) => {
            client.reconnect(&server.host, Rc::new(|| ()));
            everything(&mut client, &mut tally).await?;
            server.kill()?;
            say("it starts on the full disk");
        }
        Err(error) => say(&format!("it does not start on the full disk: {error}")),
    }

    disk.resize(LARGE)?;
    let server = tools.start(data, &[])?;
    client.reconnect(&server.host, Rc::new(|| ()));
    everything(&mut client, &mut tally).await?;
    let refused = tally.refused;
    for size in [900, 40_000, 300_000, 3 << 20] {
        push(&mut client, &mut random, size, &mut tally).await?;
    }
    manifest(&mut client, usize::MAX, &mut tally).await?;
    if tally.refused > refused {
        return Err("a push is refused although there is room again".into());
    }
    everything(&mut client, &mut tally).await?;
    server.kill()?;
    tools.fsck(data)?;
    say("with room again: pushes are stored, and all is there");
    Ok(())
}

async fn everything(client: &mut Client, tally: &mut Tally) -> Result {
    check::everything(client, &[]).await.map_err(String::from)?;
    tally.reads += client.model.blobs.len() + client.model.manifests.len();
    Ok(())
}

/// Pushes a blob, and tells whether it was stored. Else it must be refused clearly, and not be there.
async fn push(
    client: &mut Client,
    random: &mut Random,
    size: usize,
    tally: &mut Tally,
) -> Result<bool> {
    let blob = Blob::noise(random.next(), size);
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest);
    let place = (REPOSITORY.to_owned(), blob.digest.clone());
    let changes = vec![Change::Blob(place, Some(blob.clone()))];
    let sent = client.try_change(("POST", &target), &[], &blob.bytes, 201, changes).await;
    outcome(client, ("POST", &target), sent, tally).await
}

/// Pushes a manifest of what is there, which takes no more than a row.
async fn manifest(client: &mut Client, number: usize, tally: &mut Tally) -> Result {
    let Some(blob) = client.model.blobs.values().next().cloned() else { return Ok(()) };
    let manifest = Manifest::image(&blob, &[], None, &format!("{number} {}", "x".repeat(3000)));
    let target = format!("/v2/{REPOSITORY}/manifests/t{}", number % 7);
    let place = (REPOSITORY.to_owned(), manifest.digest.clone());
    let tag = (REPOSITORY.to_owned(), format!("t{}", number % 7));
    let changes = vec![
        Change::Manifest(place, Some(manifest.clone())),
        Change::Tag(tag, Some(manifest.digest.clone())),
    ];
    let headers = [("Content-Type", manifest.media_type.to_owned())];
    let sent = client.try_change(("PUT", &target), &headers, &manifest.bytes, 201, changes).await;
    outcome(client, ("PUT", &target), sent, tally).await.map(drop)
}

/// What came of a push. An answer may be lost when it comes before all is sent; then the push must not have happened, or wholly.
async fn outcome(
    client: &mut Client,
    (method, target): (&str, &str),
    sent: Done<Reply>,
    tally: &mut Tally,
) -> Result<bool> {
    match sent {
        Ok(reply) if reply.status == 201 => {
            tally.stored += 1;
            Ok(true)
        }
        Ok(reply) if reply.status == INSUFFICIENT_STORAGE => {
            tally.refused += 1;
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            match body["errors"][0]["code"].is_string() {
                true => Ok(false),
                false => {
                    Err(describe(method, target, &reply, "expected an error of the spec's form"))
                }
            }
        }
        Ok(reply) => Err(describe(method, target, &reply, "expected 201 or 507")),
        Err(Failed::Lost(_)) => {
            tally.refused += 1;
            tally.lost += 1;
            check::settle(client).await.map_err(String::from)?;
            Ok(false)
        }
        Err(Failed::Wrong(error)) => Err(error),
    }
}

/// Pushes a blob in two chunks; a refused upload is given up.
async fn chunked(client: &mut Client, random: &mut Random, size: usize, tally: &mut Tally) -> Done {
    let blob = Blob::noise(random.next(), size);
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let upload = client.begin(REPOSITORY, &blob).await?;
    let pushed = async {
        client.patch(upload, size / 2).await?;
        client.commit(upload).await.map(drop)
    };
    let result = pushed.await;
    match result {
        Ok(()) => {
            tally.stored += 1;
            return Ok(());
        }
        Err(Failed::Wrong(error)) if !error.contains("status 507") => {
            return Err(Failed::Wrong(error));
        }
        Err(Failed::Lost(_)) => tally.lost += 1,
        Err(Failed::Wrong(_)) => {}
    }
    tally.refused += 1;
    let changes = std::mem::take(&mut client.in_flight);
    // It may be gone already, and it may be too full even to note that it is given up: then it expires.
    let Some(open) = client.model.uploads.remove(&upload) else { return Ok(()) };
    let reply = client.try_change(("DELETE", &open.location), &[], &[], 204, Vec::new()).await?;
    if !matches!(reply.status, 204 | 404 | INSUFFICIENT_STORAGE) {
        return Err(Failed::Wrong(describe("DELETE", &target, &reply, "expected 204, 404 or 507")));
    }
    // It was refused, so it is not there.
    for change in changes {
        if let Change::Blob((repository, digest), _) = change {
            let target = format!("/v2/{repository}/blobs/{digest}");
            let reply = client.get(&target).await?;
            if reply.status != 404 {
                return Err(Failed::Wrong(describe("GET", &target, &reply, "expected 404")));
            }
        }
    }
    Ok(())
}

/// What was refused has left nothing behind.
fn check_room(client: &Client, disk: &Disk) -> Result {
    let stored: u64 = client.model.blobs.values().map(|blob| blob.size() as u64).sum();
    let used = disk.used()?;
    say(&format!("{used} bytes used for {stored} bytes of blobs"));
    if used > stored + KEPT_AT_MOST {
        return Err(format!(
            "{used} bytes are used for {stored} bytes of blobs: what was refused was not freed"
        ));
    }
    Ok(())
}
