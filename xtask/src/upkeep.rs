//! `cargo xtask upkeep`: a large repository is collected and checked while clients push and pull, and none of them may notice.
//!
//! The repository has as many manifests as is said, each with a layer of its own and one that all share; every other one has
//! a tag, the rest is garbage. Clients push images, read them back, and read tagged ones of the repository, while
//! `ocictl gc` and `ocictl fsck` go through the server until all garbage is gone. Every answer that is not what it must be is
//! a failure; at the end every tagged manifest is there, and none of the others.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use futures_util::{TryStreamExt as _, stream};
use oci_ref::{Blob, Manifest, Precondition, Source as _, Store as _, Target};
use oci_registry_client::{Client, Registry, Repository};
use oci_spec_types::{Descriptor, MediaType, Tag};
use serde_json::{Value, json};

use crate::noise::{Random, noise};
use crate::process::{Result, Server, ask, find_ocictl, number, say};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// A built `ocictl` to test; else one is built.
    #[arg(long, value_name = "PATH")]
    ocictl: Option<PathBuf>,

    /// How many manifests the repository has.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..))]
    manifests: u64,

    /// How many clients push and pull meanwhile.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    clients: u64,

    /// An empty PostgreSQL database for the metadata, in place of SQLite.
    #[arg(long, value_name = "URL", env = "UPKEEP_DATABASE", hide_env_values = true)]
    database: Option<String>,
}

/// Content without references stays so long, as clients need it, and untagged manifests, too.
const GRACE: Duration = Duration::from_secs(20);

/// Garbage must be gone after so many collections, a third of the grace apart.
const MOST_COLLECTIONS: usize = 30;

/// How many requests fill the repository at a time.
const FILLING: usize = 16;

/// A layer that lies in a file, not in the database.
const LARGE: usize = 100_000;

const REPOSITORY: &str = "large/repository";

pub(crate) fn run(options: &Options) -> Result {
    let ocictl = find_ocictl(options.ocictl.as_deref())?;
    let scratch =
        tempfile::tempdir().map_err(|error| format!("making a scratch directory: {error}"))?;
    let data = scratch.path().join("data");
    let grace = format!("{}s", GRACE.as_secs());
    let mut command = Command::new(&ocictl);
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--gc-interval",
        "0s",
        "--longest-read",
        "1s",
    ]);
    command.args(["--gc-grace", &grace, "--data"]).arg(&data);
    command.env("OCICTL_DATABASE", options.database.as_deref().unwrap_or("sqlite:"));
    let server = Server::spawn(command)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("starting the async runtime: {error}"))?;
    runtime.block_on(all(options, &ocictl, &data, &server.host))?;
    server.kill()
}

async fn all(options: &Options, ocictl: &Path, data: &Path, host: &str) -> Result {
    let host = host.parse().map_err(|error| format!("{host}: {error}"))?;
    // Nothing is tried again: a client sees each failure.
    let client = Client::builder().retry(oci_registry_client::RetryPolicy::new(|_| None)).build();
    let client = client.map_err(|error| format!("making a client: {error}"))?;
    let registry = client.registry(&host).map_err(|error| error.to_string())?;
    let repository = registry.repository(name(REPOSITORY)?);

    let begun = Instant::now();
    fill(&repository, options.manifests).await?;
    say(&format!(
        "{} manifests pushed in {:.1} s",
        options.manifests,
        begun.elapsed().as_secs_f64()
    ));

    let load = Load::default();
    let workers = (0..options.clients)
        .map(|number| load.worker(&registry, &repository, number, options.manifests));
    let upkeep = async {
        let done = upkeep(options, ocictl, data, &load).await;
        load.ended.store(true, Ordering::Relaxed);
        done
    };
    let (upkeep, works) =
        futures_util::future::join(upkeep, futures_util::future::join_all(workers)).await;
    for (number, work) in works.into_iter().enumerate() {
        work.map_err(|error| format!("client {number}: {error}"))?;
    }
    upkeep?;
    check(&repository, options.manifests).await
}

fn name(text: &str) -> Result<oci_spec_types::Name> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Manifests with an even number have a tag.
fn tag(number: u64) -> Tag {
    format!("t{number}").parse().expect("letters and digits make a tag")
}

