//! Lists by pages.

use bytes::Bytes;
use oci_ref::{Cursor, ErrorKind, Manifest, Page, Precondition, Registry, Source, Store};
use oci_spec_types::{Descriptor, ErrorCode};

use crate::support::*;

/// Asserts that pages of every size give the same entries, and that only the last has no next.
macro_rules! assert_pages {
    ($all:expr, |$after:ident, $limit:ident| $page:expr) => {{
        let all = $all;
        for $limit in [1, 2, 3, all.len().max(1), all.len() + 1, usize::MAX] {
            let mut found = Vec::new();
            let mut next: Option<Cursor> = None;
            loop {
                let $after = next.as_ref();
                let page: Page<_> = $page;
                assert!(page.items.len() <= $limit);
                found.extend(page.items);
                next = page.next;
                if next.is_none() {
                    break;
                }
                assert!(found.len() < all.len());
            }
            assert_eq!(found, all, "in pages of {}", $limit);
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_in_lexical_order() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    assert_pages!(Vec::<oci_spec_types::Tag>::new(), |after, limit| store
        .tags(after, limit)
        .await
        .unwrap());
    let mut tags: Vec<_> =
        ["v1", "V1", "_x", "v10", "v2", "0", "a.b", "a-b", "a_b"].map(tag).into();
    push_image(&*store, "x", &tags).await;
    tags.sort();
    assert_pages!(tags, |after, limit| store.tags(after, limit).await.unwrap());
    // A place between two names is as good.
    let page = store.tags(Some(&Cursor::After("v11".into())), 9).await.unwrap();
    assert_eq!(page, Page::last(vec![tag("v2")]));
    assert_eq!(store.tags(None, 0).await.unwrap().items, []);
    let foreign = Cursor::Opaque("x".into());
    assert_kind(store.tags(Some(&foreign), 9).await, ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_by_type() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let mut typed = config.clone();
    typed.media_type = "application/vnd.example+json".parse().unwrap();
    let subject = describe(b"a subject that is not here");
    let mut all: Vec<Descriptor> = Vec::new();
    for n in 0..7 {
        let config = if n % 2 == 0 { &config } else { &typed };
        let manifest = image(config, &[], &n.to_string(), Some(&subject));
        // Twice: it is still one.
        for _ in 0..2 {
            store.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
        }
        all.push(manifest.as_referrer().unwrap());
    }
    all.sort_by(|a, b| a.digest.cmp(&b.digest));
    let digest = &subject.digest;
    assert_pages!(all.clone(), |after, limit| {
        let referrers = store.referrers(digest, None, after, limit).await.unwrap();
        assert!(!referrers.filtered);
        referrers.page
    });
    let (wanted, other) = ("application/vnd.example+json", config.media_type.as_str());
    let of_types = async |types: &[&str], after: Option<&Cursor>, limit: usize| {
        store.referrers_of_types(digest, types, after, limit).await.unwrap()
    };
    assert_pages!(all.clone(), |after, limit| {
        let referrers = of_types(&["no/such", wanted, other], after, limit).await;
        assert!(referrers.filtered);
        referrers.page
    });
    assert_eq!(of_types(&["no/such", "x"], None, 1).await.page, Page::last(vec![]));
    assert!(!of_types(&["", wanted], None, 9).await.filtered, "it has no list of those without");
    all.retain(|referrer| referrer.artifact_type.as_deref() == Some(wanted));
    assert_eq!(all.len(), 3);
    assert_pages!(all.clone(), |after, limit| of_types(&["x", wanted], after, limit).await.page);
    assert_pages!(all, |after, limit| {
        let referrers = store.referrers(digest, Some(wanted), after, limit).await.unwrap();
        assert!(referrers.filtered);
        referrers.page
    });
    let none = store.referrers(&config.digest, None, None, 9).await.unwrap();
    assert_eq!(none.page, Page::last(vec![]));
}

/// Nothing that is kept has a NUL, but whoever asks may.
#[tokio::test(flavor = "multi_thread")]
async fn questions_with_a_nul() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    push(&*engine.repository("a").await, &noise(10, 1)).await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let subject = describe(b"subject");
    let referrer = image(&config, &[], "annotated \0", Some(&subject));
    store.put_manifest(&referrer, &["a", "ab", "b"].map(tag), &Precondition::None).await.unwrap();
    let after = |text: &str| Cursor::After(text.to_owned());

    let tags = store.tags(Some(&after("a\0z")), 9).await.unwrap();
    assert_eq!(tags, Page::last(["ab", "b"].map(tag).into()));
    let names = engine.registry.catalog(Some(&after("a\0")), 9).await.unwrap();
    assert_eq!(names, Page::last(vec![name("a/b")]));
    let listed = async |artifact_type: Option<&str>, position: Option<Cursor>| {
        let found = store.referrers(&subject.digest, artifact_type, position.as_ref(), 9).await;
        found.unwrap().page
    };
    let all = Page::last(vec![referrer.as_referrer().unwrap()]);
    assert_eq!(listed(None, None).await, all);
    assert_eq!(listed(None, Some(after("\0"))).await, all);
    let behind = format!("{}\0", referrer.digest());
    assert_eq!(listed(None, Some(after(&behind))).await, Page::last(vec![]));
    let kind = config.media_type.as_str();
    for unknown in ["\0", "a\0", &format!("{kind}\0"), &format!("\0{kind}")] {
        assert_eq!(listed(Some(unknown), None).await, Page::last(vec![]));
    }
    assert_eq!(listed(Some(kind), None).await, all);

    let mut typed = index(&[]).index().unwrap().clone();
    typed.artifact_type = Some("a\0".into());
    let typed = serde_json::to_vec(&typed).unwrap();
    let typed = Manifest::parse(typed.into(), None, None).unwrap();
    let refused = store.put_manifest(&typed, &[], &Precondition::None).await;
    assert_code(refused, ErrorCode::ManifestInvalid);
}

/// A page of referrers is bounded in bytes, too, since annotations can be long.
#[tokio::test(flavor = "multi_thread")]
async fn long_annotations_make_short_pages() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let subject = describe(b"subject");
    let mut all = Vec::new();
    for n in 0..4 {
        let manifest =
            image(&config, &[], &format!("{n}{}", "x".repeat(2_500_000)), Some(&subject));
        store.put_manifest(&manifest, &[], &Precondition::None).await.unwrap();
        all.push(manifest.digest().clone());
    }
    all.sort();
    let first = store.referrers(&subject.digest, None, None, 100).await.unwrap().page;
    assert_eq!(first.items.len(), 1);
    assert!(first.next.is_some());
    assert_pages!(all, |after, limit| {
        let page = store.referrers(&subject.digest, None, after, limit).await.unwrap().page;
        Page {
            items: page.items.into_iter().map(|referrer| referrer.digest).collect(),
            next: page.next,
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue() {
    let engine = TestEngine::new().await;
    assert_eq!(engine.registry.catalog(None, 9).await.unwrap(), Page::last(vec![]));
    let mut names: Vec<_> = ["b", "a/b", "a", "a-b", "a0"].map(name).into();
    for name in &names {
        push(&*engine.repository(name.as_str()).await, &noise(10, 1)).await;
    }
    names.sort();
    assert_pages!(names, |after, limit| engine.registry.catalog(after, limit).await.unwrap());
}

/// Pages of referrers are kept in memory, each for what exactly was asked, and never longer than they are true.
#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_and_go() {
    let engine = TestEngine::new().await;
    let store = engine.repository("a/b").await;
    let config = push(&*store, &Bytes::from_static(b"{}")).await;
    let subject = describe(b"subject");
    let count = async |artifact_type: Option<&str>| {
        let found = store.referrers(&subject.digest, artifact_type, None, 100).await.unwrap();
        found.page.items.len()
    };
    let mut pushed = Vec::new();
    for n in 0..3 {
        assert_eq!((count(None).await, count(None).await), (n, n));
        assert_eq!((count(Some("")).await, count(Some("None")).await), (0, 0));
        let referrer = image(&config, &[], &format!("{n}"), Some(&subject));
        store.put_manifest(&referrer, &[], &Precondition::None).await.unwrap();
        pushed.push(referrer);
    }
    for (n, referrer) in pushed.iter().enumerate() {
        assert_eq!(count(None).await, 3 - n);
        store.delete_manifest(referrer.digest()).await.unwrap();
    }
    assert_eq!(count(None).await, 0);
}
