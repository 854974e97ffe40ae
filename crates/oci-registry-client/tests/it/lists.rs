//! Tags and repositories, in pages.

use futures_util::TryStreamExt;
use oci_ref::{Cursor, ErrorKind, Source};
use oci_spec_types::{ErrorCode, Tag};

use crate::server::{Answer, Server, builder};

fn tags(names: &[&str]) -> Answer {
    Answer::ok(format!(r#"{{"name":"a/b","tags":{names:?}}}"#))
}

fn texts(tags: &[Tag]) -> Vec<&str> {
    tags.iter().map(Tag::as_str).collect()
}

// covers: O13
#[tokio::test]
async fn pages_by_link() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/a/b/tags/list?n=2" => {
            tags(&["a", "b"]).header("Link", r#"</v2/a/b/tags/list?n=2&next=xyz>; rel="next""#)
        }
        "/v2/a/b/tags/list?n=2&next=xyz" => tags(&["c"]),
        "/v2/a/b/tags/list?n=2&last=b" => tags(&["c"]),
        other => panic!("{other}"),
    })
    .await;
    let repository = server.repository();
    let first = repository.tags(None, 2).await.unwrap();
    assert_eq!(texts(&first.items), ["a", "b"]);
    let second = repository.tags(first.next.as_ref(), 2).await.unwrap();
    assert_eq!((texts(&second.items), second.next), (vec!["c"], None));
    let after = Cursor::After("b".into());
    assert_eq!(texts(&repository.tags(Some(&after), 2).await.unwrap().items), ["c"]);

    let all: Vec<Tag> = repository.tags_stream(None, 2).try_collect().await.unwrap();
    assert_eq!(texts(&all), ["a", "b", "c"]);
    let last = "b".parse().unwrap();
    let rest: Vec<Tag> = repository.tags_stream(Some(&last), 2).try_collect().await.unwrap();
    assert_eq!(texts(&rest), ["c"]);
}

// covers: O13
#[tokio::test]
async fn a_registry_that_knows_neither_n_nor_last() {
    let server = Server::start(|_| tags(&["a", "b", "c", "d", "e"])).await;
    let repository = server.repository();
    let all: Vec<Tag> = repository.tags_stream(None, 2).try_collect().await.unwrap();
    assert_eq!(texts(&all), ["a", "b", "c", "d", "e"]);
    let last = "b".parse().unwrap();
    let rest: Vec<Tag> = repository.tags_stream(Some(&last), 2).try_collect().await.unwrap();
    assert_eq!(texts(&rest), ["c", "d", "e"]);
    assert_eq!(repository.tags(None, 0).await.unwrap().items, []);
}

#[tokio::test]
async fn odd_lists() {
    for body in [r#"{"name":"a/b","tags":null}"#, r#"{"name":"a/b","tags":[]}"#, "{}"] {
        let server = Server::answering([Answer::ok(body)]).await;
        assert_eq!(server.repository().tags(None, 10).await.unwrap().items, [], "{body}");
    }
    // Digests are no tags.
    let server = Server::answering([tags(&["a", "sha256:abc", "b"])]).await;
    assert_eq!(texts(&server.repository().tags(None, 5000).await.unwrap().items), ["a", "b"]);
    assert_eq!(server.lines(), ["GET /v2/a/b/tags/list?n=1000"]);

    let unknown = Server::answering([Answer::error(404, "NAME_UNKNOWN")]).await;
    let error = unknown.repository().tags(None, 10).await.unwrap_err();
    assert_eq!(error.code(), Some(&ErrorCode::NameUnknown));

    let broken = Server::answering([Answer::ok("[")]).await;
    assert!(
        broken
            .repository()
            .tags(None, 10)
            .await
            .unwrap_err()
            .to_string()
            .contains("not understood")
    );
}

