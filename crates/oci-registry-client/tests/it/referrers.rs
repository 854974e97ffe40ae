//! Referrers: by the API, and by an index under a tag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_ref::{Error, Manifest, Precondition, Source, Store};
use oci_registry_client::ClientBuilder;
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageIndex, ImageManifest, MediaType};

use crate::server::{Answer, Seen, Server, builder};

fn subject() -> Descriptor {
    Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"the subject")
}

fn tag() -> String {
    subject().digest.as_str().replace(':', "-")
}

/// An artifact with the subject, of its own kind and number.
fn artifact(kind: &str, number: u32) -> Manifest {
    let mut image = ImageManifest::new(Descriptor::empty_json(), Vec::new());
    image.artifact_type = Some(kind.into());
    image.subject = Some(subject());
    image.annotations.insert("number".into(), number.to_string());
    Manifest::parse(serde_json::to_vec(&image).unwrap().into(), None, None).unwrap()
}

fn index(entries: &[Descriptor]) -> Answer {
    let index = ImageIndex::new(entries.to_vec());
    Answer::ok(serde_json::to_vec(&index).unwrap())
        .header("Content-Type", MediaType::OCI_IMAGE_INDEX)
}

fn entries(artifacts: &[(&str, u32)]) -> Vec<Descriptor> {
    artifacts.iter().map(|(kind, number)| artifact(kind, *number).as_referrer().unwrap()).collect()
}

fn numbers(listed: &[Descriptor]) -> Vec<&str> {
    listed.iter().map(|entry| entry.annotations["number"].as_str()).collect()
}

// covers: O14, O15
#[tokio::test]
async fn by_the_api_filtered_here_or_there() {
    let all = entries(&[("x", 1), ("y", 2), ("x", 3)]);
    let (some, listed) = (entries(&[("x", 1), ("x", 3)]), all.clone());
    let server = Server::start(move |seen| match seen.target.split_once("artifactType=") {
        None => index(&all),
        Some((_, rest)) if rest.starts_with("x") => {
            index(&some).header("OCI-Filters-Applied", "other, artifactType")
        }
        // Not filtered, and it does not say so.
        Some(_) => index(&all),
    })
    .await;
    let repository = server.repository();
    let digest = subject().digest;
    let found = repository.referrers(&digest, None, None, 10).await.unwrap();
    assert_eq!((found.page.items, found.page.next, found.filtered), (listed.clone(), None, false));
    let found = repository.referrers(&digest, Some("x"), None, 10).await.unwrap();
    assert_eq!((numbers(&found.page.items), found.filtered), (vec!["1", "3"], true));
    let found = repository.referrers(&digest, Some("y"), None, 10).await.unwrap();
    assert_eq!((numbers(&found.page.items), found.filtered), (vec!["2"], true));
    assert_eq!(server.lines()[1], format!("GET /v2/a/b/referrers/{digest}?artifactType=x&n=10"));
    assert_eq!(repository.predecessors(&digest).await.unwrap(), listed);
}

// covers: O15
#[tokio::test]
async fn who_says_that_it_has_filtered_is_believed() {
    for (says, expected) in
        [("nothing", vec!["1"]), ("header", vec!["1", "2"]), ("annotation", vec!["1", "2"])]
    {
        let server = Server::start(move |_| {
            let mut list = ImageIndex::new(entries(&[("x", 1), ("y", 2)]));
            if says == "annotation" {
                let name = "org.opencontainers.referrers.filtersApplied".to_owned();
                list.annotations.insert(name, "artifactType".to_owned());
            }
            let answer = Answer::ok(serde_json::to_vec(&list).unwrap())
                .header("Content-Type", MediaType::OCI_IMAGE_INDEX);
            match says {
                "header" => answer.header("OCI-Filters-Applied", "artifactType"),
                _ => answer,
            }
        })
        .await;
        let found = server.repository().referrers(&subject().digest, Some("x"), None, 10).await;
        assert_eq!(numbers(&found.unwrap().page.items), expected, "{says}");
    }
}

// covers: O14
#[tokio::test]
async fn in_pages() {
    let server = Server::start(|seen| match seen.target.contains("page=2") {
        false => index(&entries(&[("x", 1), ("x", 2), ("x", 3)])).header(
            "Link",
            format!("</v2/a/b/referrers/{}?page=2>; rel=\"next\"", subject().digest),
        ),
        true => index(&entries(&[("x", 4)])),
    })
    .await;
    let repository = server.repository();
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let page =
            repository.referrers(&subject().digest, None, next.as_ref(), 2).await.unwrap().page;
        assert!(page.items.len() <= 2);
        found.extend(page.items);
        match page.next {
            Some(cursor) => next = Some(cursor),
            None => break,
        }
    }
    assert_eq!(numbers(&found), ["1", "2", "3", "4"]);
}