/// An image with some layers.
fn image(layers: &[(Descriptor, Bytes)]) -> Result<Manifest> {
    let config = Descriptor::of(MediaType::OCI_IMAGE_CONFIG, b"{}");
    let layers: Vec<&Descriptor> = layers.iter().map(|(layer, _)| layer).collect();
    let document = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_IMAGE_MANIFEST, "config": config, "layers": layers,
    });
    Manifest::parse(document.to_string().into(), None, None).map_err(|error| error.to_string())
}

fn layer(seed: u64, size: usize) -> (Descriptor, Bytes) {
    let bytes = Bytes::from(noise(seed, size));
    (Descriptor::of(MediaType::OCTET_STREAM, &bytes), bytes)
}

fn layers_of(number: u64) -> [(Descriptor, Bytes); 2] {
    // One in a hundred has a file of its own.
    let size = if number % 100 < 2 { LARGE } else { 500 };
    [layer(0, LARGE), layer(number + 1, size)]
}

async fn push(
    repository: &Repository,
    layers: &[(Descriptor, Bytes)],
    tags: &[Tag],
) -> Result<Manifest> {
    let failed = |doing: &str, error: oci_ref::Error| format!("{doing}: {}", error.chain());
    let config = (Descriptor::of(MediaType::OCI_IMAGE_CONFIG, b"{}"), Bytes::from_static(b"{}"));
    for (descriptor, bytes) in [&config].into_iter().chain(layers) {
        let found = repository.blob_size(&descriptor.digest).await;
        if found.map_err(|error| failed("asking for a blob", error))?.is_none() {
            let put = repository.put_blob(descriptor, bytes).await;
            put.map_err(|error| failed("pushing a blob", error))?;
        }
    }
    let manifest = image(layers)?;
    let put = repository.put_manifest(&manifest, tags, &Precondition::None).await;
    put.map_err(|error| failed("pushing a manifest", error))?;
    Ok(manifest)
}

/// Reads all of an image, which must have this digest.
async fn pull(repository: &Repository, tag: &Tag, expected: &Manifest) -> Result {
    let failed = |error: oci_ref::Error| format!("pulling {tag}: {}", error.chain());
    let found = repository.manifest(&tag.clone().into()).await.map_err(failed)?;
    if found != *expected {
        return Err(format!("{tag} is {}, expected {}", found.digest(), expected.digest()));
    }
    for blob in found.blobs() {
        let content = Blob::open(repository, blob).await.map_err(failed)?;
        content.into_bytes(1 << 20).await.map_err(failed)?;
    }
    Ok(())
}

async fn fill(repository: &Repository, manifests: u64) -> Result {
    push(repository, &layers_of(0), &[tag(0)]).await?;
    stream::iter((1..manifests).map(Ok))
        .try_for_each_concurrent(FILLING, |number| async move {
            let tags: &[Tag] = if number % 2 == 0 { &[tag(number)] } else { &[] };
            push(repository, &layers_of(number), tags).await.map(drop)
        })
        .await
}

/// What clients have done.
#[derive(Default)]
struct Load {
    ended: AtomicBool,
    pushes: AtomicU64,
    pulls: AtomicU64,
    /// How long each push and pull of an image took, since this was last asked.
    times: Mutex<Vec<Duration>>,
}

impl Load {
    /// Pushes and pulls until it is told to end, or something fails.
    async fn worker(
        &self,
        registry: &Registry,
        large: &Repository,
        number: u64,
        manifests: u64,
    ) -> Result {
        let own = registry.repository(name(&format!("client/c{number}"))?);
        let mut random = Random::new(number);
        let done = async {
            let mut seed = (number + 1) << 40;
            while !self.ended.load(Ordering::Relaxed) {
                seed += 2;
                let size = if random.percent(20) { LARGE } else { 3000 };
                let layers = [layer(0, LARGE), layer(seed, size)];
                let latest = tag(random.next() % 20);
                let begun = Instant::now();
                let pushed = push(&own, &layers, std::slice::from_ref(&latest)).await?;
                self.note(&self.pushes, begun);
                let begun = Instant::now();
                pull(&own, &latest, &pushed).await?;
                self.note(&self.pulls, begun);
                let known = random.next() % manifests / 2 * 2;
                let begun = Instant::now();
                pull(large, &tag(known), &image(&layers_of(known))?).await?;
                self.note(&self.pulls, begun);
            }
            Ok(())
        };
        let done: Result = done.await;
        self.ended.store(true, Ordering::Relaxed);
        done
    }

