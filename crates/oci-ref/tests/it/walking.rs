//! `walk_refs`: order, paths, once each, bounds.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use oci_ref::suite::content::{image, index, seal};
use oci_ref::{
    Error, ErrorKind, Found, Manifest, Memory, Precondition, Ref, RefPath, Result, Source, Store,
    Target, Visit, WalkOptions, visit_refs, walk_refs,
};
use oci_spec_types::{Descriptor, Digest, ImageIndex, MediaType};

use crate::support::{Faults, Graph};

async fn root(source: Arc<dyn Source>, manifest: &Manifest) -> Ref {
    Ref::read(source, &Target::Digest(manifest.digest().clone())).await.unwrap()
}

async fn walk(root: Ref, options: WalkOptions) -> Result<Vec<Visit>> {
    walk_refs(root, options).try_collect().await
}

fn places(visits: &[Visit]) -> Vec<(String, &Digest)> {
    visits.iter().map(|visit| (visit.path.to_string(), &visit.descriptor.digest)).collect()
}

// covers: M4
#[tokio::test]
async fn children_come_before_their_parents_each_digest_once() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    let [a, b, c] = [0, 1, 2].map(|n| graph.images[n].manifest.digest());
    for ahead in [1, 2, 8] {
        let faults = Faults::none();
        let source = faults.wrap(memory.clone());
        let options = WalkOptions { ahead, ..WalkOptions::default() };
        let visits = walk(root(source, &graph.root).await, options).await.unwrap();
        let expected = [
            ("manifests/0".to_owned(), a),
            ("manifests/1/manifests/0".to_owned(), c),
            ("manifests/1".to_owned(), graph.inner.digest()),
            ("manifests/2".to_owned(), b),
            (String::new(), graph.root.digest()),
        ];
        assert_eq!(places(&visits), expected, "{ahead} ahead");
        for (call, count) in faults.counts() {
            assert_eq!(count, 1, "{call}, {ahead} ahead");
        }
        for visit in &visits {
            let Found::Ref(found) = &visit.found else { panic!("{visit:?}") };
            assert_eq!(found.digest(), &visit.descriptor.digest);
        }
        assert_eq!(visits[1].path.positions(), [1, 0]);
        assert_eq!(visits[4].path, RefPath::default());
    }
}

/// What an index lists may be listed again deeper within an entry before it: then it is visited there, before its
/// other parent, although it may have been fetched for its later place.
// covers: M4
#[tokio::test]
async fn a_later_sibling_that_is_also_a_nephew_is_visited_as_that() {
    let memory = Arc::new(Memory::new());
    let leaf = image("leaf").unwrap();
    leaf.put(&memory, &[]).await.unwrap();
    let inner = index([&leaf.manifest]).unwrap();
    let middle = index([&inner]).unwrap();
    let outer = index([&middle, &leaf.manifest, &inner]).unwrap();
    for list in [&inner, &middle, &outer] {
        memory.put_manifest(list, &[], &Precondition::None).await.unwrap();
    }
    for ahead in [1, 8] {
        let faults = Faults::none();
        let source = faults.wrap(memory.clone());
        let options = WalkOptions { ahead, ..WalkOptions::default() };
        let visits = walk(root(source, &outer).await, options).await.unwrap();
        let expected = [
            ("manifests/0/manifests/0/manifests/0".to_owned(), leaf.manifest.digest()),
            ("manifests/0/manifests/0".to_owned(), inner.digest()),
            ("manifests/0".to_owned(), middle.digest()),
            (String::new(), outer.digest()),
        ];
        assert_eq!(places(&visits), expected, "{ahead} ahead");
        for (call, count) in faults.counts() {
            assert_eq!(count, 1, "{call}, {ahead} ahead");
        }
    }
}

// covers: M4
#[tokio::test]
async fn a_visitor_sees_the_same_and_may_end_it() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    let visits =
        walk(root(memory.clone(), &graph.root).await, WalkOptions::default()).await.unwrap();
    let mut seen = Vec::new();
    let from = root(memory.clone(), &graph.root).await;
    let all = visit_refs(from, WalkOptions::default(), |visit| {
        seen.push(visit);
        Ok(())
    });
    all.await.unwrap();
    assert_eq!(places(&seen), places(&visits));

    let mut count = 0;
    let from = root(memory, &graph.root).await;
    let two = visit_refs(from, WalkOptions::default(), |_| {
        count += 1;
        if count < 2 { Ok(()) } else { Err(Error::new(ErrorKind::Invalid, "enough")) }
    });
    assert_eq!(two.await.unwrap_err().to_string(), "enough");
    assert_eq!(count, 2);
}