// covers: O14, O16, O17
#[tokio::test]
async fn without_the_api_by_tag() {
    let no_api = [
        Answer::status(404),
        Answer::status(405),
        Answer::ok("<html>").header("Content-Type", "text/html"),
        Answer::status(303).header("Location", "http://127.0.0.1:1/broken"),
    ];
    for answer in no_api {
        let server = Server::start(move |seen| match seen.target.contains("/referrers/") {
            true => answer.clone(),
            false => index(&entries(&[("x", 1), ("y", 2), ("x", 3)])),
        })
        .await;
        let repository = server.repository();
        let digest = subject().digest;
        let found = repository.referrers(&digest, Some("x"), None, 1).await.unwrap();
        assert_eq!((numbers(&found.page.items), found.filtered), (vec!["1"], true));
        let found =
            repository.referrers(&digest, Some("x"), found.page.next.as_ref(), 1).await.unwrap();
        assert_eq!((numbers(&found.page.items), found.page.next), (vec!["3"], None));
        let asked = server.lines().iter().filter(|line| line.contains("/referrers/")).count();
        assert_eq!(asked, 1, "found out once");
        assert_eq!(server.lines().last().unwrap(), &format!("GET /v2/a/b/manifests/{}", tag()));
    }
}

// covers: O14, O16
#[tokio::test]
async fn what_is_no_list_and_what_is_an_error() {
    let digest = subject().digest;
    let nothing = Server::start(|_| Answer::status(404)).await;
    assert_eq!(nothing.repository().predecessors(&digest).await.unwrap(), []);
    let image = artifact("x", 1);
    let no_index = Server::start(move |seen| match seen.target.contains("/referrers/") {
        true => Answer::status(404),
        false => Answer::ok(image.bytes()),
    })
    .await;
    assert_eq!(no_index.repository().predecessors(&digest).await.unwrap(), []);

    let unknown = Server::start(|_| Answer::error(404, "NAME_UNKNOWN")).await;
    let error = unknown.repository().predecessors(&digest).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::NameUnknown));

    let repository = nothing.repository();
    repository.set_referrers_api(true);
    repository.predecessors(&digest).await.unwrap_err();
    let repository = nothing.repository();
    repository.set_referrers_api(false);
    assert_eq!(repository.predecessors(&digest).await.unwrap(), []);
    assert!(nothing.lines().last().unwrap().contains("/manifests/"));
    // What was said first stays.
    repository.set_referrers_api(true);
    assert_eq!(repository.predecessors(&digest).await.unwrap(), []);
}

/// A registry of manifests without the referrers API.
#[derive(Clone, Default)]
struct Old(Arc<Mutex<OldState>>);

/// What a registry says of the version of what it gives.
#[derive(Clone, Copy, Default, PartialEq)]
enum Versions {
    #[default]
    Digest,
    Opaque,
    Weak,
    None,
}

impl Versions {
    fn of(self, digest: &str) -> Option<String> {
        match self {
            Self::Digest => Some(format!("\"{digest}\"")),
            Self::Opaque => Some(format!("\"v-{}\"", &digest[7..20])),
            Self::Weak => Some(format!("W/\"{digest}\"")),
            Self::None => None,
        }
    }
}

#[derive(Default)]
struct OldState {
    manifests: BTreeMap<String, Bytes>,
    tags: BTreeMap<String, String>,
    /// Changes the index behind the client's back, so often.
    interferes: u32,
    /// Others, who do not know of conditions either, write their own index over the client's: these, one each time.
    others: Vec<Manifest>,
    versions: Versions,
    index_writes: u32,
    conditions: Vec<String>,
}

