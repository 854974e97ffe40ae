//! Pushes, mounts, deletions, tags, look-ups, checks and collections at once, against what a client may count on.

mod orders;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci_ref::{Access, ByteRange, Manifest, Mounted, Precondition, Registry, Source, Store};
use oci_registry_store::{CollectOptions, DurableRegistry, EngineOptions};
use oci_spec_types::{Descriptor, Digest, ErrorCode, Tag};
use tokio::sync::RwLock;

use crate::support::*;

/// How many rounds each actor plays, if there is time for them.
const ROUNDS: u64 = 150;

/// How long no new round is begun after.
const LONGEST: Duration = Duration::from_secs(15);

/// So many kinds of content there are, all of it shared by all actors, so that they get into each other's way.
const BLOBS: u64 = 12;

/// Each is one actor's own, whose tags nobody else moves, so that it knows what must be there.
const REPOSITORIES: [&str; 3] = ["x", "y", "z"];

const SLOTS: usize = 3;

/// A third of it lies in files.
fn blob(n: u64) -> Bytes {
    noise(if n.is_multiple_of(3) { 40_000 } else { 100 }, 1000 + n)
}

fn slot_tag(slot: usize) -> Tag {
    tag(&format!("t{slot}"))
}

/// Random numbers that a seed gives again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// The time by which engines count. It stands still while anybody pushes, for a push takes less than the grace.
pub(crate) struct Time {
    now: AtomicI64,
    stands: RwLock<()>,
}

