//! Referrers: end-12.

use oci_registry_server::{MemoryRegistry, ServerOptions};
use oci_spec_types::Digest;
use serde_json::{Value, json};

use crate::support::{Api, CONFIG, INDEX, Reply, descriptor_of, digest_of, image, index};

/// An image about another one.
fn about(subject: &Value, artifact_type: Option<&str>, note: &str) -> Value {
    let mut manifest = image(&[]);
    manifest["subject"] = descriptor_of(subject);
    manifest["annotations"] = json!({"note": note});
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = json!(artifact_type);
    }
    manifest
}

async fn list(api: &Api, digest: &Digest, query: &str) -> Reply {
    let list = api.get(format!("/v2/a/referrers/{digest}{query}")).send().await.expect(200);
    assert_eq!(list.header("content-type"), INDEX);
    assert_eq!(list.json()["mediaType"], INDEX);
    assert_eq!(list.json()["schemaVersion"], 2);
    list
}

fn digests(list: &Reply) -> Vec<String> {
    let list = list.json();
    let entries = list["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

fn sorted(manifests: &[&Value]) -> Vec<String> {
    let mut digests: Vec<_> =
        manifests.iter().map(|manifest| digest_of(manifest).to_string()).collect();
    digests.sort();
    digests
}

// spec: R50, R51, R52, R57
#[tokio::test]
async fn nothing_refers_to_it() {
    let api = Api::start().await;
    let digest = Digest::sha256(b"unknown");
    assert_eq!(list(&api, &digest, "").await.json()["manifests"], json!([]));
    api.push_blob("a", b"{}").await;
    assert_eq!(list(&api, &digest, "").await.json()["manifests"], json!([]));
    assert!(!list(&api, &digest, "").await.has("oci-filters-applied"));
    api.get("/v2/a/referrers/sha256:x").send().await.expect_error(400, "DIGEST_INVALID");
    api.get("/v2/a/referrers/latest").send().await.expect_error(400, "DIGEST_INVALID");
}

// spec: R53, R54, R55, R56, R68
#[tokio::test]
async fn entries_tell_what_they_are() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let typed = about(&subject, Some("application/vnd.example.sbom"), "typed");
    let untyped = about(&subject, None, "untyped");
    let mut list_of_none = index(&[]);
    list_of_none["subject"] = descriptor_of(&subject);
    for manifest in [&typed, &untyped, &list_of_none] {
        let digest = digest_of(manifest);
        api.push_manifest("a", digest.as_str(), manifest).await.expect(201);
    }
    let found = list(&api, &digest_of(&subject), "").await;
    assert_eq!(digests(&found), sorted(&[&typed, &untyped, &list_of_none]));
    for entry in found.json()["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        if digest == digest_of(&list_of_none).as_str() {
            let mut expected = descriptor_of(&list_of_none);
            expected.as_object_mut().unwrap().remove("artifactType");
            assert_eq!(*entry, expected);
            continue;
        }
        let (manifest, artifact_type) = match digest == digest_of(&typed).as_str() {
            true => (&typed, "application/vnd.example.sbom"),
            false => (&untyped, CONFIG),
        };
        let mut expected = descriptor_of(manifest);
        expected["artifactType"] = json!(artifact_type);
        expected["annotations"] = manifest["annotations"].clone();
        assert_eq!(*entry, expected);
    }
    api.delete(format!("/v2/a/manifests/{}", digest_of(&typed))).send().await.expect(202);
    let left = list(&api, &digest_of(&subject), "").await;
    assert_eq!(digests(&left), sorted(&[&untyped, &list_of_none]));
}

