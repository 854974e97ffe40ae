//! Detached signatures where they are read from several stores, or cannot be read.

use std::fs;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_ref::suite::content::noise;
use oci_ref::{
    Compression, Copier, CopyEvent, CopyOptions, Directory, DockerArchiveWriter, Fanout,
    ImageBuilder, LayerContent, Layout, Memory, OciArchiveWriter, OnCopyEvent, Source, Store,
    Target, copy,
};

use crate::probe::{Probe, filled, run};

async fn signed_directory(
    parent: &tempfile::TempDir,
    name: &str,
) -> (Arc<Directory>, Target, Vec<Bytes>) {
    let directory = Arc::new(Directory::create(parent.path().join(name)).await.unwrap());
    let layer = LayerContent::tar(noise("signed", 3000), Compression::None).unwrap();
    let builder = ImageBuilder::for_platform(&"linux/amd64".parse().unwrap());
    let manifest = builder.layer(layer).build().unwrap().write(&*directory, &[]).await.unwrap();
    let signatures = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    directory.put_signatures(manifest.digest(), &signatures).await.unwrap();
    (directory, Target::Digest(manifest.digest().clone()), signatures)
}

/// Signatures come back from several stores, also where one of them has lost some.
// covers: C11
#[tokio::test]
async fn several_stores_at_once_keep_signatures_and_give_them_back() {
    let parent = tempfile::TempDir::new().unwrap();
    let (from, target, signatures) = signed_directory(&parent, "from").await;
    let digest = target.digest().unwrap().clone();
    let create = |name: &str| Directory::create(parent.path().join(name));
    let one = Arc::new(create("one").await.unwrap());
    let two = Arc::new(create("two").await.unwrap());
    let both = Arc::new(Fanout::new(one.clone(), vec![two.clone()]));
    assert!(both.capabilities().signatures && both.may_have_signatures());
    copy(from, &target, both.clone(), CopyOptions::default()).await.unwrap();
    for store in [&*one as &dyn Source, &*two, &*both] {
        assert_eq!(store.signatures(&digest).await.unwrap(), signatures);
    }
    fs::remove_file(one.path().join("signature-2")).unwrap();
    assert_eq!(both.signatures(&digest).await.unwrap(), signatures);
    // On to somewhere else nothing is lost, and what cannot keep them says so.
    let three = Arc::new(create("three").await.unwrap());
    copy(both.clone(), &target, three.clone(), CopyOptions::default()).await.unwrap();
    assert_eq!(three.signatures(&digest).await.unwrap(), signatures);
    let error = copy(both, &target, Arc::new(Probe::default()), CopyOptions::default()).await;
    assert!(error.unwrap_err().chain().contains("cannot keep the 2 signatures"));
}

/// One of several that cannot keep signatures is one too many.
// covers: C11
#[tokio::test]
async fn several_stores_of_which_one_keeps_no_signatures_refuse_them_before_anything_is_copied() {
    let parent = tempfile::TempDir::new().unwrap();
    let (from, target, _) = signed_directory(&parent, "from").await;
    let keeps = Arc::new(Directory::create(parent.path().join("keeps")).await.unwrap());
    let not = Arc::new(Probe::default());
    let both = Arc::new(Fanout::new(keeps.clone(), vec![not.clone()]));
    let error = copy(from.clone(), &target, both.clone(), CopyOptions::default()).await;
    assert!(error.unwrap_err().is_unsupported());
    assert!(not.inner.is_empty() && keeps.root().await.unwrap_err().is_not_found());
    let options = CopyOptions { drop_signatures: true, ..CopyOptions::default() };
    copy(from, &target, both.clone(), options).await.unwrap();
    assert_eq!(both.signatures(target.digest().unwrap()).await.unwrap(), Vec::<Bytes>::new());
}

/// Every store that cannot keep signatures refuses them before it is written to, and takes the rest
/// without them.
// covers: C11
#[tokio::test]
async fn no_store_loses_signatures_without_a_word() {
    let parent = tempfile::TempDir::new().unwrap();
    let (from, target, signatures) = signed_directory(&parent, "from").await;
    let at = |name: &str| parent.path().join(name);
    let oci = OciArchiveWriter::create(at("oci.tar")).await.unwrap();
    let docker = DockerArchiveWriter::create(at("docker.tar"), Default::default()).await.unwrap();
    let stores: [(&str, Arc<dyn Store>); 4] = [
        ("memory", Arc::new(Memory::new())),
        ("layout", Arc::new(Layout::create(at("layout")).await.unwrap())),
        ("oci-archive", Arc::new(oci)),
        ("docker-archive", Arc::new(docker)),
    ];
    for (name, to) in stores {
        assert!(!to.capabilities().signatures, "{name}");
        let refused = copy(from.clone(), &target, to.clone(), CopyOptions::default()).await;
        let text = refused.unwrap_err().chain();
        let expected = format!("cannot keep the 2 signatures of {}", target.digest().unwrap());
        assert!(text.contains(&expected), "{name}: {text}");
        assert!(to.manifest(&target).await.unwrap_err().is_not_found(), "{name}");
        let manifest = from.manifest(&target).await.unwrap();
        for blob in manifest.blobs() {
            assert_eq!(to.blob_size(&blob.digest).await.unwrap(), None, "{name}");
        }
        let digest = target.digest().unwrap();
        let error = to.put_signatures(digest, &signatures).await.unwrap_err();
        assert!(error.is_unsupported(), "{name}");
        let options = CopyOptions { drop_signatures: true, ..CopyOptions::default() };
        copy(from.clone(), &target, to.clone(), options).await.unwrap();
        assert_eq!(to.manifest(&target).await.unwrap(), manifest, "{name}");
    }
}

/// Signatures that lie where the source cannot read them are told of, once, and before anything is
/// copied.
// containers/image lookaside storage; X-Registry-Supports-Signatures
// covers: C11
#[tokio::test]
async fn signatures_elsewhere_are_told_of() {
    let (mut from, sample) = filled().await;
    Arc::get_mut(&mut from).unwrap().elsewhere = Some("https://sigs.example".into());
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let listen = || -> Option<OnCopyEvent> {
        let told = told.clone();
        Some(Arc::new(move |event: &CopyEvent<'_>| match event {
            CopyEvent::SignaturesElsewhere(place) => told.lock().unwrap().push((*place).into()),
            CopyEvent::Begun(_) | CopyEvent::Written(_) => {
                assert!(told.lock().unwrap().len() < 2);
            }
            _ => {}
        }))
    };
    let options = CopyOptions { progress: listen(), ..CopyOptions::default() };
    let to = Arc::new(Probe::default());
    run(&from, &sample.index, &to, options.clone()).await.unwrap();
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), ["https://sigs.example"]);
    let copier = Copier::new(from.clone(), Arc::new(Probe::default()), options.clone());
    for what in [&sample.image, &sample.docker] {
        copier.copy(&Target::Digest(what.digest.clone()), &[]).await.unwrap();
    }
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()), ["https://sigs.example"]);
    let options = CopyOptions { drop_signatures: true, ..options };
    run(&from, &sample.index, &Arc::new(Probe::default()), options).await.unwrap();
    assert!(told.lock().unwrap().is_empty());
    let both = Fanout::new(Arc::new(Probe::default()), vec![from]);
    assert_eq!(both.signatures_elsewhere().as_deref(), Some("https://sigs.example"));
}
