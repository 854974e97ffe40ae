//! Layouts that several write to, and what writers leave behind.

use std::sync::Arc;

use bytes::Bytes;
use oci_ref::suite::content::{Piece, image, noise_blob, tag};
use oci_ref::{CopyOptions, Layout, LayoutOptions, Precondition, Source, Store, Target, copy};
use oci_spec_types::{Algorithm, Digest, MediaType, Tag};
use tempfile::TempDir;

use crate::support::{Graph, files, new_layout};

/// Locks belong to open files, so two handles exclude each other as two processes do.
#[test]
fn two_writers_lose_no_tags() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("layout");
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let layout = Layout::create(path).await.unwrap();
                    let packed = image(&format!("writer {writer}")).unwrap();
                    for n in 0..100 {
                        packed.put(&layout, &[tag(&format!("w{writer}-{n}"))]).await.unwrap();
                    }
                });
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let layout = Layout::open(&path).await.unwrap();
        let found = layout.tags(None, 1000).await.unwrap().items;
        let mut expected: Vec<Tag> = (0..2)
            .flat_map(|writer| (0..100).map(move |n| tag(&format!("w{writer}-{n}"))))
            .collect();
        expected.sort();
        assert_eq!(found, expected);
        for tag in found {
            layout.manifest(&tag.into()).await.unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_a_whole_index_all_the_time() {
    let (_directory, writer) = new_layout().await;
    let reader = Layout::open(writer.path()).await.unwrap();
    let packed = image("read while written").unwrap();
    packed.put(&writer, &[tag("first")]).await.unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..100 {
            packed.put(&writer, &[tag(&format!("t{n}"))]).await.unwrap();
        }
    });
    let mut seen = 1;
    while seen < 101 {
        let now = reader.tags(None, 1000).await.unwrap().items.len();
        assert!(now >= seen, "{now} tags after {seen}");
        seen = now;
        reader.manifest(&tag("first").into()).await.unwrap();
    }
    writing.await.unwrap();
}

// covers: C16
#[tokio::test]
async fn failed_writes_leave_no_files() {
    let (_directory, layout) = new_layout().await;
    let before = files(layout.path());
    let blob = noise_blob("never whole", 700_000);
    let wrong = Bytes::from(vec![0; 700_000]);
    layout.put_blob(&blob.descriptor, &wrong).await.unwrap_err();
    layout.put_blob(&blob.descriptor, &wrong.slice(1..)).await.unwrap_err();
    let longer = Bytes::from(vec![0; 700_001]);
    layout.put_blob(&blob.descriptor, &longer).await.unwrap_err();
    assert_eq!(files(layout.path()), before);

    for end in ["drop", "cancel", "commit"] {
        let mut staged = layout.stage(Algorithm::Sha256).await.unwrap();
        staged.append(blob.bytes.clone()).await.unwrap();
        assert_eq!(files(layout.path()).len(), before.len() + 1, "one temporary file");
        match end {
            "cancel" => staged.cancel().await.unwrap(),
            "commit" => assert!(staged.commit(&Digest::sha256(b"")).await.is_err()),
            _ => drop(staged),
        }
        assert_eq!(files(layout.path()), before, "after {end}");
    }

    let packed = image("without blobs").unwrap();
    layout.put_manifest(&packed.manifest, &[tag("t")], &Precondition::None).await.unwrap_err();
    layout.put_manifest(&packed.manifest, &[tag("t")], &Precondition::Exists).await.unwrap_err();
    assert_eq!(files(layout.path()), before);
}

#[tokio::test]
async fn files_of_other_writers_are_left_alone() {
    let (_directory, layout) = new_layout().await;
    let other = Layout::open(layout.path()).await.unwrap();
    let blob = noise_blob("slow", 600_000);
    let mut slow = other.stage(Algorithm::Sha256).await.unwrap();
    slow.append(blob.bytes.slice(..300_000)).await.unwrap();
    let foreign = layout.path().join("blobs").join("somebody-elses.tmp");
    std::fs::write(&foreign, "half").unwrap();

    let packed = image("fast").unwrap();
    packed.put(&layout, &[tag("fast")]).await.unwrap();
    layout.delete_manifest(packed.manifest.digest()).await.unwrap();
    layout.delete_blob(&packed.blobs[0].descriptor.digest).await.unwrap();

    slow.append(blob.bytes.slice(300_000..)).await.unwrap();
    slow.commit(&blob.descriptor.digest).await.unwrap();
    assert_eq!(other.blob_size(&blob.descriptor.digest).await.unwrap(), Some(600_000));
    assert!(foreign.exists());
}

// covers: M7
#[tokio::test]
async fn a_ref_is_copied_into_a_layout_with_equal_blobs_once() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    let (_directory, layout) = new_layout().await;
    let target = Target::Digest(graph.root.digest().clone());
    copy(memory, &target, Arc::new(layout.clone()), CopyOptions::default()).await.unwrap();

    let blobs =
        graph.images.iter().flat_map(|packed| &packed.blobs).map(|blob| &blob.descriptor.digest);
    let manifests = graph.manifests().into_iter().map(|manifest| manifest.digest());
    let mut expected: Vec<String> =
        blobs.chain(manifests).map(|digest| format!("blobs/sha256/{}", digest.encoded())).collect();
    expected.extend(["index.json".into(), "oci-layout".into()]);
    expected.sort();
    expected.dedup();
    assert_eq!(files(layout.path()), expected);

    // An untagged root stays listed, what it lists is not.
    let entries = layout.entries().await.unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(
        (entries[0].descriptor.digest.clone(), &entries[0].name),
        (graph.root.digest().clone(), &None)
    );
}

// covers: C13
#[tokio::test]
async fn shared_blobs_are_shared_and_never_removed() {
    let directory = TempDir::new().unwrap();
    let options = LayoutOptions {
        shared_blobs: Some(directory.path().join("shared")),
        ..LayoutOptions::default()
    };
    let open = |name: &str| Layout::create_with(directory.path().join(name), options.clone());
    let (one, two) = (open("one").await.unwrap(), open("two").await.unwrap());
    let packed = image("shared").unwrap();
    packed.put(&one, &[tag("t")]).await.unwrap();
    // The blobs are there for the other layout, but the manifest is not in it.
    assert!(two.blob_size(&packed.blobs[0].descriptor.digest).await.unwrap().is_some());
    let by_digest = Target::Digest(packed.manifest.digest().clone());
    assert!(two.manifest(&by_digest).await.unwrap_err().is_not_found());
    two.put_manifest(&packed.manifest, &[tag("t")], &Precondition::None).await.unwrap();
    assert_eq!(files(one.path()), ["index.json", "oci-layout"]);

    one.delete_manifest(packed.manifest.digest()).await.unwrap();
    assert!(one.manifest(&by_digest).await.unwrap_err().is_not_found());
    assert!(
        one.delete_blob(&packed.blobs[0].descriptor.digest).await.unwrap_err().is_unsupported()
    );
    two.manifest(&by_digest).await.unwrap();
    assert_eq!(files(&directory.path().join("shared")).len(), 3);
}

#[cfg(unix)]
#[tokio::test]
async fn files_have_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, layout) = new_layout().await;
    Piece::new(MediaType::OCTET_STREAM, "x").put(&layout).await.unwrap();
    let usual = directory.path().join("usual");
    std::fs::write(&usual, "").unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    for name in files(layout.path()) {
        assert_eq!(mode(&layout.path().join(&name)), mode(&usual), "{name}");
    }
}
