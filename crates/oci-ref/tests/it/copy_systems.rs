//! Destinations that take images for certain operating systems only.

use std::sync::Arc;

use oci_ref::suite::content::image;
use oci_ref::{
    ArtifactBuilder, CopyOptions, Fanout, ImageBuilder, LARGE_DOCUMENT, List, Manifest, Memory,
    Precondition, Select, Store,
};
use oci_spec_types::{Descriptor, MediaType};

use crate::copy_admission::refuses;
use crate::probe::{Probe, has, platform, run};

/// A destination that takes images for these systems.
fn asking(systems: &[&str]) -> Arc<Probe> {
    let systems = Some(systems.iter().map(|&os| os.to_owned()).collect());
    Arc::new(Probe { inner: Memory::sparse(), systems, ..Probe::default() })
}

async fn put_image(to: &Probe, text: &str) -> Descriptor {
    let built = ImageBuilder::for_platform(&platform(text)).build().unwrap();
    let entry = built.index_entry();
    built.write(&to.inner, &[]).await.unwrap();
    entry
}

async fn put_list(to: &Probe, entries: &[&Descriptor]) -> Manifest {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for entry in entries {
        list.add((*entry).clone());
    }
    let list = list.to_manifest().unwrap();
    to.inner.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    list
}

// covers: C18
#[tokio::test]
async fn an_image_for_another_system_is_refused_before_anything_is_copied() {
    let from = Arc::new(Probe::default());
    let linux = put_image(&from, "linux/amd64").await;
    let windows = put_image(&from, "windows/amd64").await;
    let to = asking(&["linux"]);
    let error = run(&from, &windows, &to, CopyOptions::default()).await.unwrap_err();
    assert!(error.is_unsupported(), "{error:?}");
    let text = error.to_string();
    for part in [windows.digest.as_str(), "\"windows\"", "for linux"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(to.inner.is_empty());
    let dry = CopyOptions { dry_run: true, ..CopyOptions::default() };
    run(&from, &windows, &to, dry).await.unwrap_err();
    run(&from, &linux, &to, CopyOptions::default()).await.unwrap();
    // Several may do, however they are written; where none is asked for, all do.
    let both = asking(&["Linux", "windows"]);
    run(&from, &windows, &both, CopyOptions::default()).await.unwrap();
    let any = Arc::new(Probe::default());
    run(&from, &windows, &any, CopyOptions::default()).await.unwrap();
}

// covers: C18
#[tokio::test]
async fn every_image_that_is_copied_of_a_list_is_looked_at() {
    let from = Arc::new(Probe::default());
    let linux = put_image(&from, "linux/arm64").await;
    let windows = put_image(&from, "windows/amd64").await;
    // What the list says of an image does not count.
    let lied_about = Descriptor { platform: linux.platform.clone(), ..windows.clone() };
    let inner = put_list(&from, &[&lied_about]).await;
    let outer = put_list(&from, &[&linux, inner.descriptor()]).await;
    let to = asking(&["linux"]);
    let error = run(&from, outer.descriptor(), &to, CopyOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains(windows.digest.as_str()), "{error}");
    assert!(to.inner.is_empty());

    // Only what is copied is looked at.
    let choices = [
        Select::Instances(vec![linux.digest.clone()]),
        Select::Platforms(vec![platform("linux/arm64")]),
        Select::Image(platform("linux/arm64")),
    ];
    for select in choices {
        let to = asking(&["linux"]);
        let options = CopyOptions { select, ..CopyOptions::default() };
        run(&from, outer.descriptor(), &to, options).await.unwrap();
        assert!(has(&to, &linux.digest).await && !has(&to, &windows.digest).await);
    }
}

// covers: C18
#[tokio::test]
async fn every_image_of_a_large_list_is_looked_at() {
    let from = Arc::new(Probe::default());
    let mut images = Vec::new();
    for number in 0..500 {
        let packed = image(&number.to_string()).unwrap();
        packed.put(&from.inner, &[]).await.unwrap();
        images.push(packed.manifest.descriptor().clone());
    }
    let windows = put_image(&from, "windows/amd64").await;
    let linux: Vec<_> = images.iter().collect();
    let inner = put_list(&from, &linux).await;
    assert!(inner.bytes().len() > LARGE_DOCUMENT);
    for position in [0, 250, 500] {
        let mut all = vec![inner.descriptor()];
        all.extend(&linux);
        all.insert(position, &windows);
        let list = put_list(&from, &all).await;
        let to = asking(&["linux"]);
        let error = run(&from, list.descriptor(), &to, CopyOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(windows.digest.as_str()), "{error}");
        assert!(to.inner.is_empty());
    }
    // What is nested too deep is not looked at again and again.
    let outer = put_list(&from, &[inner.descriptor()]).await;
    let options = CopyOptions { max_depth: 1, ..CopyOptions::default() };
    let error = run(&from, outer.descriptor(), &asking(&["linux"]), options).await.unwrap_err();
    assert!(error.chain().contains("through more than 1 manifests"), "{}", error.chain());
    let to = asking(&["linux"]);
    let copied = run(&from, inner.descriptor(), &to, CopyOptions::default()).await.unwrap();
    assert_eq!(copied.manifests, 501);
}

// covers: C18
#[tokio::test]
async fn what_is_not_run_is_for_every_system() {
    let from = Arc::new(Probe::default());
    let linux = put_image(&from, "linux/amd64").await;
    let attestation = put_image(&from, "unknown/unknown").await;
    let artifact = ArtifactBuilder::new(MediaType::from_static("application/vnd.example.notes"))
        .write(&from.inner, &[])
        .await
        .unwrap();
    let list = put_list(&from, &[&linux, &attestation, artifact.descriptor()]).await;
    let to = asking(&["linux"]);
    run(&from, list.descriptor(), &to, CopyOptions::default()).await.unwrap();
    assert!(has(&to, &attestation.digest).await && has(&to, artifact.digest()).await);
}

// covers: C18
#[tokio::test]
async fn a_refused_manifest_is_not_read_for_its_system() {
    let from = Arc::new(Probe::default());
    let windows = put_image(&from, "windows/amd64").await;
    let list = put_list(&from, &[&windows]).await;
    let refused = windows.digest.clone();
    let options = CopyOptions { admission: Some(refuses(&refused)), ..CopyOptions::default() };
    let error = run(&from, list.descriptor(), &asking(&["linux"]), options).await.unwrap_err();
    assert!(error.is_denied(), "{}", error.chain());
    assert_eq!(from.opened.load(std::sync::atomic::Ordering::SeqCst), 0);
}

// covers: C18
#[test]
fn several_destinations_ask_for_what_all_of_them_take() {
    let systems = |stores: Vec<Arc<Probe>>| {
        let mut stores = stores.into_iter().map(|store| store as Arc<dyn Store>);
        let first = stores.next().unwrap();
        Fanout::new(first, stores.collect()).capabilities().operating_systems
    };
    let any = || Arc::new(Probe::default());
    assert_eq!(systems(vec![any(), any()]), None);
    assert_eq!(systems(vec![any(), asking(&["linux"])]), Some(vec!["linux".to_owned()]));
    assert_eq!(systems(vec![asking(&["linux"]), asking(&["windows"])]), Some(Vec::new()));
}
