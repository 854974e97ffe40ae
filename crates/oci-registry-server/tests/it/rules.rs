//! To which requests faults happen, and how often.

use http::{Method, StatusCode};
use oci_registry_server::{BreakAt, Endpoint, Fault, FaultAnswer, FaultRule, TestRegistry};

use crate::raw::{Digits, exchange, request};

/// The statuses of requests, one after another.
async fn statuses(rule: FaultRule, requests: &[(&str, &str)]) -> Vec<u16> {
    let registry = TestRegistry::builder().fault(rule).start().await.unwrap();
    let mut statuses = Vec::new();
    for (method, path) in requests {
        let raw = exchange(&registry.host(), &request(method, path, "", "")).await;
        statuses.push(raw.status());
    }
    statuses
}

fn teapot() -> FaultRule {
    FaultRule::new(FaultAnswer::new(StatusCode::IM_A_TEAPOT))
}

const PING: (&str, &str) = ("GET", "/v2/");

#[tokio::test]
async fn how_often() {
    let cases = [
        (teapot(), [418, 418, 418, 418, 418, 418]),
        (teapot().first(2), [418, 418, 200, 200, 200, 200]),
        (teapot().first(0), [200, 200, 200, 200, 200, 200]),
        (teapot().every(3), [200, 200, 418, 200, 200, 418]),
        (teapot().every(0), [200, 200, 200, 200, 200, 200]),
        (teapot().skip(4), [200, 200, 200, 200, 418, 418]),
        (teapot().skip(1).first(1), [200, 418, 200, 200, 200, 200]),
        (teapot().skip(1).every(2), [200, 200, 418, 200, 418, 200]),
        (teapot().once_per_path(), [418, 200, 200, 200, 200, 200]),
    ];
    for (rule, expected) in cases {
        assert_eq!(statuses(rule.clone(), &[PING; 6]).await, expected, "{rule:?}");
    }
    let paths = [PING, ("GET", "/v2/_catalog"), ("HEAD", "/v2/_catalog?n=1"), PING];
    assert_eq!(statuses(teapot().once_per_path(), &paths).await, [418, 418, 200, 200]);
}

#[tokio::test]
async fn to_which() {
    let requests = [
        PING,
        ("HEAD", "/v2/"),
        ("GET", "/v2/a/tags/list"),
        ("GET", "/v2/b/manifests/v1"),
        ("DELETE", "/v2/b/manifests/v1"),
        ("GET", "/v2/_catalog?n=1"),
    ];
    let cases = [
        (teapot().endpoint(Endpoint::Ping), [418, 418, 404, 404, 404, 200]),
        (
            teapot().endpoint(Endpoint::ListTags).endpoint(Endpoint::DeleteTag),
            [200, 200, 418, 404, 418, 200],
        ),
        (teapot().method(Method::HEAD), [200, 418, 404, 404, 404, 200]),
        (teapot().path("/v2/*/*/*"), [200, 200, 418, 418, 418, 200]),
        (teapot().path("/v2/b/*").method(Method::GET), [200, 200, 404, 418, 404, 200]),
        (teapot().when(|request| request.query == "n=1"), [200, 200, 404, 404, 404, 418]),
        (teapot().path("/v2/b/*").first(1), [200, 200, 404, 418, 404, 200]),
    ];
    for (rule, expected) in cases {
        assert_eq!(statuses(rule.clone(), &requests).await, expected, "{rule:?}");
    }
}

// covers: M17
#[tokio::test]
async fn every_path_goes_through_a_sequence() {
    let failing = FaultAnswer::new(StatusCode::INTERNAL_SERVER_ERROR);
    let away = FaultAnswer::redirect(StatusCode::TEMPORARY_REDIRECT, "/v2/?elsewhere");
    let builder = TestRegistry::builder()
        .fault(FaultRule::new(failing).once_per_path())
        .fault(FaultRule::new(away).once_per_path())
        .fault(
            FaultRule::new(Fault::close(BreakAt::Body(5)))
                .endpoint(Endpoint::PullBlob)
                .once_per_path(),
        );
    let digits = Digits::start(builder).await;
    assert_eq!(digits.pull().await.status(), 500);
    assert_eq!(digits.ask("GET", "/v2/", "").await.status(), 500);
    assert_eq!(digits.pull().await.status(), 307);
    assert_eq!(digits.pull().await.text(), "01234");
    assert_eq!(digits.ask("GET", "/v2/", "").await.status(), 307);
    assert_eq!(digits.pull().await.text(), "0123456789");
    assert_eq!(digits.ask("GET", "/v2/", "").await.status(), 200);
    let met: Vec<usize> =
        digits.registry.take_requests().iter().map(|request| request.faults.len()).collect();
    assert_eq!(met, [1, 1, 1, 1, 1, 0, 0]);
}

#[tokio::test]
async fn rules_come_and_go() {
    let registry = TestRegistry::start().await.unwrap();
    let ping =
        || async { exchange(&registry.host(), &request("GET", "/v2/", "", "")).await.status() };
    assert_eq!(ping().await, 200);
    registry.inject(teapot());
    assert_eq!(ping().await, 418);
    registry.clear_faults();
    assert_eq!(ping().await, 200);
}
