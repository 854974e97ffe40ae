//! The list is changed when a manifest with a subject comes or goes.

use oci_ref::{ErrorKind, Manifest, Store};
use oci_registry_client::{ReferrersChange, ReferrersStep};
use oci_spec_types::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::old::{Old, Versions, push};
use super::{artifact, entries, failure, subject, tag, written_by_others};
use crate::server::builder;

// covers: O17, O18
#[tokio::test]
async fn pushes_are_listed_in_the_index() {
    let old = Old::default();
    let server = old.serve().await;
    for number in 1..=3 {
        push(&server, builder(), &[artifact("x", number)]).await.pop().unwrap().unwrap();
    }
    assert_eq!(old.listed(), entries(&[("x", 1), ("x", 2), ("x", 3)]));
    assert_eq!(old.indexes(), 1, "old ones are deleted");
    let conditions = old.0.lock().unwrap().conditions.clone();
    assert_eq!(conditions[0], "*");
    assert!(conditions[1].starts_with("\"sha256:"));

    // No change, no write.
    push(&server, builder(), &[artifact("x", 2)]).await.pop().unwrap().unwrap();
    assert_eq!(old.0.lock().unwrap().index_writes, 3);
    // The manifest goes first, then the index.
    let first_put = server.lines().into_iter().find(|line| line.starts_with("PUT")).unwrap();
    assert!(first_put.contains(artifact("x", 1).digest().as_str()));

    push(&server, builder().keep_old_referrers_index(true), &[artifact("x", 4)])
        .await
        .pop()
        .unwrap()
        .unwrap();
    assert_eq!(old.indexes(), 2);
}

// covers: O17
#[tokio::test]
async fn concurrent_pushes_lose_nothing_and_share_writes() {
    let old = Old::default();
    let server = old.serve().await;
    let artifacts: Vec<_> = (0..20).map(|number| artifact("x", number)).collect();
    for pushed in push(&server, builder(), &artifacts).await {
        pushed.unwrap();
    }
    assert_eq!(old.listed().len(), 20);
    assert!(old.0.lock().unwrap().index_writes < 20);
}

// covers: O17, O24
#[tokio::test]
async fn changes_by_others_are_respected() {
    let old = Old::default();
    old.0.lock().unwrap().interferes = 3;
    let server = old.serve().await;
    push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
    assert_eq!(old.listed().len(), 1);

    old.0.lock().unwrap().interferes = u32::MAX;
    let error = push(&server, builder(), &[artifact("x", 2)]).await.pop().unwrap().unwrap_err();
    assert_eq!(*error.kind(), oci_ref::ErrorKind::Unlisted);
    assert!(error.to_string().contains("is not listed as a referrer of"), "{error}");
    assert!(error.to_string().contains(subject().digest.as_str()), "{error}");
    let failure = failure(&error);
    assert_eq!((failure.change, failure.step), (ReferrersChange::Add, ReferrersStep::Write));
    assert_eq!(
        (&failure.subject, &failure.referrer),
        (&subject().digest, artifact("x", 2).digest())
    );
    assert!(old.has(&failure.referrer), "it is stored");
}

// covers: O17
#[tokio::test]
async fn what_others_write_over_it_is_written_again() {
    for versions in [Versions::None, Versions::Opaque] {
        let old = Old::default();
        old.0.lock().unwrap().versions = versions;
        old.0.lock().unwrap().others = vec![written_by_others(&[("y", 7)])];
        let server = old.serve().await;
        push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
        assert_eq!(old.listed(), entries(&[("y", 7), ("x", 1)]));

        let all = (0..100).map(|number| written_by_others(&[("y", number)]));
        old.0.lock().unwrap().others = all.collect();
        let error = push(&server, builder(), &[artifact("x", 2)]).await.pop().unwrap().unwrap_err();
        assert!(error.to_string().contains("is not listed as a referrer of"), "{error}");
    }
}

// covers: O17
#[tokio::test]
async fn the_condition_is_what_the_registry_calls_its_version() {
    for versions in [Versions::Digest, Versions::Opaque, Versions::Weak, Versions::None] {
        let old = Old::default();
        old.0.lock().unwrap().versions = versions;
        let server = old.serve().await;
        let mut expected = vec!["*".to_owned()];
        for number in 1..=3 {
            push(&server, builder(), &[artifact("x", number)]).await.pop().unwrap().unwrap();
            let now = old.0.lock().unwrap().tags[&tag()].clone();
            let strong = versions.of(&now).filter(|version| !version.starts_with("W/"));
            expected.push(strong.unwrap_or_default());
        }
        assert_eq!(old.listed().len(), 3);
        assert_eq!(old.0.lock().unwrap().conditions, expected[..3]);
    }
}

