//! How a copy flows: who waits for whom, what is tried again, what is mounted, and what an end before time leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use oci_ref::suite::content::{image, image_with, index, tag};
use oci_ref::{
    BlobRead, CopyEvent, CopyOptions, Memory, Mounted, Precondition, Store, Target, copy,
};
use oci_spec_types::{Algorithm, Digest, Name};
use tokio::sync::{Notify, Semaphore};

use crate::probe::Probe;
use crate::support::{files, new_layout};

/// A repository that holds one blob back, and says when it is asked for it.
struct Gated {
    probe: Arc<Probe>,
    asked: Arc<Notify>,
}

impl Gated {
    /// The gate opens once a manifest has been read, if one is named.
    fn new(held: &Digest, opened_by: Option<&Digest>) -> Self {
        let (asked, gate) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let (notified, opened, held) = (asked.clone(), gate.clone(), held.clone());
        let opened_by = opened_by.cloned();
        let probe = Probe {
            hears: Some(Box::new(move |manifest| {
                if opened_by.as_ref() == Some(manifest.digest()) {
                    opened.add_permits(1);
                }
            })),
            gives: Some(Box::new(move |digest, read| {
                let read = read?;
                if *digest != held {
                    return Ok(read);
                }
                notified.notify_one();
                // The first bytes come, the rest waits.
                let state = (read.body, Some(gate.clone()), false);
                let body = stream::unfold(state, |(mut body, mut gate, begun)| async move {
                    if let Some(gate) = gate.take_if(|_| begun) {
                        gate.acquire().await.unwrap().forget();
                    }
                    Some((body.next().await?, (body, gate, true)))
                });
                Ok(BlobRead { body: body.boxed(), ..read })
            })),
            ..Probe::default()
        };
        Self { probe: Arc::new(probe), asked }
    }
}