// covers: O13
#[tokio::test]
async fn lists_are_limited() {
    let server = Server::start(|_| tags(&["a", "b", "c"])).await;
    let repository = server.repository_of(builder().metadata_limit(20));
    let error = repository.tags(None, 10).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 20 });
    let error = repository.registry().catalog(None, 10).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: 20 });

    // 4 MiB if nothing else is said, with and without the API.
    let limit: u64 = 4 << 20;
    let kind = oci_spec_types::MediaType::OCI_IMAGE_INDEX;
    let index_type = kind.clone();
    let server = Server::start(move |seen| match seen.target.contains("/referrers/") {
        true if seen.target.contains("/none/") => Answer::status(404),
        _ => Answer::ok("{}")
            .header("Content-Type", &index_type)
            .header("Content-Length", limit + 1)
            .cut(2),
    })
    .await;
    let repository = server.repository();
    let none = repository.sibling("none".parse().unwrap());
    let digest = oci_spec_types::Digest::sha256(b"");
    let errors = [
        repository.tags(None, 10).await.unwrap_err(),
        repository.registry().catalog(None, 10).await.unwrap_err().into(),
        repository.predecessors(&digest).await.unwrap_err(),
        none.predecessors(&digest).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit }, "{error}");
    }
    let name = format!(r#"{{"tags":["a"]{}}}"#, " ".repeat(limit as usize - 14));
    assert_eq!(name.len() as u64, limit);
    let server = Server::start(move |_| Answer::ok(&name)).await;
    assert_eq!(server.repository().tags(None, 10).await.unwrap().items.len(), 1);

    // By the API, and without it.
    for status in [200, 404] {
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let kind = oci_spec_types::MediaType::OCI_IMAGE_INDEX;
        let server = Server::start(move |seen| match seen.target.contains("/referrers/") {
            true => Answer::status(status).body(index).header("Content-Type", &kind),
            false => Answer::ok(index).header("Content-Type", &kind),
        })
        .await;
        let digest = oci_spec_types::Digest::sha256(b"");
        let limit = index.len() as u64;
        let enough = server.repository_of(builder().metadata_limit(limit));
        assert_eq!(enough.predecessors(&digest).await.unwrap(), [], "{status}");
        let less = server.repository_of(builder().metadata_limit(limit - 1));
        let error = less.predecessors(&digest).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TooLarge { limit: limit - 1 }, "{status}");
    }
}

#[tokio::test]
async fn links_lead_onwards_on_the_same_registry() {
    for (link, text) in [
        ("<http://other.example/v2/a/b/tags/list>; rel=next", "another origin"),
        ("</v2/a/b/tags/list?n=10>; rel=next", "same page"),
    ] {
        let server = Server::start(move |_| tags(&["a"]).header("Link", link)).await;
        let error = server.repository().tags(None, 10).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let server = Server::start(|_| tags(&["a"])).await;
    let foreign = Cursor::Opaque("http://other.example/v2/a/b/tags/list".into());
    let error = server.repository().tags(Some(&foreign), 10).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Invalid);
    assert!(server.seen().is_empty());
}

// covers: O13
#[tokio::test]
async fn the_catalogue() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/_catalog?n=1" => Answer::ok(r#"{"repositories":["a/b"]}"#)
            .header("Link", "</v2/_catalog?n=1&last=a%2Fb>; rel=next"),
        _ => Answer::ok(r#"{"repositories":["c"]}"#),
    })
    .await;
    let registry = server.repository().registry().clone();
    let first = registry.catalog(None, 1).await.unwrap();
    let second = registry.catalog(first.next.as_ref(), 1).await.unwrap();
    assert_eq!((first.items[0].as_str(), second.items[0].as_str()), ("a/b", "c"));
    assert_eq!(second.next, None);
}

/// distribution 2.8 gives all tags whatever is asked for, in the order of its disk.
// covers: O13
#[tokio::test]
async fn a_registry_that_knows_neither_last_nor_an_order() {
    let all = r#"{"name":"a/b","tags":["v4","v1","v5","v2","v3"]}"#;
    let server = Server::start(move |_| Answer::ok(all)).await;
    let repository = server.repository();
    let names = async |after: Option<&str>| {
        let after = after.map(|after| after.parse().unwrap());
        let found: Vec<oci_spec_types::Tag> =
            repository.tags_stream(after.as_ref(), 2).try_collect().await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["v4", "v1", "v5", "v2", "v3"]);
    assert_eq!(names(Some("v1")).await, ["v2", "v3", "v4", "v5"]);
    assert_eq!(names(Some("v3")).await, ["v4", "v5"]);
    assert!(names(Some("v5")).await.is_empty());
}