impl Old {
    async fn serve(&self) -> Server {
        let old = self.clone();
        Server::start(move |seen| old.answer(seen)).await
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let mut state = self.0.lock().unwrap();
        let Some((_, reference)) = seen.target.split_once("/manifests/") else {
            return Answer::status(404);
        };
        let digest = state.tags.get(reference).cloned().unwrap_or(reference.to_owned());
        match seen.method.as_str() {
            "PUT" => {
                let digest = Digest::sha256(&seen.body).to_string();
                state.manifests.insert(digest.clone(), seen.body.clone().into());
                if reference == tag() {
                    state.index_writes += 1;
                    let condition = seen
                        .header("if-match")
                        .or(seen.header("if-none-match"))
                        .unwrap_or_default()
                        .to_owned();
                    let now = state.tags.get(reference).and_then(|now| state.versions.of(now));
                    state.conditions.push(condition);
                    if seen.header("if-match").is_some_and(|wanted| now.as_deref() != Some(wanted))
                    {
                        return Answer::status(412);
                    }
                    if state.interferes > 0 {
                        state.interferes -= 1;
                        return Answer::status(412);
                    }
                }
                if !reference.contains(':') {
                    state.tags.insert(reference.to_owned(), digest);
                }
                if reference == tag()
                    && let Some(other) = state.others.pop()
                {
                    let digest = other.digest().to_string();
                    state.manifests.insert(digest.clone(), other.bytes().clone());
                    state.tags.insert(reference.to_owned(), digest);
                }
                Answer::status(201)
            }
            "DELETE" => {
                state.tags.retain(|_, named| *named != digest);
                Answer::status(if state.manifests.remove(&digest).is_some() { 202 } else { 404 })
            }
            _ => match state.manifests.get(&digest) {
                Some(bytes) => match state.versions.of(&digest) {
                    Some(version) => Answer::ok(bytes).header("ETag", version),
                    None => Answer::ok(bytes),
                },
                None => Answer::status(404),
            },
        }
    }

    fn listed(&self) -> Vec<Descriptor> {
        let state = self.0.lock().unwrap();
        let bytes = state.tags.get(&tag()).map(|digest| state.manifests[digest].clone());
        bytes.map(|bytes| ImageIndex::from_slice(&bytes).unwrap().manifests).unwrap_or_default()
    }

    fn indexes(&self) -> usize {
        let state = self.0.lock().unwrap();
        state
            .manifests
            .values()
            .filter(|bytes| {
                ImageIndex::from_slice(bytes).is_ok_and(|index| !index.manifests.is_empty())
            })
            .count()
    }
}

async fn push(
    server: &Server,
    builder: ClientBuilder,
    artifacts: &[Manifest],
) -> Vec<Result<(), Error>> {
    let repository = server.repository_of(builder);
    let pushes = artifacts
        .iter()
        .map(|artifact| repository.put_manifest(artifact, &[], &Precondition::None));
    futures_util::future::join_all(pushes).await
}

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

// covers: O17
#[tokio::test]
async fn changes_by_others_are_respected() {
    let old = Old::default();
    old.0.lock().unwrap().interferes = 3;
    let server = old.serve().await;
    push(&server, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
    assert_eq!(old.listed().len(), 1);

    old.0.lock().unwrap().interferes = u32::MAX;
    let error = push(&server, builder(), &[artifact("x", 2)]).await.pop().unwrap().unwrap_err();
    assert_eq!(*error.kind(), oci_ref::ErrorKind::PreconditionFailed);
    assert!(error.to_string().contains("is not listed as a referrer of"), "{error}");
    assert!(error.to_string().contains(subject().digest.as_str()), "{error}");
}

/// An index of its own, as somebody else would write it.
fn written_by_others(artifacts: &[(&str, u32)]) -> Manifest {
    let index = ImageIndex::new(entries(artifacts));
    Manifest::parse(serde_json::to_vec(&index).unwrap().into(), None, None).unwrap()
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

// covers: O17
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
    assert!(old.0.lock().unwrap().manifests.contains_key(one.digest().as_str()), "it is left");
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

// covers: O17
#[tokio::test]
async fn something_else_under_the_tag_is_left_alone() {
    let old = Old::default();
    let other = artifact("other", 1);
    {
        let mut state = old.0.lock().unwrap();
        state.tags.insert(tag(), other.digest().to_string());
        state.manifests.insert(other.digest().to_string(), other.bytes().clone());
    }
    let server = old.serve().await;
    let error = push(&server, builder(), &[artifact("x", 2)]).await.pop().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::ManifestInvalid));
    assert_eq!(old.0.lock().unwrap().index_writes, 0);
}

// covers: O16
#[tokio::test]
async fn a_registry_that_lists_them_itself_is_believed() {
    let listing =
        Server::start(|_| Answer::status(201).header("OCI-Subject", subject().digest)).await;
    push(&listing, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
    assert_eq!(listing.seen().len(), 1);

    // It does not say so, and is asked.
    let silent = Server::start(|seen| match seen.target.contains("/referrers/") {
        true => index(&[]),
        false => Answer::status(201),
    })
    .await;
    let repository = silent.repository();
    for number in 1..=2 {
        repository.put_manifest(&artifact("x", number), &[], &Precondition::None).await.unwrap();
    }
    let asked: Vec<_> = silent.lines().into_iter().filter(|line| line.starts_with("GET")).collect();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("sha256:0000000000"));
}
