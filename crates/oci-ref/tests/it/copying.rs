//! `copy`: order, once each, faults at every call.

use std::collections::HashSet;
use std::sync::Arc;

use oci_ref::suite::content::{image, image_with, index, noise_blob, tag};
use oci_ref::{
    CopyOptions, ErrorKind, Manifest, Memory, Precondition, Source, Store, Target, copy,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, MediaType};

use crate::support::{Faults, Graph, When, new_layout};

fn by_digest(manifest: &Manifest) -> Target {
    Target::Digest(manifest.digest().clone())
}

fn latest() -> CopyOptions {
    CopyOptions { tags: vec![tag("latest")], ..CopyOptions::default() }
}

#[tokio::test]
async fn children_first_each_digest_once_tags_last() {
    let graph = Graph::new();
    let from = graph.stored(&[]).await;
    for concurrency in [1, 8] {
        let faults = Faults::none();
        let (source, to) = (faults.wrap(from.clone()), faults.wrap(Arc::new(Memory::new())));
        let options = CopyOptions { concurrency, ..latest() };
        let copied = copy(source, &by_digest(&graph.root), to, options).await.unwrap();
        let blobs: HashSet<&Digest> = graph
            .images
            .iter()
            .flat_map(|packed| &packed.blobs)
            .map(|blob| &blob.descriptor.digest)
            .collect();
        assert_eq!((copied.manifests, copied.blobs, copied.skipped), (5, blobs.len() as u64, 0));

        let log = faults.log();
        let put = |digest: &Digest| {
            let is_put =
                |call: &&String| call.starts_with("put_") && call.contains(digest.as_str());
            let puts: Vec<_> = log.iter().filter(is_put).collect();
            assert_eq!(puts.len(), 1, "{digest} is written once");
            log.iter().position(|call| call == puts[0]).unwrap()
        };
        for manifest in graph.manifests() {
            for part in manifest.blobs().chain(manifest.manifests()) {
                assert!(put(&part.digest) < put(manifest.digest()), "{} comes first", part.digest);
            }
            let reads =
                log.iter().filter(|call| **call == format!("manifest {}", manifest.digest()));
            assert_eq!(reads.count(), 1, "{} is read once", manifest.digest());
        }
        let last = format!("put_manifest {} latest", graph.root.digest());
        assert_eq!(log.last(), Some(&last));
        let tagged =
            log.iter().filter(|call| call.starts_with("put_manifest") && call.ends_with(" latest"));
        assert_eq!(tagged.count(), 1, "the tag is set once");
    }
}

/// No manifest is at the destination without what it references, and no tag without its manifest.
async fn nothing_dangles(graph: &Graph, to: &Memory) {
    for manifest in graph.manifests() {
        if to.resolve(&by_digest(manifest)).await.is_err() {
            continue;
        }
        for blob in manifest.blobs() {
            let size = to.blob_size(&blob.digest).await.unwrap();
            assert_eq!(size, Some(blob.size), "blob {} of {}", blob.digest, manifest.digest());
        }
        for child in manifest.manifests() {
            let child = Target::Digest(child.digest.clone());
            assert!(to.resolve(&child).await.is_ok(), "{child} of {}", manifest.digest());
        }
    }
    if let Ok(found) = to.resolve(&tag("latest").into()).await {
        assert_eq!(found.digest, *graph.root.digest());
    }
}

async fn is_complete(graph: &Graph, to: &Memory) {
    nothing_dangles(graph, to).await;
    for manifest in graph.manifests() {
        let found = to.manifest(&by_digest(manifest)).await.unwrap();
        assert_eq!(found.bytes(), manifest.bytes());
    }
    let tagged = to.resolve(&tag("latest").into()).await.unwrap();
    assert_eq!(tagged.digest, *graph.root.digest());
}

/// Every call fails once, in a run of its own: nothing dangles then, and the same copy run again completes.
#[tokio::test]
async fn a_fault_at_any_call_leaves_nothing_dangling() {
    let graph = Graph::new();
    let from = graph.stored(&[]).await;
    for (concurrency, when) in
        [(1, When::Before), (1, When::After), (4, When::Before), (4, When::After)]
    {
        let mut failures = 0;
        for n in 0.. {
            let to = Arc::new(Memory::new());
            let faults = Faults::at(Some((n, when)));
            let options = CopyOptions { concurrency, ..latest() };
            let (source, watched) = (faults.wrap(from.clone()), faults.wrap(to.clone()));
            let copied = copy(source, &by_digest(&graph.root), watched, options.clone()).await;
            if faults.log().len() <= n {
                copied.unwrap();
                is_complete(&graph, &to).await;
                break;
            }
            nothing_dangles(&graph, &to).await;
            match copied {
                // Nothing comes after the end of a body, or after not having found something.
                Ok(_) => {
                    let call = &faults.log()[n];
                    assert!(call.starts_with("body ") || call.starts_with("resolve "), "{call}");
                    assert_eq!(when, When::After, "{call}");
                    is_complete(&graph, &to).await;
                }
                Err(error) => {
                    failures += 1;
                    assert!(
                        error.chain().contains("injected fault"),
                        "call {n} {when:?}: {}",
                        error.chain()
                    );
                }
            }
            copy(from.clone(), &by_digest(&graph.root), to.clone(), options).await.unwrap();
            is_complete(&graph, &to).await;
        }
        assert!(failures > 20, "only {failures} calls could fail");
    }
}