#[tokio::test]
async fn an_image_alone_is_one_visit() {
    let memory = Arc::new(Memory::new());
    let packed = image("alone").unwrap();
    packed.put(&memory, &[]).await.unwrap();
    let options = WalkOptions { max_depth: 0, max_manifests: 1, ..WalkOptions::default() };
    let visits = walk(root(memory, &packed.manifest).await, options).await.unwrap();
    assert_eq!(places(&visits), [(String::new(), packed.manifest.digest())]);
}

#[tokio::test]
async fn depth_is_bounded() {
    let memory = Arc::new(Memory::new());
    let packed = image("deep").unwrap();
    packed.put(&memory, &[]).await.unwrap();
    let mut top = packed.manifest;
    for _ in 0..4 {
        top = index([&top]).unwrap();
        memory.put_manifest(&top, &[], &Precondition::None).await.unwrap();
    }
    for max_depth in 0..6 {
        let options = WalkOptions { max_depth, ..WalkOptions::default() };
        let walked = walk(root(memory.clone(), &top).await, options).await;
        if max_depth >= 4 {
            assert_eq!(walked.unwrap().len(), 5);
            continue;
        }
        let error = walked.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: max_depth as u64 });
        let path = vec!["manifests/0"; max_depth + 1].join("/");
        assert!(error.to_string().contains(&path), "{error}");
    }
}

#[tokio::test]
async fn indexes_within_each_other_are_bounded_by_bytes() {
    let memory = Arc::new(Memory::new());
    let mut nested = Vec::new();
    let mut entries = Vec::new();
    for _ in 0..4 {
        let index = ImageIndex::new(std::mem::take(&mut entries));
        let bytes = serde_json::to_vec(&index).unwrap();
        let manifest = Manifest::parse(bytes.into(), None, None).unwrap();
        memory.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
        entries.push(manifest.descriptor().clone());
        nested.push(manifest);
    }
    let sizes = |count: usize| -> u64 {
        nested.iter().rev().take(count).map(|it| it.bytes().len() as u64).sum()
    };
    for fit in 1..=4 {
        let options = WalkOptions { max_nested_bytes: sizes(fit), ..WalkOptions::default() };
        let walked = root(memory.clone(), &nested[3]).await;
        let visits: Vec<_> = walk_refs(walked, options).collect().await;
        if fit == 4 {
            assert_eq!(visits.into_iter().filter(Result::is_ok).count(), 4);
            continue;
        }
        let error = visits.last().unwrap().as_ref().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: sizes(fit) });
        let path = vec!["manifests/0"; fit].join("/");
        assert!(error.to_string().contains(&path), "{error}");
    }
}

#[tokio::test]
async fn the_number_of_manifests_is_bounded() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    for max_manifests in 1..7 {
        let options = WalkOptions { max_manifests, ..WalkOptions::default() };
        let visits: Vec<_> =
            walk_refs(root(memory.clone(), &graph.root).await, options).collect().await;
        if max_manifests >= 5 {
            assert_eq!(visits.len(), 5);
            assert!(visits.iter().all(Result::is_ok));
            continue;
        }
        let error = visits.last().unwrap().as_ref().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: max_manifests as u64 });
        assert!(visits.len() <= max_manifests, "the walk ends with its error");
    }
}

// covers: M4
#[tokio::test]
async fn missing_manifests_fail_or_are_reported() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    let missing = graph.images[2].manifest.digest();
    memory.delete_manifest(missing).await.unwrap();
    let error =
        walk(root(memory.clone(), &graph.root).await, WalkOptions::default()).await.unwrap_err();
    assert!(error.is_not_found());
    let text = error.chain();
    assert!(text.contains("manifests/1/manifests/0") && text.contains(missing.as_str()), "{text}");

    let options = WalkOptions { sparse: true, ..WalkOptions::default() };
    let visits = walk(root(memory, &graph.root).await, options).await.unwrap();
    assert_eq!(visits.len(), 5);
    for visit in &visits {
        assert_eq!(
            matches!(visit.found, Found::Missing),
            visit.descriptor.digest == *missing,
            "{visit:?}"
        );
    }
}

