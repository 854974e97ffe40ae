//! `/v2/`, tags and the catalogue: end-1, end-8.

use oci_registry_server::ServerOptions;
use serde_json::{Value, json};

use crate::support::{Api, index};

#[tokio::test]
async fn ping() {
    let api = Api::start().await;
    for path in ["/v2/", "/v2"] {
        assert_eq!(api.get(path).send().await.expect(200).json(), json!({}));
        assert_eq!(api.head(path).send().await.expect(200).header("content-length"), "2");
    }
}

async fn tagged(options: ServerOptions) -> Api {
    let api = Api::options(options).await;
    for tag in ["b", "a", "B", "A", "v1.10", "v1.9", "_"] {
        api.push_manifest("x/y", tag, &index(&[])).await.expect(201);
    }
    api
}

const SORTED: [&str; 7] = ["A", "B", "_", "a", "b", "v1.10", "v1.9"];

// spec: R43, R44, R45
#[tokio::test]
async fn tags_are_sorted() {
    let api = tagged(ServerOptions::new()).await;
    let list = api.get("/v2/x/y/tags/list").send().await.expect(200);
    assert_eq!(list.header("content-type"), "application/json");
    assert_eq!(list.json(), json!({"name": "x/y", "tags": SORTED}));
    assert!(!list.has("link"));
    api.get("/v2/unknown/tags/list").send().await.expect_error(404, "NAME_UNKNOWN");
}

/// The tags of a page, and the next page.
async fn page(api: &Api, path: &str) -> (Value, Option<String>) {
    let list = api.get(path).send().await.expect(200);
    let next = list.has("link").then(|| list.next());
    (list.json()["tags"].clone(), next)
}

// spec: R46, R47, R48, R49
#[tokio::test]
async fn tags_in_pages() {
    let api = tagged(ServerOptions::new()).await;
    let mut path = "/v2/x/y/tags/list?n=3".to_owned();
    for expected in [&SORTED[..3], &SORTED[3..6], &SORTED[6..]] {
        let (tags, next) = page(&api, &path).await;
        assert_eq!(tags, json!(expected));
        path = next.unwrap_or_default();
    }
    assert_eq!(path, "", "the last page has no Link");
    let of = async |query: &str| page(&api, &format!("/v2/x/y/tags/list?{query}")).await;
    assert_eq!(of("n=7").await, (json!(SORTED), None));
    assert_eq!(of("n=8").await, (json!(SORTED), None));
    assert_eq!(of("n=99999999999999999999999").await, (json!(SORTED), None));
    assert_eq!(of("n=0").await, (json!([]), None));
    assert_eq!(of("last=b").await, (json!(SORTED[5..]), None));
    assert_eq!(of("last=b&n=1").await.0, json!(["v1.10"]));
    assert_eq!(of("last=absent").await, (json!(["b", "v1.10", "v1.9"]), None));
    assert_eq!(of("last=zzz").await, (json!([]), None));
    assert_eq!(of("last=").await, (json!(SORTED), None));
}

#[tokio::test]
async fn pages_are_bounded() {
    let api = tagged(ServerOptions::new().max_page(2)).await;
    let (tags, next) = page(&api, "/v2/x/y/tags/list?n=1000").await;
    assert_eq!(tags, json!(SORTED[..2]));
    assert_eq!(next.unwrap(), "/v2/x/y/tags/list?n=1000&last=B");
    let (tags, next) = page(&api, "/v2/x/y/tags/list").await;
    assert_eq!(tags, json!(SORTED[..2]));
    assert_eq!(next.unwrap(), "/v2/x/y/tags/list?last=B");
}

#[tokio::test]
async fn the_catalogue() {
    let api = Api::options(ServerOptions::new().max_page(2)).await;
    assert_eq!(
        api.get("/v2/_catalog").send().await.expect(200).json(),
        json!({"repositories": []})
    );
    for name in ["b", "a/c", "a", "empty"] {
        api.push_manifest(name, "v1", &index(&[])).await.expect(201);
    }
    api.begin("begun-only").await;
    let digest = crate::support::digest_of(&index(&[]));
    api.delete(format!("/v2/empty/manifests/{digest}")).send().await.expect(202);
    let first = api.get("/v2/_catalog").send().await.expect(200);
    assert_eq!(first.json(), json!({"repositories": ["a", "a/c"]}));
    assert_eq!(first.next(), "/v2/_catalog?last=a%2Fc");
    let second = api.get(first.next()).send().await.expect(200);
    assert_eq!(second.json(), json!({"repositories": ["b"]}));
    assert!(!second.has("link"));
    let none = api.get("/v2/_catalog?n=0").send().await.expect(200);
    assert_eq!(none.json(), json!({"repositories": []}));

    let api = Api::options(ServerOptions::new().catalog(false)).await;
    api.get("/v2/_catalog").send().await.expect_error(405, "UNSUPPORTED");
}