/// While a blob moves as slowly as it likes, manifests are read all the same, even where one blob moves at a time.
#[tokio::test(start_paused = true)]
async fn small_requests_do_not_wait_for_blobs() {
    let (one, two) = (image("one").unwrap(), image("two").unwrap());
    let held = &one.blobs.iter().max_by_key(|blob| blob.bytes.len()).unwrap().descriptor.digest;
    let from = Gated::new(held, Some(two.manifest.digest()));
    one.put(&from.probe.inner, &[]).await.unwrap();
    two.put(&from.probe.inner, &[]).await.unwrap();
    // What opens the gate lies so deep that the blob is asked for before it.
    let mut inner = two.manifest;
    for _ in 0..4 {
        inner = index([&inner]).unwrap();
        from.probe.inner.put_manifest(&inner, &[], &Precondition::None).await.unwrap();
    }
    let list = index([&one.manifest, &inner]).unwrap();
    from.probe.inner.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let target = Target::Digest(list.digest().clone());
    let options = CopyOptions { concurrency: 1, bytes_in_flight: 1, ..CopyOptions::default() };
    let copying = copy(from.probe.clone(), &target, Arc::new(Memory::new()), options);
    let copied = tokio::time::timeout(Duration::from_secs(3600), copying).await;
    assert_eq!(copied.expect("nothing waits for ever").unwrap().manifests, 7);
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_no_garbage_in_a_layout() {
    let packed = image("given up").unwrap();
    let held = &packed.blobs.iter().max_by_key(|blob| blob.bytes.len()).unwrap().descriptor.digest;
    let from = Gated::new(held, None);
    packed.put(&from.probe.inner, &[]).await.unwrap();
    let (_directory, layout) = new_layout().await;
    let layout = Arc::new(layout);
    let before = files(layout.path());
    let target = Target::Digest(packed.manifest.digest().clone());
    let copying = {
        let (from, layout) = (from.probe.clone(), layout.clone());
        let options =
            CopyOptions { concurrency: 1, tags: vec![tag("t")], ..CopyOptions::default() };
        tokio::spawn(async move { copy(from, &target, layout, options).await })
    };
    from.asked.notified().await;
    copying.abort();
    assert!(copying.await.unwrap_err().is_cancelled());
    // Its parts end when they are next looked at, and a file goes where files are dealt with.
    let gone = async {
        while files(layout.path()) != before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("what was begun is gone");
}

/// What a store does that may mount.
#[derive(Clone, Copy)]
enum Mounts {
    Done,
    Upload,
    No,
}

#[tokio::test]
async fn blobs_are_mounted_where_both_are_one_registry_and_told_when_tried_again() {
    let packed = image("mounted").unwrap();
    let blobs = packed.blobs.len() as u64;
    let name: Name = "source/repository".parse().unwrap();
    for (mounts, mount_from, mounted, retried) in [
        (Mounts::Done, Some(name.clone()), blobs, 0),
        (Mounts::Upload, Some(name.clone()), 0, 0),
        (Mounts::No, Some(name.clone()), 0, 2 * blobs),
        (Mounts::Done, None, 0, 2 * blobs),
    ] {
        let from = Arc::new(Memory::new());
        packed.put(&from, &[]).await.unwrap();
        let asked: Arc<Mutex<Vec<Option<Name>>>> = Arc::default();
        let inner = Memory::new();
        let (here, other, wanted) = (inner.clone(), from.clone(), asked.clone());
        let to = Arc::new(Probe {
            inner,
            stumbles: true,
            mounts: Some(Box::new(move |blob, from| {
                wanted.lock().unwrap().push(from);
                let (here, other) = (here.clone(), other.clone());
                let mounted = async move {
                    match mounts {
                        Mounts::Done => {
                            let content = oci_ref::SourceBlob::new(other, blob.digest.clone());
                            here.put_blob(&blob, &content).await?;
                            Ok(Mounted::Done)
                        }
                        Mounts::Upload => Ok(Mounted::Upload(here.stage(Algorithm::Sha256).await?)),
                        Mounts::No => Ok(Mounted::No),
                    }
                };
                mounted.boxed()
            })),
            ..Probe::default()
        });
        let counts = Arc::new(Mutex::new((0, 0)));
        let heard = counts.clone();
        let options = CopyOptions {
            mount_from: mount_from.clone(),
            progress: Some(Arc::new(move |event: &CopyEvent<'_>| match event {
                CopyEvent::Mounted(_) => heard.lock().unwrap().0 += 1,
                CopyEvent::Retried(_, offset) => {
                    assert!(*offset <= 1);
                    heard.lock().unwrap().1 += 1;
                }
                _ => {}
            })),
            ..CopyOptions::default()
        };
        let target = Target::Digest(packed.manifest.digest().clone());
        let copied = copy(from, &target, to.clone(), options).await.unwrap();
        assert_eq!((copied.mounted, copied.blobs), (mounted, blobs - mounted));
        assert_eq!(*counts.lock().unwrap(), (mounted, retried));
        let asked = asked.lock().unwrap().clone();
        assert_eq!(asked.len() as u64, if mount_from.is_some() { blobs } else { 0 });
        assert!(asked.iter().all(|from| *from == mount_from));
    }
}

/// A registry can list many images with large manifests: not all of them are held at a time.
#[tokio::test]
async fn few_large_manifests_are_held_at_a_time() {
    const SIZE: usize = 3 << 20;
    let images: Vec<_> = (0..16)
        .map(|number| {
            let note = move |manifest: &mut oci_spec_types::ImageManifest| {
                manifest.annotations.insert("note".into(), "x".repeat(SIZE));
            };
            image_with(&number.to_string(), note).unwrap()
        })
        .collect();
    let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (read, peak) = (held.clone(), most.clone());
    let hears = move |_: &oci_ref::Manifest| {
        peak.fetch_max(read.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    };
    let from = Arc::new(Probe { hears: Some(Box::new(hears)), ..Probe::default() });
    for image in &images {
        image.put(&from.inner, &[]).await.unwrap();
    }
    let list = index(images.iter().map(|image| &image.manifest)).unwrap();
    from.inner.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let written = held.clone();
    let options = CopyOptions {
        progress: Some(Arc::new(move |event: &CopyEvent<'_>| {
            if matches!(event, CopyEvent::Written(_)) {
                written.fetch_sub(1, Ordering::SeqCst);
            }
        })),
        ..CopyOptions::default()
    };
    let to = Arc::new(Memory::new());
    copy(from, &Target::Digest(list.digest().clone()), to, options).await.unwrap();
    assert_eq!(held.load(Ordering::SeqCst), 0);
    // Two of them fit in 8 MiB, and the index is held beside them.
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most}");
}
