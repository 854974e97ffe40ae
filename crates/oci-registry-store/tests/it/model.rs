//! Pushes, mounts, deletions, tags, look-ups and collections at once, against what a client may count on; and every order of
//! the transactions of the pairs in which somebody could lose something.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use oci_ref::{ByteRange, Manifest, Mounted, Precondition, Source, Store};
use oci_registry_store::{CollectOptions, EngineOptions};
use oci_spec_types::{Descriptor, ErrorCode, Tag};
use tokio::sync::RwLock;

use crate::support::*;

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

/// Content that all actors share, so that they get into each other's way. A third of it lies in files.
fn blob(n: u64) -> Bytes {
    noise(if n.is_multiple_of(3) { 40_000 } else { 100 }, 1000 + n)
}

const BLOBS: u64 = 12;
const REPOSITORIES: [&str; 3] = ["x", "y", "z"];

async fn open(engine: &TestEngine, repository: &str) -> Arc<dyn Store> {
    engine.repository(repository).await
}

/// What must hold for one manifest that can be read: all that it references can be read, now.
async fn assert_whole(store: &dyn Store, manifest: &Manifest) {
    for referenced in manifest.blobs() {
        let bytes = pull(store, &referenced.digest, ByteRange::All).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{}: {error:?}", manifest.digest()));
        assert_eq!(describe(&bytes).digest, referenced.digest);
    }
}

/// A manifest, and the images that it lists.
async fn images(store: &dyn Store, root: &Manifest) -> Vec<Manifest> {
    let mut images = vec![root.clone()];
    for child in root.manifests() {
        images.push(store.manifest(&child.digest.clone().into()).await.unwrap());
    }
    images
}

/// One actor: in its own repository, whose tags nobody else moves, so that it knows what must be there. Its blobs and
/// manifests are those of all others.
async fn act(engine: Arc<TestEngine>, time: Arc<RwLock<()>>, me: usize, seed: u64, rounds: u64) {
    let mut random = Random(seed | 1);
    let own = open(&engine, REPOSITORIES[me]).await;
    let mut tagged: Vec<Option<Manifest>> = vec![None; 3];
    for round in 0..rounds {
        let slot = random.below(3) as usize;
        // A push takes less than the grace.
        let time_stands = time.read().await;
        let name_of: Tag = tag(&format!("t{slot}"));
        match random.below(10) {
            // Push an image, as a client does: what is there is not sent again, what another has is mounted.
            0..=5 => {
                let mut layers = Vec::new();
                for _ in 0..1 + random.below(3) {
                    let bytes = blob(random.below(BLOBS));
                    let layer = describe(&bytes);
                    let here = own.blob_size(&layer.digest).await.unwrap().is_some();
                    let from = REPOSITORIES[random.below(3) as usize];
                    let mounted = here
                        || (random.below(2) == 0
                            && matches!(
                                own.mount(&layer, Some(&name(from))).await.unwrap(),
                                Mounted::Done
                            ));
                    if !mounted {
                        push(&*own, &bytes).await;
                    }
                    layers.push(layer);
                }
                let text = format!("{}", random.below(4));
                let pushed = image(&layers[0], &layers[1..], &text, None);
                own.put_manifest(&pushed, &[], &Precondition::None).await.unwrap();
                // What was pushed a moment ago holds what comes now.
                let found = own.resolve(&pushed.digest().clone().into()).await;
                assert!(found.is_ok(), "round {round}: {found:?}");
                let pushed = if random.below(3) == 0 { index(&[&pushed]) } else { pushed };
                own.put_manifest(&pushed, &[name_of], &Precondition::None).await.unwrap();
                tagged[slot] = Some(pushed);
            }
            6 => {
                let deleted = own.delete_tag(&name_of).await;
                assert_eq!(deleted.is_ok(), tagged[slot].take().is_some(), "{deleted:?}");
            }
            7 => {
                // What an index lists is left to it.
                let listed = |manifest: &Manifest| {
                    let mut lists = tagged.iter().flatten().flat_map(|tagged| tagged.manifests());
                    lists.any(|child| child.digest == *manifest.digest())
                };
                if let Some(manifest) = tagged[slot].clone().filter(|manifest| !listed(manifest)) {
                    own.delete_manifest(manifest.digest()).await.unwrap();
                    for tagged in &mut tagged {
                        tagged.take_if(|tagged| tagged.digest() == manifest.digest());
                    }
                }
            }
            8 => {
                // Refused, gone or done: never a loss, which the look at the end would see.
                let digest = describe(&blob(random.below(BLOBS))).digest;
                match own.delete_blob(&digest).await {
                    Ok(()) => {}
                    Err(error) => assert!(
                        matches!(error.code(), Some(ErrorCode::Denied | ErrorCode::BlobUnknown)),
                        "{error:?}"
                    ),
                }
            }
            _ => {
                let other = open(&engine, REPOSITORIES[random.below(3) as usize]).await;
                let _ =
                    other.blob_size(&describe(&blob(random.below(BLOBS))).digest).await.unwrap();
            }
        }
        drop(time_stands);
        for (slot, expected) in tagged.iter().enumerate() {
            let found = own.manifest(&tag(&format!("t{slot}")).into()).await;
            match expected {
                None => assert_code(found, ErrorCode::ManifestUnknown),
                Some(expected) => {
                    assert_eq!(found.unwrap().digest(), expected.digest(), "round {round}");
                    for image in images(&*own, expected).await {
                        assert_whole(&*own, &image).await;
                    }
                }
            }
        }
    }
}

