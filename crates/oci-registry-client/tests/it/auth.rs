//! Who asks: passwords, tokens, and to whom they are shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{Mounted, Source, Store};
use oci_registry_client::{Credentials, Repository, StaticCredentials};
use oci_spec_types::{Descriptor, Digest, MediaType, Tag};

use crate::server::{Answer, Seen, Server, builder};

fn blob() -> Digest {
    Digest::sha256(b"blob")
}

fn as_user(server: &Server, credentials: Credentials) -> Repository {
    let credentials = StaticCredentials::new().with(server.host.clone(), credentials);
    server.repository_of(builder().credentials(credentials))
}

/// A registry that wants a token, from its own `/token?own=1`, which counts the tokens it gives.
async fn registry_with_tokens(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Answer::ok(format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        match seen.header("authorization") {
            Some(value) if value.starts_with("Bearer t") => answer(seen),
            _ => Answer::status(401).header("WWW-Authenticate", "Negotiate").header(
                "WWW-Authenticate",
                r#"bearer Realm="/token?own=1", service="the registry, here""#,
            ),
        }
    })
    .await
}

fn token_requests(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.target.starts_with("/token")).collect()
}

// covers: M12
#[tokio::test]
async fn anonymous_tokens_are_fetched_once_and_kept() {
    let server = registry_with_tokens(|_| Answer::ok("blob")).await;
    let repository = server.repository();
    for _ in 0..3 {
        repository.blob_size(&blob()).await.unwrap();
    }
    repository.clone().manifest(&"1".parse::<Tag>().unwrap().into()).await.unwrap_err();
    let tokens = token_requests(&server);
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].target,
        "/token?own=1&service=the+registry%2C+here&scope=repository%3Aa%2Fb%3Apull"
    );
    assert_eq!(tokens[0].header("authorization"), None);
    // Refused once, then never again.
    assert_eq!(server.seen().len(), 1 + 1 + 3 + 1);
}

// covers: M12
#[tokio::test]
async fn a_password_is_exchanged_for_a_token() {
    let server = registry_with_tokens(|_| Answer::ok("blob")).await;
    let repository = as_user(&server, Credentials::basic("alice", "secret"));
    repository.blob_size(&blob()).await.unwrap();
    assert_eq!(token_requests(&server)[0].header("authorization"), Some("Basic YWxpY2U6c2VjcmV0"));
    let others = server.seen().into_iter().filter(|seen| !seen.target.starts_with("/token"));
    assert!(
        others
            .filter_map(|seen| seen.header("authorization").map(str::to_owned))
            .all(|value| value == "Bearer t1")
    );
}

#[tokio::test]
async fn many_that_ask_at_once_share_one_token() {
    let server = registry_with_tokens(|_| Answer::ok("blob")).await;
    let repository = server.repository();
    let blob = blob();
    let all = (0..20).map(|_| repository.blob_size(&blob));
    for size in futures_util::future::join_all(all).await {
        assert_eq!(size.unwrap(), Some(4));
    }
    assert_eq!(token_requests(&server).len(), 1);
}

