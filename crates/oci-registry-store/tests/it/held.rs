//! What is known to be held need not be looked up again, until it is not held any more.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{Precondition, Store};
use oci_registry_store::EngineOptions;
use oci_spec_types::Digest;

use crate::support::*;

const HOUR: i64 = 60 * 60;

static NOW: AtomicI64 = AtomicI64::new(1_000_000);

/// Something whose existence is asked for, and how it loses what holds it.
struct Case {
    name: &'static str,
    asked: Asked,
    release: Release,
}

enum Asked {
    Blob(Digest),
    Manifest(Digest),
}

enum Release {
    Nothing,
    DeleteTag(&'static str),
    Delete(Digest),
    MoveTag(&'static str, oci_ref::Manifest),
}

async fn is_there(store: &dyn Store, asked: &Asked) -> bool {
    match asked {
        Asked::Blob(blob) => store.blob_size(blob).await.unwrap().is_some(),
        Asked::Manifest(manifest) => match store.resolve(&manifest.clone().into()).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => panic!("{error:?}"),
        },
    }
}

async fn cases(store: &dyn Store) -> Vec<Case> {
    let manifest_of = |manifest: &oci_ref::Manifest| Asked::Manifest(manifest.digest().clone());
    let config = push(store, &Bytes::from_static(b"{}")).await;
    let layer = push(store, &noise(1000, 1)).await;
    let of_layer = image(&config, std::slice::from_ref(&layer), "of layer", None);
    store.put_manifest(&of_layer, &[tag("layer")], &Precondition::None).await.unwrap();
    let tagged = push_image(store, "tagged", &[tag("tagged")]).await;
    let moved = push_image(store, "moved", &[tag("moved")]).await;
    let other = image(&config, &[], "other", None);
    let child = push_image(store, "child", &[]).await;
    let parent = index(&[&child]);
    store.put_manifest(&parent, &[tag("parent")], &Precondition::None).await.unwrap();
    let case = |name, asked, release| Case { name, asked, release };
    let loose = push(store, &noise(1000, 2)).await;
    let untagged = push_image(store, "untagged", &[]).await;
    vec![
        case("a blob that nothing references", Asked::Blob(loose.digest), Release::Nothing),
        case(
            "a layer whose image is deleted",
            Asked::Blob(layer.digest),
            Release::Delete(of_layer.digest().clone()),
        ),
        case("an untagged manifest", manifest_of(&untagged), Release::Nothing),
        case("a manifest whose tag is deleted", manifest_of(&tagged), Release::DeleteTag("tagged")),
        case(
            "a manifest whose tag is moved",
            manifest_of(&moved),
            Release::MoveTag("moved", other),
        ),
        case(
            "a manifest whose index is deleted",
            manifest_of(&child),
            Release::Delete(parent.digest().clone()),
        ),
    ]
}

/// Asks every few hours: what is asked for stays, and what nobody asks for goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_and_again_is_renewed_in_time() {
    let mut options = EngineOptions::default();
    options.grace = Duration::from_secs(24 * HOUR as u64);
    options.untagged = Some(options.grace);
    options.clock = || NOW.load(Ordering::SeqCst);
    let engine = TestEngine::with(options).await;
    let (asked, forgotten) = (engine.repository("asked").await, engine.repository("other").await);
    let (cases, others) = (cases(&*asked).await, cases(&*forgotten).await);
    for (store, cases) in [(&asked, &cases), (&forgotten, &others)] {
        for case in cases {
            // From now on it is known to be held.
            assert!(is_there(&**store, &case.asked).await, "{}", case.name);
            assert!(is_there(&**store, &case.asked).await, "{}", case.name);
            match &case.release {
                Release::Nothing => {}
                Release::DeleteTag(name) => store.delete_tag(&tag(name)).await.unwrap(),
                Release::Delete(holder) => store.delete_manifest(holder).await.unwrap(),
                Release::MoveTag(name, to) => {
                    store.put_manifest(to, &[tag(name)], &Precondition::None).await.unwrap();
                }
            }
        }
    }
    for _ in 0..12 {
        NOW.fetch_add(5 * HOUR, Ordering::SeqCst);
        for case in &cases {
            assert!(is_there(&*asked, &case.asked).await, "{}", case.name);
        }
        engine.collect().await;
    }
    for case in &others {
        assert!(!is_there(&*forgotten, &case.asked).await, "{} that nobody asked for", case.name);
    }
}