#[tokio::test]
async fn other_errors_end_a_sparse_walk_too() {
    let memory = Arc::new(Memory::unchecked());
    let packed = image("lied about").unwrap();
    packed.put(&memory, &[]).await.unwrap();
    let cases = [
        ("size", Descriptor { size: 7, ..packed.manifest.descriptor().clone() }),
        (
            "type",
            Descriptor {
                media_type: MediaType::OCI_IMAGE_INDEX,
                ..packed.manifest.descriptor().clone()
            },
        ),
    ];
    for (what, descriptor) in cases {
        let list = seal(serde_json::to_vec(&ImageIndex::new(vec![descriptor]))).unwrap();
        memory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
        let options = WalkOptions { sparse: true, ..WalkOptions::default() };
        let error = walk(root(memory.clone(), &list).await, options).await.unwrap_err();
        assert!(!error.is_not_found(), "{what}: {error:?}");
        assert!(error.chain().contains("manifests/0"), "{what}: {}", error.chain());
    }
}

#[tokio::test]
async fn unknown_types_are_handed_over_as_they_are() {
    let memory = Arc::new(Memory::new());
    let media_type = MediaType::from_static("application/vnd.example.thing+json");
    let thing = Manifest::parse(r#"{"thing":true}"#.into(), Some(&media_type), None).unwrap();
    memory.put_manifest(&thing, &[], &Precondition::None).await.unwrap();
    let list = index([&thing]).unwrap();
    memory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let visits = walk(root(memory, &list).await, WalkOptions::default()).await.unwrap();
    assert_eq!(visits.len(), 2);
    let Found::Other(found) = &visits[0].found else { panic!("{:?}", visits[0]) };
    assert_eq!((found.bytes(), found.media_type()), (thing.bytes(), &media_type));
}

/// Ten thousand entries walk in linear time and with a bounded number of fetches ahead.
#[tokio::test]
async fn wide_indexes_are_walked() {
    let memory = Arc::new(Memory::sparse());
    let entry = |n: u32| Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, &n.to_le_bytes());
    let wide =
        seal(serde_json::to_vec(&ImageIndex::new((0..10_000).map(entry).collect()))).unwrap();
    memory.put_manifest(&wide, &[], &Precondition::None).await.unwrap();
    let options = WalkOptions { sparse: true, ..WalkOptions::default() };
    let visits = walk(root(memory, &wide).await, options).await.unwrap();
    assert_eq!(visits.len(), 10_001);
    assert_eq!(visits[9_999].path.to_string(), "manifests/9999");
}

// covers: M4
#[tokio::test]
async fn parents_come_first_where_that_is_asked_for() {
    let graph = Graph::new();
    let memory = graph.stored(&[]).await;
    let options = |parents_first| WalkOptions { parents_first, ..WalkOptions::default() };
    let mut after = walk(root(memory.clone(), &graph.root).await, options(false)).await.unwrap();
    let before = walk(root(memory, &graph.root).await, options(true)).await.unwrap();
    after.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(places(&before), places(&after));
    assert_eq!(before[0].path, RefPath::default());
}

/// However many are fetched ahead, they are not so many that they take much memory.
#[tokio::test]
async fn what_is_fetched_ahead_is_bounded_in_bytes() {
    let memory = Arc::new(Memory::new());
    let images = ["a", "b", "c", "d", "e", "f"].map(|seed| image(seed).unwrap());
    for image in &images {
        image.put(&memory, &[]).await.unwrap();
    }
    let list = index(images.iter().map(|image| &image.manifest)).unwrap();
    memory.put_manifest(&list, &[], &Precondition::None).await.unwrap();
    let size = images[0].manifest.descriptor().size;
    for (bytes, ahead) in [(0, 1), (2 * size, 2), (u64::MAX, 6)] {
        let faults = Faults::none();
        let source = faults.wrap(memory.clone());
        let options = WalkOptions { ahead_bytes: bytes, ..WalkOptions::default() };
        let root = root(source, &list).await;
        let read = faults.log().len();
        let mut visits = std::pin::pin!(walk_refs(root, options));
        visits.try_next().await.unwrap().unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(faults.log().len() - read, ahead, "up to {bytes} bytes");
    }
}