// covers: O21, O5, O6
#[tokio::test]
async fn each_operation_asks_for_what_it_needs() {
    let server = registry_with_tokens(|seen| match seen.method.as_str() {
        "POST" if seen.target.contains("mount") => Answer::status(201).header("Location", "/x"),
        "POST" => Answer::status(202).header("Location", "/upload"),
        "PUT" => Answer::status(201).header("Location", "/x"),
        "DELETE" => Answer::status(202),
        _ => Answer::ok("blob"),
    })
    .await;
    let repository = server.repository();
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, b"blob");
    repository.blob_size(&blob()).await.unwrap();
    repository.put_blob(&descriptor, &Bytes::from_static(b"blob")).await.unwrap();
    let other = "c".parse().unwrap();
    assert!(matches!(repository.mount(&descriptor, Some(&other)).await.unwrap(), Mounted::Done));
    repository.delete_blob(&blob()).await.unwrap();
    // Covered by a token that is there.
    repository.blob_size(&blob()).await.unwrap();
    let scopes: Vec<_> = token_requests(&server)
        .iter()
        .map(|seen| {
            seen.target
                .split("scope=")
                .skip(1)
                .map(|scope| {
                    scope
                        .trim_end_matches('&')
                        .replace("%3A", ":")
                        .replace("%2C", ",")
                        .replace("%2F", "/")
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let expected: Vec<Vec<&str>> = vec![
        vec!["repository:a/b:pull"],
        vec!["repository:a/b:pull,push"],
        vec!["repository:a/b:pull,push", "repository:c:pull"],
        vec!["repository:a/b:delete"],
    ];
    assert_eq!(scopes, expected);
    // POST and PUT went with the same token.
    let seen = server.seen();
    let put = seen.iter().position(|seen| seen.method == "PUT").unwrap();
    assert_eq!(seen[put - 1].method, "POST");
    assert_eq!(seen[put - 1].header("authorization"), seen[put].header("authorization"));
}

// covers: O21
#[tokio::test]
async fn a_token_service_that_knows_no_deleting_is_asked_for_everything() {
    let server = Server::start(|seen| {
        if seen.target.starts_with("/token") {
            return match seen.target.contains("delete") {
                true => Answer::status(400).body("Unable to decode repository and actions"),
                false => Answer::ok(r#"{"token":"all"}"#),
            };
        }
        match seen.header("authorization") {
            Some("Bearer all") => Answer::status(202),
            _ => Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
        }
    })
    .await;
    let repository = server.repository();
    repository.delete_blob(&blob()).await.unwrap();
    let asked: Vec<_> = token_requests(&server).into_iter().map(|seen| seen.target).collect();
    assert_eq!(
        asked,
        ["/token?scope=repository%3Aa%2Fb%3Adelete", "/token?scope=repository%3Aa%2Fb%3A*"]
    );
    repository.delete_blob(&blob()).await.unwrap();
    assert_eq!(token_requests(&server).len(), 2, "known from then on");

    let server = Server::start(|seen| match seen.target.starts_with("/token") {
        true => Answer::error(403, "DENIED"),
        false => Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
    })
    .await;
    assert!(server.repository().delete_blob(&blob()).await.unwrap_err().is_denied());
}

#[tokio::test]
async fn what_the_registry_wants_beyond_that_is_asked_for_at_once_later() {
    let server = Server::start(|seen| {
        if seen.target.starts_with("/token") {
            let wide = seen.target.contains("other");
            return Answer::ok(format!(
                r#"{{"access_token":"{}"}}"#,
                if wide { "wide" } else { "narrow" }
            ));
        }
        match seen.header("authorization") {
            Some("Bearer wide") => Answer::ok("blob"),
            _ => Answer::status(401).header(
                "WWW-Authenticate",
                r#"Bearer realm="/token",scope="repository:a/b:pull repository:other:pull""#,
            ),
        }
    })
    .await;
    let repository = server.repository();
    repository.blob_size(&blob()).await.unwrap();
    repository.blob_size(&blob()).await.unwrap();
    assert_eq!(server.seen().len(), 4, "{:?}", server.lines());
}

// covers: M12
#[tokio::test(start_paused = true)]
async fn tokens_are_fetched_anew_before_they_expire() {
    let server = registry_with_tokens(|_| Answer::ok("blob")).await;
    let repository = server.repository();
    repository.blob_size(&blob()).await.unwrap();
    tokio::time::advance(Duration::from_secs(200)).await;
    repository.blob_size(&blob()).await.unwrap();
    assert_eq!(token_requests(&server).len(), 1);
    tokio::time::advance(Duration::from_secs(75)).await;
    repository.blob_size(&blob()).await.unwrap();
    assert_eq!(token_requests(&server).len(), 2);
}

// covers: M12
#[tokio::test]
async fn a_token_that_is_refused_is_not_shown_again() {
    // The challenge is the same as the first time: another token is wanted, not another kind.
    let server = registry_with_tokens(|seen| match seen.header("authorization") {
        Some("Bearer t1") if seen.target.contains("manifests") => Answer::status(401).header(
            "WWW-Authenticate",
            r#"Bearer realm="/token?own=1",service="the registry, here",error="invalid_token""#,
        ),
        _ => Answer::ok("blob"),
    })
    .await;
    let repository = server.repository();
    repository.blob_size(&blob()).await.unwrap();
    let tag = "1".parse::<Tag>().unwrap();
    for _ in 0..2 {
        let error = repository.manifest(&tag.clone().into()).await.unwrap_err();
        assert!(!error.is_unauthorized(), "{error}");
    }
    assert_eq!(token_requests(&server).len(), 2);
    let shown = |seen: &Seen| seen.header("authorization").map(str::to_owned);
    let shown: Vec<_> = server.seen().iter().filter_map(shown).collect();
    assert_eq!(shown, ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]);
}

// covers: M12, O10
#[tokio::test]
async fn a_token_that_is_refused_in_the_middle_of_a_push_is_replaced_once() {
    let server =
        registry_with_tokens(|seen| match (seen.method.as_str(), seen.header("authorization")) {
            ("POST", _) => Answer::status(202).header("Location", "/upload"),
            ("PUT", Some("Bearer t1")) => Answer::status(401)
                .header("WWW-Authenticate", r#"Bearer realm="/token",error="invalid_token""#),
            _ => Answer::status(201).header("Location", "/x"),
        })
        .await;
    let content = Bytes::from(vec![7; 100_000]);
    let descriptor = Descriptor::of(MediaType::OCTET_STREAM, &content);
    server.repository().put_blob(&descriptor, &content).await.unwrap();
    let puts: Vec<_> = server.seen().into_iter().filter(|seen| seen.method == "PUT").collect();
    assert_eq!(puts.len(), 2);
    assert!(puts.iter().all(|put| put.body == content));
    assert_eq!(token_requests(&server).len(), 2);
}

// covers: M12
#[tokio::test]
async fn what_cannot_be_answered_is_the_registry_s_own_error() {
    let no_challenge = Server::start(|_| Answer::error(401, "UNAUTHORIZED")).await;
    let error =
        no_challenge.repository().manifest(&"1".parse::<Tag>().unwrap().into()).await.unwrap_err();
    assert!(error.is_unauthorized());
    let error: &oci_registry_client::Error = error.find_source().unwrap();
    assert!(error.is_unauthorized());
    assert_eq!(error.errors()[0].message, "scripted");
    assert_eq!(no_challenge.seen().len(), 1);

    let basic = Server::start(|_| {
        Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", "Basic realm=\"x\"")
    })
    .await;
    assert!(basic.repository().blob_size(&blob()).await.unwrap_err().is_unauthorized());
    assert_eq!(basic.seen().len(), 1);
    let wrong = as_user(&basic, Credentials::basic("alice", "wrong"));
    assert!(wrong.blob_size(&blob()).await.unwrap_err().is_unauthorized());
    assert_eq!(basic.seen().len(), 3, "tried once");
    assert!(wrong.blob_size(&blob()).await.unwrap_err().is_unauthorized());
    assert_eq!(basic.seen().len(), 4, "known from the start");
}

#[tokio::test]
async fn identity_tokens_are_exchanged_by_post_or_else_by_get() {
    for post in [200, 404, 405] {
        let server = Server::start(move |seen| {
            match (seen.method.as_str(), seen.target.starts_with("/token")) {
                ("POST", true) if post != 200 => Answer::status(post),
                (_, true) => Answer::ok(r#"{"access_token":"t"}"#),
                _ if seen.header("authorization") == Some("Bearer t") => Answer::ok("blob"),
                _ => Answer::status(401)
                    .header("WWW-Authenticate", r#"Bearer realm="/token",service="s""#),
            }
        })
        .await;
        let repository = as_user(&server, Credentials::IdentityToken("id&1".into()));
        assert_eq!(repository.blob_size(&blob()).await.unwrap(), Some(4), "{post}");
        let tokens = token_requests(&server);
        let form = String::from_utf8(tokens[0].body.clone()).unwrap();
        assert!(form.starts_with("grant_type=refresh_token&service=s&client_id="), "{form}");
        assert!(form.ends_with("&scope=repository%3Aa%2Fb%3Apull&refresh_token=id%261"), "{form}");
        assert_eq!(tokens[0].header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(tokens.len(), if post == 200 { 1 } else { 2 });
    }
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    for challenge in [None, Some("Basic realm=\"x\""), Some("Bearer realm=\"/token\"")] {
        let server = Server::start(move |seen| match (seen.header("authorization"), challenge) {
            (Some("Bearer mine"), _) => Answer::ok("blob"),
            (_, Some(challenge)) => Answer::status(401).header("WWW-Authenticate", challenge),
            (_, None) => Answer::status(401),
        })
        .await;
        let repository = as_user(&server, Credentials::Bearer("mine".into()));
        for _ in 0..2 {
            assert_eq!(repository.blob_size(&blob()).await.unwrap(), Some(4));
        }
        assert_eq!(server.seen().len(), 3, "once it is known it need not be refused first");
    }
}

// covers: M12
#[tokio::test]
async fn nobody_in_particular_asks_for_a_token_where_a_password_would_do_too() {
    let server = Server::start(|seen| match seen.header("authorization") {
        _ if seen.target.starts_with("/token") => Answer::ok(r#"{"token":"t"}"#),
        Some("Bearer t") => Answer::ok("blob"),
        _ => Answer::status(401)
            .header("WWW-Authenticate", r#"Basic realm="x", Bearer realm="/token""#),
    })
    .await;
    assert_eq!(server.repository().blob_size(&blob()).await.unwrap(), Some(4));
}

// covers: M9, M14
#[tokio::test]
async fn token_services_that_fail() {
    type Check = fn(&oci_ref::Error) -> bool;
    let cases: [(Answer, Check, &str); 6] = [
        (Answer::error(401, "UNAUTHORIZED"), oci_ref::Error::is_unauthorized, "401"),
        (Answer::error(403, "DENIED"), oci_ref::Error::is_denied, "403"),
        (Answer::status(503), oci_ref::Error::is_retryable, "503"),
        (Answer::ok("{}"), oci_ref::Error::is_unauthorized, "has no token"),
        (Answer::ok(r#"{"token":"a\nb"}"#), oci_ref::Error::is_unauthorized, "no header may have"),
        (
            Answer::ok(vec![b' '; (1 << 20) + 1]),
            |error| !error.is_retryable(),
            "more than 1048576 bytes",
        ),
    ];
    for (answer, check, text) in cases {
        let server = Server::start(move |seen| match seen.target.starts_with("/token") {
            true => answer.clone(),
            false => Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"/token\""),
        })
        .await;
        let error = as_user(&server, Credentials::basic("alice", "secret"))
            .blob_size(&blob())
            .await
            .unwrap_err();
        assert!(check(&error), "{text}: {error:?}");
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[tokio::test]
async fn credentials_are_asked_for_by_the_name_in_references() {
    struct Asked(Arc<std::sync::Mutex<Vec<String>>>);
    #[async_trait::async_trait]
    impl oci_registry_client::CredentialProvider for Asked {
        async fn credentials(
            &self,
            host: &oci_spec_types::Host,
            repository: Option<&oci_spec_types::Name>,
        ) -> Result<Credentials, oci_registry_client::CredentialError> {
            self.0.lock().unwrap().push(format!("{host} {repository:?}"));
            Err("the helper is broken".into())
        }
    }
    let asked = Arc::default();
    // Who needs no credentials is not stopped by what is wrong with them.
    let open = Server::start(|_| Answer::ok("blob")).await;
    let repository = open.repository_of(builder().credentials(Asked(Arc::clone(&asked))));
    repository.blob_size(&blob()).await.unwrap();
    assert!(asked.lock().unwrap().is_empty());

    let server =
        Server::start(|_| Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""))
            .await;
    let repository = server.repository_of(builder().credentials(Asked(Arc::clone(&asked))));
    let error = repository.blob_size(&blob()).await.unwrap_err();
    assert!(error.to_string().contains("the helper is broken"), "{error}");
    let asked: Vec<String> = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(server.host.as_str()) && asked[0].contains("a/b"), "{asked:?}");
    assert_eq!(server.seen().len(), 1);
}