// covers: O17, O18
#[tokio::test]
async fn every_kind_of_manifest_that_may_have_a_subject_is_listed() {
    let mut index = ImageIndex::new(Vec::new());
    index.artifact_type = Some("an index".into());
    index.subject = Some(subject());
    let mut image =
        ImageManifest::new(Descriptor::of(MediaType::from_static("a/config"), b"{}"), Vec::new());
    image.subject = Some(subject());
    let other = serde_json::json!({
        "mediaType": MediaType::OCI_ARTIFACT_MANIFEST, "artifactType": "an artifact", "blobs": [],
        "subject": subject(), "annotations": {"a": "b"},
    });
    let documents = [
        serde_json::to_vec(&index).unwrap(),
        serde_json::to_vec(&image).unwrap(),
        other.to_string().into_bytes(),
    ];
    let old = Old::default();
    let server = old.serve().await;
    for (document, kind) in documents.into_iter().zip(["an index", "a/config", "an artifact"]) {
        let manifest = Manifest::parse(document.into(), None, None).unwrap();
        push(&server, builder(), std::slice::from_ref(&manifest)).await.pop().unwrap().unwrap();
        let listed = old.listed().pop().unwrap();
        assert_eq!(
            (&listed.digest, listed.size),
            (manifest.digest(), manifest.bytes().len() as u64)
        );
        assert_eq!(
            (&listed.media_type, listed.artifact_type.as_deref()),
            (manifest.media_type(), Some(kind))
        );
        assert_eq!(
            listed.annotations.get("a").map(String::as_str),
            (kind == "an artifact").then_some("b")
        );
    }
    for listed in old.listed() {
        server.repository().delete_manifest(&listed.digest).await.unwrap();
    }
    assert_eq!(old.listed(), []);
}

// covers: O17
#[tokio::test]
async fn where_old_ones_are_kept_an_empty_index_is_written() {
    let old = Old::default();
    let server = old.serve().await;
    let keeping = || builder().keep_old_referrers_index(true);
    let one = artifact("x", 1);
    push(&server, keeping(), std::slice::from_ref(&one)).await.pop().unwrap().unwrap();
    server.repository_of(keeping()).delete_manifest(one.digest()).await.unwrap();
    assert!(old.0.lock().unwrap().tags.contains_key(&tag()) && old.listed().is_empty());
    assert_eq!(old.indexes(), 1, "the old one");
}

// covers: O17, O24
#[tokio::test]
async fn deleting_says_which_step_failed() {
    let old = Old::default();
    let server = old.serve().await;
    let (one, two) = (artifact("x", 1), artifact("x", 2));
    push(&server, builder(), &[one.clone(), two]).await;
    old.0.lock().unwrap().interferes = u32::MAX;
    let error = server.repository().delete_manifest(one.digest()).await.unwrap_err();
    let expected = format!("still listed as a referrer of {}", subject().digest);
    assert!(error.to_string().contains(&expected), "{error}");
    let failure = failure(&error);
    assert_eq!((failure.change, failure.step), (ReferrersChange::Remove, ReferrersStep::Write));
    assert_eq!((&failure.subject, &failure.referrer), (&subject().digest, one.digest()));
    assert!(old.has(one.digest()), "it is left");
}

// A refusal of the list is none of the manifest: whether to go on without the list is decided by
// the kind. Who may not write at all, or not now, is told that.
// covers: O24
#[tokio::test]
async fn a_list_that_is_refused_is_told_by_its_kind() {
    for (status, unlisted) in [(400, true), (405, true), (413, true), (403, false), (503, false)] {
        let old = Old::default();
        let server = old.serve().await;
        old.0.lock().unwrap().refuses = Some(status);
        let pushed = artifact("x", 1);
        let error = push(&server, builder(), std::slice::from_ref(&pushed))
            .await
            .pop()
            .unwrap()
            .unwrap_err();
        assert_eq!(*error.kind() == ErrorKind::Unlisted, unlisted, "{status}: {error}");
        assert_eq!(failure(&error).step, ReferrersStep::Write);
        assert!(old.has(pushed.digest()), "{status}: the manifest is stored");
    }
}

// covers: O17
#[tokio::test]
async fn deleting_takes_it_off_the_index_first() {
    let old = Old::default();
    let server = old.serve().await;
    let (one, two) = (artifact("x", 1), artifact("x", 2));
    push(&server, builder(), &[one.clone(), two.clone()]).await;
    let repository = server.repository();
    repository.delete_manifest(one.digest()).await.unwrap();
    assert_eq!(old.listed(), [two.as_referrer().unwrap()]);
    let lines = server.lines();
    let (index, manifest) = (
        format!("PUT /v2/a/b/manifests/{}", tag()),
        format!("DELETE /v2/a/b/manifests/{}", one.digest()),
    );
    let last = |wanted: &String| lines.iter().rposition(|line| line == wanted).unwrap();
    assert!(last(&index) < last(&manifest), "{lines:?}");
    repository.delete_manifest(two.digest()).await.unwrap();
    assert!(!old.0.lock().unwrap().tags.contains_key(&tag()), "an empty index is deleted");
    assert!(repository.delete_manifest(two.digest()).await.unwrap_err().is_not_found());
}