/// Time for the test, which stands still while anybody pushes.
static NOW: AtomicI64 = AtomicI64::new(1_700_000_000);

fn now() -> i64 {
    NOW.load(Ordering::SeqCst)
}

/// The seed is printed with a failure; `OCI_TEST_SEED` gives it again.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_anything_that_they_may_count_on() {
    let seed = std::env::var("OCI_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("OCI_TEST_SEED={seed}");
    let mut options = EngineOptions::default();
    options.sync = false;
    options.untagged = Some(Duration::ZERO);
    options.clock = now;
    let engine = Arc::new(TestEngine::with(options).await);
    let (done, time) = (Arc::new(AtomicBool::new(false)), Arc::new(RwLock::new(())));
    let collector = tokio::spawn({
        let (engine, done, time) = (Arc::clone(&engine), Arc::clone(&done), Arc::clone(&time));
        async move {
            let mut all = 0;
            while !done.load(Ordering::Relaxed) {
                // Beside the pushes, and then hours pass between two of them.
                let report = engine.collect().await;
                all += report.links + report.manifests + report.objects;
                let _nobody_pushes = time.write().await;
                NOW.fetch_add(9 * 60 * 60, Ordering::SeqCst);
            }
            all
        }
    });
    let actors = (0..REPOSITORIES.len()).map(|me| {
        let seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(me as u64);
        tokio::spawn(act(Arc::clone(&engine), Arc::clone(&time), me, seed, 150))
    });
    for actor in actors.collect::<Vec<_>>() {
        actor.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let collected = collector.await.unwrap();
    println!("{collected} collected");
    assert!(collected > 0);
    engine.assert_sound().await;

    // With nobody there, all goes that no tag holds, and nothing else.
    for _ in 0..4 {
        NOW.fetch_add(DAY, Ordering::SeqCst);
        engine.collect().await;
    }
    let mut kept = HashSet::new();
    for repository in REPOSITORIES {
        let store = open(&engine, repository).await;
        for tag in store.tags(None, 9).await.unwrap().items {
            let root = store.manifest(&tag.into()).await.unwrap();
            for image in images(&*store, &root).await {
                assert_whole(&*store, &image).await;
                kept.extend(image.blobs().map(|blob| blob.digest.clone()));
            }
        }
    }
    let report = engine.assert_sound().await;
    assert_eq!(report.blobs, kept.len() as u64);
    let in_files = (0..BLOBS).filter(|n| n % 3 == 0 && kept.contains(&describe(&blob(*n)).digest));
    assert_eq!(report.objects, in_files.count() as u64);
}

/// One side of a pair: what it does, one transaction after the other.
type Step = for<'a> fn(&'a Scene<'_>) -> BoxFuture<'a, ()>;

/// Time for these.
static SCENES: AtomicI64 = AtomicI64::new(1_700_000_000);

/// A registry in which everything is old garbage, unless something old holds it.
struct Scene<'a> {
    engine: &'a TestEngine,
    /// Tells it apart from others.
    number: u64,
    store: Arc<dyn Store>,
    layer: Descriptor,
    image: Manifest,
    /// Has the tag `old`, and holds what is pushed.
    old: Option<Manifest>,
}

fn collect<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        let mut options = CollectOptions::default();
        options.untagged_older_than = Some(Duration::from_secs(DAY as u64));
        scene.engine.registry.collect(&options, |_| {}).await.unwrap();
    })
}

/// Asks for the layer, and pushes it if it is not there.
fn ask_or_push<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        if scene.store.blob_size(&scene.layer.digest).await.unwrap().is_none() {
            push(&*scene.store, &noise(40_000, scene.number)).await;
        }
    })
}

