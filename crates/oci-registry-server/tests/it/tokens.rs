//! Credentials that are demanded.

use std::time::Duration;

use http::StatusCode;
use oci_registry_server::{Credentials, Endpoint, FaultAnswer, FaultRule, TestAuth, TestRegistry};
use oci_spec_types::Digest;
use serde_json::Value;

use crate::raw::{Digits, Raw, request};

/// `alice:secret`
const ALICE: &str = "Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
/// `alice:wrong`
const WRONG: &str = "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n";

async fn start(auth: TestAuth) -> Digits {
    Digits::start(TestRegistry::builder().auth(auth)).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn token(raw: &Raw) -> String {
    assert_eq!(raw.status(), 200, "{raw:?}");
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    assert_eq!(body["token"], body["access_token"]);
    body["token"].as_str().unwrap().to_owned()
}

async fn get(digits: &Digits, scope: &str, headers: &str) -> Raw {
    let path = format!("/token?service=test-registry&scope={scope}");
    digits.ask("GET", &path, headers).await
}

#[track_caller]
fn challenged(raw: &Raw, scope: &str, error: Option<&str>) {
    assert_eq!(raw.status(), 401);
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    assert_eq!(body["errors"][0]["code"], "UNAUTHORIZED");
    let challenge = raw.header("www-authenticate").unwrap();
    let scope = format!(",scope=\"{scope}\"");
    let error = error.map_or(String::new(), |error| format!(",error=\"{error}\""));
    let end = format!("/token\",service=\"test-registry\"{scope}{error}");
    assert!(challenge.starts_with("Bearer realm=\"http://127.0.0.1:"), "{challenge}");
    assert!(challenge.ends_with(&end), "{challenge}: expected {end}");
}

#[tokio::test]
async fn basic() {
    let digits = start(TestAuth::basic().user("alice", "secret")).await;
    for headers in ["", WRONG, "Authorization: Basic ???\r\n", "Authorization: Bearer x\r\n"] {
        let raw = digits.ask("GET", &digits.path, headers).await;
        assert_eq!(raw.status(), 401, "{headers}");
        assert_eq!(raw.header("www-authenticate"), Some("Basic realm=\"test\""));
    }
    assert_eq!(digits.ask("GET", &digits.path, ALICE).await.text(), "0123456789");
    let (username, password) = ("alice".to_owned(), "secret".to_owned());
    let seen = digits.registry.requests().pop().unwrap().credentials;
    assert_eq!(seen, Some(Credentials::Basic { username, password }));

    let digits = start(TestAuth::basic()).await;
    assert_eq!(digits.ask("GET", &digits.path, "").await.status(), 401);
    assert_eq!(digits.ask("GET", &digits.path, WRONG).await.status(), 200, "any are good");
}

#[tokio::test]
async fn the_token_flow() {
    let digits = start(TestAuth::bearer()).await;
    let ping = digits.ask("GET", "/v2/", "").await;
    assert_eq!(ping.status(), 401);
    assert!(!ping.header("www-authenticate").unwrap().contains("scope"));
    let raw = digits.pull().await;
    challenged(&raw, "repository:a:pull", None);
    let pull = bearer(&token(&get(&digits, "repository:a:pull", "").await));
    assert_eq!(digits.ask("GET", &digits.path, &pull).await.text(), "0123456789");
    assert_eq!(digits.ask("GET", "/v2/", &pull).await.status(), 200);

    let raw = digits.ask("POST", "/v2/a/blobs/uploads/", &pull).await;
    challenged(&raw, "repository:a:pull,push", Some("insufficient_scope"));
    let raw = digits.ask("DELETE", &digits.path, &pull).await;
    challenged(&raw, "repository:a:delete", Some("insufficient_scope"));
    let digest = Digest::sha256(b"0123456789");
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let raw = digits.ask("POST", &mount, &pull).await;
    let both = "repository:b:pull,push repository:a:pull";
    challenged(&raw, both, Some("insufficient_scope"));
    let scopes = both.replace(' ', "&scope=");
    let push = bearer(&token(&get(&digits, &scopes, "").await));
    assert_eq!(digits.ask("POST", &mount, &push).await.status(), 201);
    let all = bearer(&token(&get(&digits, "registry:catalog:*+repository:a:*", "").await));
    assert_eq!(digits.ask("GET", "/v2/_catalog", &all).await.status(), 200);
    assert_eq!(digits.ask("DELETE", &digits.path, &all).await.status(), 202);
}

#[tokio::test]
async fn tokens_expire() {
    let digits = start(TestAuth::bearer().token_uses(2)).await;
    let first = bearer(&token(&get(&digits, "repository:a:pull", "").await));
    assert_eq!(digits.ask("GET", &digits.path, &first).await.status(), 200);
    assert_eq!(digits.ask("GET", &digits.path, &first).await.status(), 200);
    let raw = digits.ask("GET", &digits.path, &first).await;
    challenged(&raw, "repository:a:pull", Some("invalid_token"));
    let second = bearer(&token(&get(&digits, "repository:a:pull", "").await));
    assert_eq!(digits.ask("GET", &digits.path, &second).await.status(), 200);
    digits.registry.expire_tokens();
    assert_eq!(digits.ask("GET", &digits.path, &second).await.status(), 401);

    let digits = start(TestAuth::bearer().token_lifetime(Duration::ZERO)).await;
    let raw = get(&digits, "repository:a:pull", "").await;
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    assert_eq!(body["expires_in"], 0);
    let raw = digits.ask("GET", &digits.path, &bearer(&token(&raw))).await;
    challenged(&raw, "repository:a:pull", Some("invalid_token"));
}

#[tokio::test]
async fn who_gets_tokens() {
    let digits = start(TestAuth::bearer().user("alice", "secret")).await;
    let scope = "repository:a:pull,push";
    assert_eq!(get(&digits, scope, "").await.status(), 401);
    assert_eq!(get(&digits, scope, WRONG).await.status(), 401);
    token(&get(&digits, scope, ALICE).await);

    let digits = start(TestAuth::bearer().user("alice", "secret").anonymous_pulls()).await;
    let anonymous = bearer(&token(&get(&digits, scope, "").await));
    assert_eq!(digits.ask("GET", &digits.path, &anonymous).await.status(), 200);
    assert_eq!(digits.ask("POST", "/v2/a/blobs/uploads/", &anonymous).await.status(), 401);

    for path in ["/token", "/token?service=other", "/token?service=test-registry&scope=x"] {
        assert_eq!(digits.ask("GET", path, ALICE).await.status(), 400, "{path}");
    }
    assert_eq!(digits.ask("PUT", "/token?service=test-registry", ALICE).await.status(), 405);
}

#[tokio::test]
async fn tokens_by_post() {
    let digits = start(TestAuth::bearer().user("alice", "secret")).await;
    let post = |form: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        request("POST", "/token", kind, &format!("service=test-registry&{form}"))
    };
    let scope = "scope=repository%3Aa%3Apull&client_id=t";
    let login =
        format!("{scope}&grant_type=password&username=alice&password=secret&access_type=offline");
    let raw = digits.send(&post(&login)).await;
    let pull = bearer(&token(&raw));
    assert_eq!(digits.ask("GET", &digits.path, &pull).await.status(), 200);
    let body: Value = serde_json::from_slice(&raw.body).unwrap();
    let refresh = body["refresh_token"].as_str().unwrap();
    let again = format!("{scope}&grant_type=refresh_token&refresh_token={refresh}");
    let pull = bearer(&token(&digits.send(&post(&again)).await));
    assert_eq!(digits.ask("GET", &digits.path, &pull).await.status(), 200);
    let bad = format!("{scope}&grant_type=refresh_token&refresh_token=x");
    assert_eq!(digits.send(&post(&bad)).await.status(), 401);

    let seen: Vec<_> =
        digits.registry.requests().into_iter().map(|request| request.credentials).collect();
    let (username, password) = ("alice".to_owned(), "secret".to_owned());
    assert_eq!(seen[0], Some(Credentials::Basic { username, password }));
    assert_eq!(seen[2], Some(Credentials::Refresh(refresh.to_owned())));
    assert!(matches!(&seen[3], Some(Credentials::Bearer(token)) if pull == bearer(token)));
}

#[tokio::test]
async fn a_token_service_that_fails() {
    let down = FaultRule::new(FaultAnswer::new(StatusCode::SERVICE_UNAVAILABLE));
    let builder = TestRegistry::builder().auth(TestAuth::bearer());
    let digits = Digits::start(builder.fault(down.endpoint(Endpoint::Token).first(1))).await;
    assert_eq!(get(&digits, "repository:a:pull", "").await.status(), 503);
    assert_eq!(get(&digits, "repository:a:pull", "").await.status(), 200);
}
