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
/// More than the disk has.
const TOO_LARGE: usize = (SMALL + 2) << 20;
/// So much more of the disk, in bytes, may be in use after some refusals: the database notes uploads in its log. A push that
/// leaves its bytes leaves more.
const KEPT_AT_MOST: u64 = 1 << 20;
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
    // The last byte is what this is about.
    let server = tools.start(data, &["--min-free-space", "0"])?;
    let mut client = Client::new("client", &server.host, Rc::new(|| ()));
    let mut tally = Tally::default();

    too_large(&mut client, &mut random, disk, &mut tally).await?;
    // Filled with blobs of half a MiB, then with smaller ones, until none of a size fits.
    for size in [512 << 10, 40 << 10, 3000] {
        while push(&mut client, &mut random, size, &mut tally).await? {}
    }
    let full = Room::of(&client, disk)?;
    say(&format!("full after {} pushes, {} bytes used", tally.stored, full.used));
    let before = tally.refused;
    for number in 0..plan.pushes {
        let size = [900, 5000, 40_000, 300_000, 3 << 20][random.below(5)];
        match number % 5 {
            0..3 => drop(push(&mut client, &mut random, size, &mut tally).await?),
            3 => chunked(&mut client, &mut random, size, &mut tally).await?,
            _ => manifest(&mut client, number, &mut tally).await?,
        }
        if number % 50 == 0 {
            everything(&mut client, &mut tally).await?;
        }
    }
    everything(&mut client, &mut tally).await?;
    say(&format!(
        "| stored | refused | reads beside |\n|---|---|---|\n| {} | {} | {} |",
        tally.stored, tally.refused, tally.reads
    ));
    let refused = tally.refused - before;
    if refused < plan.pushes {
        return Err(format!("only {refused} of {} pushes were refused", plan.pushes));
    }
    full.check(&Room::of(&client, disk)?)?;

    // A server that is killed and started while there is no room keeps what it has.
    server.kill()?;
    let server = tools
        .start(data, &[])
        .map_err(|error| format!("it does not start on the full disk: {error}"))?;
    client.reconnect(&server.host, Rc::new(|| ()));
    everything(&mut client, &mut tally).await?;
    server.kill()?;
    say("it starts on the full disk");

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
    outcome(("POST", &target), sent, tally)
}

/// Pushes a manifest of what is there, which takes no more than a row.
async fn manifest(client: &mut Client, number: usize, tally: &mut Tally) -> Result {
    let blob = client.model.blobs.values().next().cloned().ok_or("nothing was stored")?;
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
    outcome(("PUT", &target), sent, tally).map(drop)
}

/// What came of a push.
fn outcome((method, target): (&str, &str), sent: Done<Reply>, tally: &mut Tally) -> Result<bool> {
    match sent {
        Ok(reply) if reply.status == 201 => {
            tally.stored += 1;
            Ok(true)
        }
        Ok(reply) => {
            refused(&reply, (method, target))?;
            tally.refused += 1;
            Ok(false)
        }
        // Nothing but an answer says why, and that it is not to be tried again.
        Err(failed) => Err(failed.into()),
    }
}

/// An answer must be a clear refusal.
fn refused(reply: &Reply, (method, target): (&str, &str)) -> Result {
    if reply.status != INSUFFICIENT_STORAGE {
        return Err(describe(method, target, reply, "expected 201 or 507"));
    }
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match body["errors"][0]["code"].is_string() {
        true => Ok(()),
        false => Err(describe(method, target, reply, "expected an error of the spec's form")),
    }
}

/// Pushes a blob in two chunks; a refused upload is given up.
async fn chunked(
    client: &mut Client,
    random: &mut Random,
    size: usize,
    tally: &mut Tally,
) -> Result {
    let blob = Blob::noise(random.next(), size);
    let mut begun = None;
    client.refusal = None;
    let pushed = async {
        let upload = client.begin(REPOSITORY, &blob).await?;
        begun = Some(upload);
        client.patch(upload, size / 2).await?;
        client.commit(upload).await
    };
    match pushed.await {
        Ok(_) => {
            tally.stored += 1;
            return Ok(());
        }
        Err(Failed::Lost(error)) => return Err(error),
        Err(Failed::Wrong(error)) => match client.refusal.take() {
            Some(reply) => refused(&reply, ("a request of", "an upload in chunks"))?,
            None => return Err(error),
        },
    }
    tally.refused += 1;
    // It may be gone already, and it may be too full even to note that it is given up: then it expires.
    if let Some(open) = begun.and_then(|upload| client.model.uploads.remove(&upload)) {
        let sent = client.try_change(("DELETE", &open.location), &[], &[], 204, Vec::new()).await;
        let reply = sent.map_err(String::from)?;
        if !matches!(reply.status, 204 | 404 | INSUFFICIENT_STORAGE) {
            return Err(describe("DELETE", &open.location, &reply, "expected 204, 404 or 507"));
        }
    }
    // It was refused, so it is not there.
    let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    let reply = client.get(&target).await.map_err(String::from)?;
    match reply.status {
        404 => Ok(()),
        _ => Err(describe("GET", &target, &reply, "expected 404")),
    }
}

/// Blobs that are larger than the disk are refused while there is room for others, and leave that room.
async fn too_large(
    client: &mut Client,
    random: &mut Random,
    disk: &Disk,
    tally: &mut Tally,
) -> Result {
    push(client, random, 40_000, tally).await?;
    let before = Room::of(client, disk)?;
    for _ in 0..2 {
        push(client, random, TOO_LARGE, tally).await?;
        chunked(client, random, TOO_LARGE, tally).await?;
    }
    match tally.refused {
        4 => before.check(&Room::of(client, disk)?),
        refused => Err(format!("{refused} of 4 blobs that are larger than the disk were refused")),
    }
}

/// What of the disk is in use, and by what.
#[derive(Clone, Copy)]
struct Room {
    used: u64,
    blobs: u64,
}

impl Room {
    fn of(client: &Client, disk: &Disk) -> Result<Self> {
        let blobs = client.model.blobs.values().map(|blob| blob.size() as u64).sum();
        Ok(Self { used: disk.used()?, blobs })
    }

    /// What was refused since then has left nothing behind.
    fn check(&self, now: &Self) -> Result {
        let Self { used, blobs } = *self;
        say(&format!("{} bytes used for {} bytes of blobs", now.used, now.blobs));
        if now.used + blobs > used + now.blobs + KEPT_AT_MOST {
            return Err(format!(
                "{} bytes are used for {} bytes of blobs, and before some were refused {used} for {blobs}: not all was freed",
                now.used, now.blobs
            ));
        }
        Ok(())
    }
}