fn push_again<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        push(&*scene.store, &noise(40_000, scene.number)).await;
    })
}

fn mount_or_push<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        let mounted = scene
            .store
            .mount(&scene.layer, Some(&name(&format!("other{}", scene.number))))
            .await
            .unwrap();
        if !matches!(mounted, Mounted::Done) {
            push(&*scene.store, &noise(40_000, scene.number)).await;
        }
    })
}

async fn put(scene: &Scene<'_>, manifest: &Manifest, tags: &[Tag]) {
    scene.store.put_manifest(manifest, tags, &Precondition::None).await.unwrap();
}

fn put_tagged<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async { put(scene, &scene.image, &[tag("new")]).await })
}

/// Asks for the image, and pushes it if it is not there.
fn ask_for_image<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        let target = scene.image.digest().clone().into();
        if scene.store.resolve(&target).await.is_err() {
            push_again(scene).await;
            put(scene, &scene.image, &[]).await;
        }
    })
}

fn put_index<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async { put(scene, &index(&[&scene.image]), &[tag("new")]).await })
}

fn delete_old<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        if let Some(old) = &scene.old {
            scene.store.delete_manifest(old.digest()).await.unwrap();
        }
    })
}

fn untag_old<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    Box::pin(async {
        if scene.old.is_some() {
            scene.store.delete_tag(&tag("old")).await.unwrap();
        }
    })
}

/// Every order in which the steps of two sides can follow each other.
fn orders(one: usize, two: usize) -> Vec<Vec<bool>> {
    if one == 0 || two == 0 {
        return vec![[vec![true; one], vec![false; two]].concat()];
    }
    let begin = |first: bool, rest: Vec<Vec<bool>>| {
        rest.into_iter().map(move |rest| [vec![first], rest].concat())
    };
    begin(true, orders(one - 1, two)).chain(begin(false, orders(one, two - 1))).collect()
}

/// A step is one transaction, or one for reading and one for writing; those are apart in the steps of the other side.
#[tokio::test(flavor = "multi_thread")]
async fn in_every_order_a_push_succeeds_and_is_whole() {
    let pushes: [[Step; 2]; 4] = [
        [ask_or_push, put_tagged],
        [push_again, put_tagged],
        [mount_or_push, put_tagged],
        [ask_for_image, put_index],
    ];
    let beside: [Vec<Step>; 4] = [
        vec![collect],
        vec![delete_old, collect],
        vec![collect, delete_old, collect],
        vec![untag_old, collect, delete_old, collect],
    ];
    let mut options = EngineOptions::default();
    options.sync = false;
    options.longest_read = Duration::ZERO;
    options.clock = || SCENES.load(Ordering::SeqCst);
    let engine = TestEngine::with(options).await;
    let mut tried = 0;
    for (n, push) in pushes.iter().enumerate() {
        for beside in &beside {
            for order in orders(push.len(), beside.len()) {
                for held in [false, true] {
                    play(&engine, tried, [&push[..], &beside[..]], &order, held, n == 3).await;
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 4 * 2 * (3 + 6 + 10 + 15));
    engine.assert_sound().await;
}

async fn play(
    engine: &TestEngine,
    number: u64,
    [push_steps, beside]: [&[Step]; 2],
    order: &[bool],
    held: bool,
    of_index: bool,
) {
    let store = engine.repository(&format!("r{number}")).await;
    let other = engine.repository(&format!("other{number}")).await;
    let bytes = noise(40_000, number);
    let layer = push(&*store, &bytes).await;
    push(&*other, &bytes).await;
    let image = image(&layer, &[], "pushed", None);
    if of_index {
        store.put_manifest(&image, &[], &Precondition::None).await.unwrap();
    }
    let old = held.then(|| match of_index {
        true => index_about(&[&image], Some(&image)),
        false => crate::support::image(&layer, &[], "old", None),
    });
    if let Some(old) = &old {
        store.put_manifest(old, &[tag("old")], &Precondition::None).await.unwrap();
    }
    SCENES.fetch_add(2 * DAY, Ordering::SeqCst);
    let scene = Scene { engine, number, store, layer, image, old };
    let (mut push_steps, mut beside) = (push_steps.iter(), beside.iter());
    for first in order {
        let step = if *first { push_steps.next() } else { beside.next() };
        step.unwrap()(&scene).await;
    }
    let found = scene.store.manifest(&tag("new").into()).await.unwrap();
    for image in images(&*scene.store, &found).await {
        assert_whole(&*scene.store, &image).await;
    }
}
