//! Where the router stands: alone, under a prefix, behind another address, beside other routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response};
use oci_registry_server::{MemoryRegistry, ServerOptions, router};
use oci_spec_types::Digest;
use tower::ServiceExt;

async fn ask(app: &Router, method: &str, path: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

fn location(response: &Response<Body>) -> &str {
    response.headers()["location"].to_str().unwrap()
}

fn registry() -> Arc<MemoryRegistry> {
    Arc::new(MemoryRegistry::new())
}

#[tokio::test]
async fn under_a_prefix() {
    let app = Router::new().nest("/some/mirror", router(registry(), ServerOptions::new()));
    assert_eq!(ask(&app, "GET", "/some/mirror/v2/").await.status(), 200);
    assert_eq!(ask(&app, "GET", "/some/mirror/v2").await.status(), 200);
    assert_eq!(ask(&app, "GET", "/v2/").await.status(), 404);
    let begun = ask(&app, "POST", "/some/mirror/v2/a/b/blobs/uploads/").await;
    assert!(location(&begun).starts_with("/some/mirror/v2/a/b/blobs/uploads/"));
    let digest = Digest::sha256(b"");
    let put = ask(&app, "PUT", &format!("{}?digest={digest}", location(&begun))).await;
    assert_eq!(location(&put), format!("/some/mirror/v2/a/b/blobs/{digest}"));
    assert_eq!(ask(&app, "GET", location(&put)).await.status(), 200);
}

#[tokio::test]
async fn behind_another_address() {
    let options = ServerOptions::new().external_url("https://registry.example/x/").unwrap();
    let app = Router::new().nest("/inside", router(registry(), options));
    let begun = ask(&app, "POST", "/inside/v2/a/blobs/uploads/").await;
    assert!(location(&begun).starts_with("https://registry.example/x/v2/a/blobs/uploads/"));
}

#[tokio::test]
async fn beside_other_routes() {
    let other = Router::new().route("/health", get(|| async { "well" }));
    let app = other
        .fallback(|| async { "something else" })
        .merge(router(registry(), ServerOptions::new()));
    for (path, status) in
        [("/health", 200), ("/elsewhere", 200), ("/v2/", 200), ("/v2/a/tags/list", 404)]
    {
        assert_eq!(ask(&app, "GET", path).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn several_requests_at_a_time_or_no_more() {
    let app = router(registry(), ServerOptions::new().max_requests(Some(1)));
    let held = ask(&app, "GET", "/v2/").await;
    let refused = ask(&app, "GET", "/v2/").await;
    // spec: R73
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    drop(held);
    assert_eq!(ask(&app, "GET", "/v2/").await.status(), 200);
}