// spec: R59, R60
#[tokio::test]
async fn filters() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let (one, two) = ("application/vnd.one+json", "application/vnd.two");
    let ones = [about(&subject, Some(one), "1"), about(&subject, Some(one), "2")];
    let other = about(&subject, Some(two), "3");
    for manifest in [&ones[0], &ones[1], &other] {
        api.push_manifest("a", digest_of(manifest).as_str(), manifest).await.expect(201);
    }
    let subject = digest_of(&subject);
    for (query, expected) in [
        (format!("?artifactType={one}"), sorted(&[&ones[0], &ones[1]])),
        (format!("?artifactType={}", one.replace('+', "%2B")), sorted(&[&ones[0], &ones[1]])),
        (format!("?artifactType={two}"), sorted(&[&other])),
        (format!("?artifactType={one},{two}"), sorted(&[&ones[0], &ones[1], &other])),
        ("?artifactType=application/vnd.none".to_owned(), Vec::new()),
        ("?artifactType=".to_owned(), Vec::new()),
    ] {
        let found = list(&api, &subject, &query).await;
        assert_eq!(found.header("oci-filters-applied"), "artifactType");
        assert_eq!(digests(&found), expected, "{query}");
    }
    let first = list(&api, &subject, &format!("?artifactType={one}&n=1")).await;
    let second = api.get(first.next()).send().await.expect(200);
    assert_eq!(second.header("oci-filters-applied"), "artifactType");
    assert!(!second.has("link"));
    assert_eq!([digests(&first), digests(&second)].concat(), sorted(&[&ones[0], &ones[1]]));
}

/// All pages of a list.
async fn pages(api: &Api, digest: &Digest, query: &str) -> Vec<Vec<String>> {
    let mut reply = list(api, digest, query).await;
    let mut pages = vec![digests(&reply)];
    while reply.has("link") {
        reply = api.get(reply.next()).send().await.expect(200);
        pages.push(digests(&reply));
    }
    pages
}

// spec: R58
#[tokio::test]
async fn pages_by_number_and_by_size() {
    let api = Api::start().await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let small: Vec<_> = (0..250).map(|i| about(&subject, None, &i.to_string())).collect();
    for manifest in &small {
        api.push_manifest("a", digest_of(manifest).as_str(), manifest).await.expect(201);
    }
    let expected = sorted(&small.iter().collect::<Vec<_>>());
    let found = pages(&api, &digest_of(&subject), "").await;
    assert_eq!(found, std::slice::from_ref(&expected));
    let found = pages(&api, &digest_of(&subject), "?n=120").await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [120, 120, 10]);
    assert_eq!(found.concat(), expected);

    // Entries carry annotations, so that few of them can be much.
    let large: Vec<_> =
        (0..5).map(|i| about(&index(&[]), None, &i.to_string().repeat(1_200_000))).collect();
    for manifest in &large {
        api.push_manifest("a", digest_of(manifest).as_str(), manifest).await.expect(201);
    }
    let expected = sorted(&large.iter().collect::<Vec<_>>());
    let found = pages(&api, &digest_of(&index(&[])), "").await;
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(found.concat(), expected);
}

// spec: R67
#[tokio::test]
async fn a_referrers_tag_adds_nothing_twice_and_nothing_that_is_about_something_else() {
    let memory = MemoryRegistry::sparse();
    let api = Api::memory(memory, ServerOptions::new()).await;
    api.push_blob("a", b"{}").await;
    let subject = image(&[]);
    let listed = about(&subject, None, "listed");
    let stranger = about(&index(&[]), None, "about something else");
    let absent = about(&subject, None, "absent");
    for manifest in [&listed, &stranger] {
        api.push_manifest("a", digest_of(manifest).as_str(), manifest).await.expect(201);
    }
    let tag = digest_of(&subject).to_string().replace(':', "-");
    let fallback = index(&[&listed, &stranger, &absent, &listed]);
    api.push_manifest("a", &tag, &fallback).await.expect(201);
    assert_eq!(pages(&api, &digest_of(&subject), "").await.concat(), sorted(&[&listed]));
    assert_eq!(pages(&api, &digest_of(&subject), "?n=1").await.concat(), sorted(&[&listed]));
}
