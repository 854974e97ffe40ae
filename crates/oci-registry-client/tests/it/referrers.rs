//! Referrers, listed: by the API, and where there is none.

use oci_ref::{ErrorKind, Precondition, Source, Store};
use oci_spec_types::{ImageIndex, MediaType};

use crate::server::{Answer, Server, builder};
use crate::tag_schema::old::{Old, push};
use crate::tag_schema::{artifact, entries, index, numbers, subject, tag};

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
    // google/go-containerregistry#1962 (406), goharbor/harbor#18305 (401)
    let refusals = [400, 401, 403, 404, 405, 406, 501].map(Answer::status);
    let coded = ["NAME_UNKNOWN", "UNSUPPORTED"].map(|code| Answer::error(404, code));
    let odd = [
        Answer::ok("<html>").header("Content-Type", "text/html"),
        Answer::status(303).header("Location", "http://127.0.0.1:1/broken"),
    ];
    for answer in refusals.into_iter().chain(coded).chain(odd) {
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

    // Nobody knows that there are none where neither may be asked.
    for status in [401, 403] {
        let refusing = Server::start(move |seen| match seen.target.contains("/referrers/") {
            true => Answer::status(status),
            false => Answer::status(404),
        })
        .await;
        let error = refusing.repository().predecessors(&digest).await.unwrap_err();
        assert!(error.is_unauthorized() || error.is_denied(), "{error}");
    }

    let repository = nothing.repository();
    repository.set_referrers_api(true).unwrap();
    repository.predecessors(&digest).await.unwrap_err();
    let repository = nothing.repository();
    repository.set_referrers_api(false).unwrap();
    assert_eq!(repository.predecessors(&digest).await.unwrap(), []);
    assert!(nothing.lines().last().unwrap().contains("/manifests/"));
    // What was said first stays, and what was found out.
    let found_out = nothing.repository();
    found_out.predecessors(&digest).await.unwrap();
    for repository in [repository, found_out] {
        let error = repository.set_referrers_api(true).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Invalid, "{error}");
        repository.set_referrers_api(false).unwrap();
        assert_eq!(repository.predecessors(&digest).await.unwrap(), []);
    }
}

// covers: O16
#[tokio::test]
async fn a_registry_that_lists_them_itself_is_believed() {
    let listing =
        Server::start(|_| Answer::status(201).header("OCI-Subject", subject().digest)).await;
    push(&listing, builder(), &[artifact("x", 1)]).await.pop().unwrap().unwrap();
    assert_eq!(listing.seen().len(), 1);

    // It was seen to list them, and need not say so.
    let silent = Server::start(|seen| match seen.target.contains("/referrers/") {
        true => index(&[]),
        false => Answer::status(201),
    })
    .await;
    let repository = silent.repository();
    repository.predecessors(&subject().digest).await.unwrap();
    repository.put_manifest(&artifact("x", 1), &[], &Precondition::None).await.unwrap();
    assert_eq!(silent.seen().len(), 2);
}

/// An answer without `OCI-Subject` says that there is no API (distribution-spec, "Pushing Manifests
/// with Subject").
// covers: O16, O17
#[tokio::test]
async fn a_registry_that_does_not_list_them_is_not_asked_whether_it_does() {
    let old = Old::default();
    let server = old.serve().await;
    push(&server, builder(), &[artifact("x", 1), artifact("x", 2)]).await;
    assert_eq!(numbers(&old.listed()).len(), 2);
    assert!(!server.lines().iter().any(|line| line.contains("/referrers/")));
}