impl Time {
    pub(crate) const fn new() -> Self {
        Self { now: AtomicI64::new(1_700_000_000), stands: RwLock::const_new(()) }
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// How engines are to be opened for this, with the time by which they count.
pub(crate) fn options(now: fn() -> i64) -> EngineOptions {
    let mut options = EngineOptions::default();
    options.sync = false;
    options.untagged = Some(Duration::ZERO);
    options.clock = now;
    options
}

/// Engines that have all content in common.
struct World {
    engines: Vec<DurableRegistry>,
    time: &'static Time,
}

/// What one actor does, and what it may count on.
struct Actor {
    world: Arc<World>,
    random: Random,
    repository: &'static str,
    tagged: [Option<Manifest>; SLOTS],
    /// The referrers of what has a tag, by its digest.
    signatures: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Actor {
    /// A repository, by any of the engines.
    async fn open(&mut self, repository: &str) -> Arc<dyn Store> {
        let engines = &self.world.engines;
        let engine = &engines[self.random.below(engines.len() as u64) as usize];
        engine.repository(&name(repository), Access::Write).await.unwrap()
    }

    async fn own(&mut self) -> Arc<dyn Store> {
        self.open(self.repository).await
    }

    fn any_repository(&mut self) -> &'static str {
        REPOSITORIES[self.random.below(REPOSITORIES.len() as u64) as usize]
    }

    fn has_tag(&self, digest: &Digest) -> bool {
        self.tagged.iter().flatten().any(|tagged| tagged.digest() == digest)
    }

    async fn round(&mut self) {
        let slot = self.random.below(SLOTS as u64) as usize;
        match self.random.below(12) {
            0..=5 => self.push_image(slot).await,
            6 => self.sign(slot).await,
            7 => self.remove_signature(slot).await,
            8 => {
                let deleted = self.own().await.delete_tag(&slot_tag(slot)).await;
                assert_eq!(deleted.is_ok(), self.tagged[slot].take().is_some(), "{deleted:?}");
            }
            9 => self.delete_manifest(slot).await,
            10 => {
                // Refused, gone or done: never a loss, which the look at the end would see.
                let digest = describe(&blob(self.random.below(BLOBS))).digest;
                if let Err(error) = self.own().await.delete_blob(&digest).await {
                    let code = error.code();
                    let fine = matches!(code, Some(ErrorCode::Denied | ErrorCode::BlobUnknown));
                    assert!(fine, "{error:?}");
                }
            }
            _ => {
                let other = self.any_repository();
                let digest = describe(&blob(self.random.below(BLOBS))).digest;
                self.open(other).await.blob_size(&digest).await.unwrap();
            }
        }
    }

    /// Sees that the own repository has a blob, as a client does: what is there is not sent again, what another has is mounted.
    async fn push_blob(&mut self, bytes: &Bytes) -> Descriptor {
        let blob = describe(bytes);
        if self.own().await.blob_size(&blob.digest).await.unwrap().is_some() {
            return blob;
        }
        if self.random.below(2) == 0 {
            let from = name(self.any_repository());
            let mounted = self.own().await.mount(&blob, Some(&from)).await.unwrap();
            if matches!(mounted, Mounted::Done) {
                return blob;
            }
        }
        push(&*self.own().await, bytes).await
    }

    async fn put(&mut self, manifest: &Manifest, tags: &[Tag]) {
        self.own().await.put_manifest(manifest, tags, &Precondition::None).await.unwrap();
    }

    async fn push_image(&mut self, slot: usize) {
        let mut layers = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let bytes = blob(self.random.below(BLOBS));
            layers.push(self.push_blob(&bytes).await);
        }
        let text = format!("{}", self.random.below(4));
        let image = image(&layers[0], &layers[1..], &text, None);
        self.put(&image, &[]).await;
        // What was pushed a moment ago holds what comes now.
        let found = self.own().await.resolve(&image.digest().clone().into()).await;
        assert!(found.is_ok(), "{found:?}");
        let root = match self.random.below(9) {
            0..=2 => index(&[&image]),
            3 => listing(&layers),
            4 => bundle(&[&layers[..], &[image.descriptor().clone()]].concat()),
            _ => image,
        };
        self.put(&root, &[slot_tag(slot)]).await;
        if !self.has_tag(root.digest()) {
            // What was left of its referrers is held from now on.
            let found = self.referrers(root.digest()).await;
            self.signatures.insert(root.digest().clone(), found);
        }
        self.tagged[slot] = Some(root);
    }

    async fn sign(&mut self, slot: usize) {
        let Some(subject) = self.tagged[slot].clone() else { return };
        let config = blob(self.random.below(3));
        let config = self.push_blob(&config).await;
        let text = format!("signature {}", self.random.below(3));
        let signature = image(&config, &[], &text, Some(subject.descriptor()));
        self.put(&signature, &[]).await;
        let known = self.signatures.get_mut(subject.digest()).unwrap();
        known.insert(signature.digest().clone());
    }

    async fn remove_signature(&mut self, slot: usize) {
        let Some(subject) = &self.tagged[slot] else { return };
        let known = self.signatures.get_mut(subject.digest()).unwrap();
        if let Some(signature) = known.pop_first() {
            self.own().await.delete_manifest(&signature).await.unwrap();
        }
    }

    async fn delete_manifest(&mut self, slot: usize) {
        let Some(manifest) = self.tagged[slot].clone() else { return };
        // What an index lists is left to it.
        let lists = |root: &Manifest| root.references().any(|it| it.digest == manifest.digest());
        if self.tagged.iter().flatten().any(lists) {
            return;
        }
        self.own().await.delete_manifest(manifest.digest()).await.unwrap();
        for tagged in &mut self.tagged {
            tagged.take_if(|tagged| tagged.digest() == manifest.digest());
        }
    }

    async fn referrers(&mut self, subject: &Digest) -> BTreeSet<Digest> {
        let found = self.own().await.referrers(subject, None, None, 99).await.unwrap();
        found.page.items.into_iter().map(|referrer| referrer.digest).collect()
    }

    /// Everything that was acknowledged is there, whole, and nothing else.
    async fn look(&mut self) {
        let tags = self.own().await.tags(None, 9).await;
        let expected = (0..SLOTS).filter(|slot| self.tagged[*slot].is_some()).map(slot_tag);
        match tags {
            Ok(tags) => assert_eq!(tags.items, expected.collect::<Vec<_>>()),
            // It has nothing at all.
            Err(error) => {
                assert_eq!(error.code(), Some(&ErrorCode::NameUnknown), "{error:?}");
                assert_eq!(expected.count(), 0);
            }
        }
        for slot in 0..SLOTS {
            let own = self.own().await;
            let found = own.manifest(&slot_tag(slot).into()).await;
            let Some(expected) = &self.tagged[slot] else {
                assert_code(found, ErrorCode::ManifestUnknown);
                continue;
            };
            assert_eq!(found.unwrap().digest(), expected.digest());
            for image in images(&*own, expected).await {
                assert_whole(&*own, &image).await;
            }
            let root = expected.digest().clone();
            let signatures = self.referrers(&root).await;
            assert_eq!(Some(&signatures), self.signatures.get(&root), "referrers of {root}");
            for signature in signatures {
                assert_whole(&*own, &own.manifest(&signature.into()).await.unwrap()).await;
            }
        }
    }

    async fn play(mut self, rounds: Arc<AtomicU64>) {
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            if begun.elapsed() > LONGEST {
                break;
            }
            let time = self.world.time.stands.read().await;
            self.round().await;
            drop(time);
            self.look().await;
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What must hold for one manifest that can be read: all that it references can be read, now.
async fn assert_whole(store: &dyn Store, manifest: &Manifest) {
    for referenced in blobs_of(manifest) {
        let bytes = pull(store, &referenced.digest, ByteRange::All).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error:?}", manifest.digest()));
        assert_eq!(describe(&bytes).digest, referenced.digest);
    }
}

/// References of a manifest, but for manifests.
fn blobs_of(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let blobs = manifest.references().filter(|referenced| !referenced.is_manifest());
    blobs.filter_map(|referenced| referenced.descriptor)
}

/// A manifest, and the images that it lists.
async fn images(store: &dyn Store, root: &Manifest) -> Vec<Manifest> {
    let mut images = vec![root.clone()];
    let listed = root.references().filter(|referenced| referenced.is_manifest());
    for child in listed {
        images.push(store.manifest(&child.digest.clone().into()).await.unwrap());
    }
    images
}

/// All that tags hold in a repository.
async fn held(store: &dyn Store) -> BTreeMap<Digest, Manifest> {
    let mut held = BTreeMap::new();
    for tag in store.tags(None, 9).await.unwrap().items {
        let root = store.manifest(&tag.into()).await.unwrap();
        for image in images(store, &root).await {
            let referrers = store.referrers(image.digest(), None, None, 99).await.unwrap();
            for referrer in referrers.page.items {
                let signature = store.manifest(&referrer.digest.into()).await.unwrap();
                held.insert(signature.digest().clone(), signature);
            }
            held.insert(image.digest().clone(), image);
        }
    }
    held
}

/// Plays on an engine and others that have everything in common with it. Each request goes to any of them, each of them
/// collects, and one of them checks all the while. The seed is printed with a failure; `OCI_TEST_SEED` gives it again.
#[allow(clippy::print_stdout, reason = "the harness shows it with a failure")]
pub(crate) async fn play(engine: &TestEngine, others: &[DurableRegistry], time: &'static Time) {
    let seed = std::env::var("OCI_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("OCI_TEST_SEED={seed}");
    let engines = [std::slice::from_ref(&engine.registry), others].concat();
    let world = Arc::new(World { engines, time });
    let (done, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let collectors: Vec<_> = world
        .engines
        .iter()
        .map(|engine| {
            let (engine, done) = (engine.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut all = 0;
                while !done.load(Ordering::Relaxed) {
                    // Beside the pushes, and then hours pass between two of them.
                    let report = engine.collect(&CollectOptions::default(), |_| {}).await.unwrap();
                    all += report.links + report.manifests + report.objects;
                    let _nobody_pushes = time.stands.write().await;
                    time.pass(9 * 60 * 60);
                }
                all
            })
        })
        .collect();
    let actors: Vec<_> = REPOSITORIES
        .into_iter()
        .enumerate()
        .map(|(me, repository)| {
            let seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(me as u64);
            let world = Arc::clone(&world);
            let (tagged, signatures) = (Default::default(), BTreeMap::new());
            let actor = Actor { world, random: Random(seed | 1), repository, tagged, signatures };
            tokio::spawn(actor.play(Arc::clone(&rounds)))
        })
        .collect();
    let mut actors = Box::pin(futures_util::future::join_all(actors));
    let mut checks = 0;
    let actors = loop {
        tokio::select! {
            biased;
            actors = &mut actors => break actors,
            _ = engine.assert_sound() => checks += 1,
        }
    };
    actors.into_iter().for_each(|actor| actor.unwrap());
    done.store(true, Ordering::Relaxed);
    let mut collected = 0;
    for collector in collectors {
        collected += collector.await.unwrap();
    }
    println!("{} rounds, {checks} checks, {collected} collected", rounds.load(Ordering::Relaxed));
    assert!(collected > 0 && checks > 0);
    engine.assert_sound().await;

    // With nobody there, all goes that no tag holds, and nothing else.
    for engine in world.engines.iter().cycle().take(4) {
        time.pass(DAY);
        engine.collect(&CollectOptions::default(), |_| {}).await.unwrap();
    }
    let (mut manifests, mut blobs) = (0, HashSet::new());
    for repository in REPOSITORIES {
        let store = engine.repository(repository).await;
        for manifest in held(&*store).await.into_values() {
            assert_whole(&*store, &manifest).await;
            manifests += 1;
            blobs.extend(blobs_of(&manifest).map(|blob| blob.digest.clone()));
        }
    }
    let in_files = |n: &u64| n.is_multiple_of(3) && blobs.contains(&describe(&blob(*n)).digest);
    let in_files = (0..BLOBS).filter(in_files).count() as u64;
    let report = engine.assert_sound().await;
    let kept = (report.manifests, report.blobs, report.objects);
    assert_eq!(kept, (manifests, blobs.len() as u64, in_files));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_anything_that_they_may_count_on() {
    static TIME: Time = Time::new();
    let engine = TestEngine::with(options(|| TIME.now())).await;
    play(&engine, &[], &TIME).await;
}