    fn note(&self, counter: &AtomicU64, begun: Instant) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(begun.elapsed());
    }

    /// How many pushes and pulls of images there were, and how long they took, since this was last asked.
    fn take(&self) -> String {
        let mut times = std::mem::take(
            &mut *self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        );
        times.sort_unstable();
        let at = |part: usize| {
            let time = times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
            time.copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        format!(
            "{} images pushed or pulled: {:.1} ms in the middle, 99 of 100 in {:.1}, the longest {:.1}",
            times.len(),
            at(50),
            at(99),
            at(100)
        )
    }
}

/// Collects until all garbage is gone, then checks.
async fn upkeep(options: &Options, ocictl: &Path, data: &Path, load: &Load) -> Result {
    tokio::time::sleep(GRACE).await;
    say(&format!("alone: {}", load.take()));
    let older = format!("{}s", GRACE.as_secs());
    let (garbage, mut manifests, mut blobs) = (options.manifests / 2, 0, 0);
    for _ in 0..MOST_COLLECTIONS {
        let begun = Instant::now();
        let args = ["gc", "--untagged-older-than", &older];
        let report = ocictl_json(ocictl, data, &args).await?;
        manifests += number(&report, "manifests");
        blobs += number(&report, "blobs");
        say(&format!(
            "gc in {:.1} s: {} manifests, {} blobs and {} files gone; {}",
            begun.elapsed().as_secs_f64(),
            number(&report, "manifests"),
            number(&report, "blobs"),
            number(&report, "files"),
            load.take()
        ));
        if load.ended.load(Ordering::Relaxed) {
            return Err("a client failed".into());
        }
        if manifests >= garbage && blobs >= garbage {
            break;
        }
        tokio::time::sleep(GRACE / 3).await;
    }
    if manifests < garbage || blobs < garbage {
        return Err(format!(
            "{manifests} manifests and {blobs} blobs were collected, expected at least {garbage} of each"
        ));
    }
    let begun = Instant::now();
    let report = ocictl_json(ocictl, data, &["fsck"]).await?;
    say(&format!(
        "fsck in {:.1} s: {} manifests, {} blobs and {} files, {} problems; {}",
        begun.elapsed().as_secs_f64(),
        number(&report, "manifests"),
        number(&report, "blobs"),
        number(&report, "files"),
        number(&report, "problems"),
        load.take()
    ));
    say(&format!(
        "{} pushes and {} pulls of images meanwhile, none failed",
        load.pushes.load(Ordering::Relaxed),
        load.pulls.load(Ordering::Relaxed)
    ));
    Ok(())
}

/// Runs `ocictl` on the data, through the server, and gives the last document that it printed.
async fn ocictl_json(ocictl: &Path, data: &Path, args: &[&str]) -> Result<Value> {
    let mut command = Command::new(ocictl);
    command.args(args).arg("--data").arg(data);
    ask(command).await
}

/// Every manifest with a tag is there, and none of the others.
async fn check(repository: &Repository, manifests: u64) -> Result {
    stream::iter((0..manifests).map(Ok))
        .try_for_each_concurrent(FILLING, |number| async move {
            let expected = image(&layers_of(number))?;
            let found = repository.resolve(&Target::Digest(expected.digest().clone())).await;
            match (number % 2, found) {
                (0, Ok(_)) => pull(repository, &tag(number), &expected).await,
                (1, Err(error)) if error.is_not_found() => Ok(()),
                (0, Err(error)) => Err(format!("manifest {number} with a tag: {}", error.chain())),
                (_, Err(error)) => Err(format!("manifest {number}: {}", error.chain())),
                (_, Ok(_)) => Err(format!("manifest {number} without a tag is still there")),
            }
        })
        .await?;
    say(&format!(
        "{} tagged manifests are there, whole, and the others are gone",
        manifests.div_ceil(2)
    ));
    Ok(())
}