#[tokio::test]
async fn what_is_there_is_skipped_but_never_inferred() {
    let graph = Graph::new();
    let from = graph.stored(&[]).await;
    // The root is there, but a blob deep within is not.
    let to = Arc::new(Memory::unchecked());
    let lost = &graph.images[2].blobs[1];
    for blob in graph.images.iter().flat_map(|image| &image.blobs) {
        if blob.descriptor.digest != lost.descriptor.digest {
            blob.put(&*to).await.unwrap();
        }
    }
    for manifest in graph.manifests() {
        to.put_manifest(manifest, &[], &Precondition::None).await.unwrap();
    }
    let copied = copy(from.clone(), &by_digest(&graph.root), to.clone(), latest()).await.unwrap();
    // The tag is new, so the root is written for it.
    assert_eq!((copied.blobs, copied.bytes, copied.manifests), (1, lost.descriptor.size, 1));
    is_complete(&graph, &to).await;
    let again = copy(from, &by_digest(&graph.root), to, latest()).await.unwrap();
    assert_eq!((again.blobs, again.bytes, again.manifests), (0, 0, 0));
    assert_eq!(again.skipped, copied.skipped + 2);
}

#[tokio::test]
async fn conditions_reach_the_destination() {
    let graph = Graph::new();
    let from = graph.stored(&[]).await;
    let to = graph.stored(&[tag("latest")]).await;
    let options = CopyOptions { when: Precondition::Absent, ..latest() };
    let error = copy(from, &by_digest(&graph.root), to, options).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PreconditionFailed);
}

// covers: C16
#[tokio::test]
async fn wrong_content_of_the_source_is_refused() {
    let from = Arc::new(Memory::unchecked());
    let packed = image("lies").unwrap();
    packed.put(&from, &[]).await.unwrap();
    let layer = packed.blobs[1].descriptor.clone();
    for (size, code) in [(999, ErrorCode::SizeInvalid), (1001, ErrorCode::SizeInvalid)] {
        let lying = image_with("lies", |manifest| manifest.layers[0].size = size).unwrap();
        from.put_manifest(&lying.manifest, &[], &Precondition::None).await.unwrap();
        let (_directory, layout) = new_layout().await;
        let to = Arc::new(layout);
        let error = copy(from.clone(), &by_digest(&lying.manifest), to.clone(), latest())
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&code), "{}", error.chain());
        assert!(error.chain().contains(layer.digest.as_str()), "{}", error.chain());
        assert_eq!(to.blob_size(&layer.digest).await.unwrap(), None);
        assert_eq!(to.entries().await.unwrap(), []);
    }
}

#[tokio::test]
async fn layers_that_lie_elsewhere_are_passed_over() {
    let from = Arc::new(Memory::new());
    let elsewhere = Descriptor {
        media_type: MediaType::OCI_LAYER_NONDISTRIBUTABLE_GZIP,
        urls: vec!["https://layers.example/base".into()],
        ..noise_blob("elsewhere", 10).descriptor
    };
    let packed = image_with("windows", |manifest| manifest.layers.push(elsewhere)).unwrap();
    packed.put(&from, &[]).await.unwrap();
    let copied =
        copy(from, &by_digest(&packed.manifest), Arc::new(Memory::new()), latest()).await.unwrap();
    assert_eq!((copied.blobs, copied.manifests, copied.skipped), (2, 1, 1));
}

#[tokio::test]
async fn nesting_is_bounded() {
    let from = Arc::new(Memory::new());
    let packed = image("deep").unwrap();
    packed.put(&from, &[]).await.unwrap();
    let mut top = packed.manifest;
    for _ in 0..3 {
        top = index([&top]).unwrap();
        from.put_manifest(&top, &[], &Precondition::None).await.unwrap();
    }
    for max_depth in 0..5 {
        let options = CopyOptions { max_depth, ..latest() };
        let copied = copy(from.clone(), &by_digest(&top), Arc::new(Memory::new()), options).await;
        match copied {
            Ok(copied) => assert_eq!((copied.manifests, max_depth >= 3), (4, true)),
            Err(error) => {
                assert!(max_depth < 3);
                assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: max_depth as u64 });
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_target_is_named() {
    let from = Arc::new(Memory::new());
    let error =
        copy(from, &tag("unknown").into(), Arc::new(Memory::new()), latest()).await.unwrap_err();
    assert!(error.is_not_found());
    assert!(error.chain().contains("tag unknown"), "{}", error.chain());
}
