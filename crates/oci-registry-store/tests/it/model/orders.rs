//! Every order of the transactions of the pairs in which somebody could lose something.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use oci_ref::{Manifest, Mounted, Precondition, Source, Store};
use oci_registry_store::{CollectOptions, EngineOptions};
use oci_spec_types::{Descriptor, Tag};

use super::{assert_whole, images};
use crate::support::*;

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

/// An index that lists the layer itself.
fn put_cache<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    let cache = listing(std::slice::from_ref(&scene.layer));
    Box::pin(async move { put(scene, &cache, &[tag("new")]).await })
}

/// A manifest of an unknown type that describes the layer.
fn put_unknown<'a>(scene: &'a Scene<'_>) -> BoxFuture<'a, ()> {
    let unknown = bundle(std::slice::from_ref(&scene.layer));
    Box::pin(async move { put(scene, &unknown, &[tag("new")]).await })
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
    let pushes: [[Step; 2]; 7] = [
        [ask_or_push, put_tagged],
        [push_again, put_tagged],
        [mount_or_push, put_tagged],
        [ask_for_image, put_index],
        [ask_or_push, put_cache],
        [mount_or_push, put_cache],
        [ask_or_push, put_unknown],
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
    assert_eq!(tried, 7 * 2 * (3 + 6 + 10 + 15));
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
