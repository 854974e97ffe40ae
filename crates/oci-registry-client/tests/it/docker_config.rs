//! Credentials from the files and helpers of Docker and Podman, read and written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oci_ref::Source;
use oci_registry_client::{
    CredentialError, CredentialProvider, Credentials, DockerConfig, StaticCredentials,
};
use oci_spec_types::{Digest, Host, Name};

use crate::server::{Answer, Server, builder};

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/credentials").join(path)
}

fn golden(file: &str) -> DockerConfig {
    DockerConfig::at(testdata(file)).helper_directory(testdata("helpers"))
}

async fn find(config: &DockerConfig, host: &str, repository: &str) -> String {
    let name: Option<Name> = (!repository.is_empty()).then(|| repository.parse().unwrap());
    match config.credentials(&host.parse().unwrap(), name.as_ref()).await {
        Ok(Credentials::Anonymous) => "anonymous".into(),
        Ok(Credentials::Basic { username, password }) => format!("basic {username} {password}"),
        Ok(Credentials::IdentityToken(token)) => format!("identity {token}"),
        Ok(Credentials::Bearer(token)) => format!("bearer {token}"),
        Ok(other) => format!("{other:?}"),
        Err(error) => format!("error {error} {error:?}"),
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_golden_files() {
    let cases = std::fs::read(testdata("cases.json")).unwrap();
    let cases: Vec<[String; 4]> = serde_json::from_slice(&cases).unwrap();
    for [file, host, repository, expected] in cases {
        let found = find(&golden(&file), &host, &repository).await;
        match expected.strip_prefix("error ") {
            Some(error) => {
                assert!(found.starts_with("error ") && found.contains(error), "{host}: {found}");
                assert!(!found.contains("secret") && !found.contains("c2Vj"), "{found}");
            }
            None => assert_eq!(found, expected, "{file}: {host} {repository}"),
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_helper_that_hangs_is_ended() {
    let config = golden("helpers.json").helper_timeout(Duration::from_millis(50));
    let found = find(&config, "slow.example", "").await;
    assert!(found.contains("did not answer within 50ms"), "{found}");
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

#[tokio::test]
async fn what_is_stored_is_found_and_what_is_erased_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/config.json");
    let config = DockerConfig::at(&path);
    assert!(!config.erase(&host("r.example")).await.unwrap());
    assert!(!path.exists());
    config.store(&host("r.example"), &Credentials::basic("alice", "se:cret")).await.unwrap();
    config.store(&host("docker.io"), &Credentials::IdentityToken("id".into())).await.unwrap();
    assert_eq!(find(&config, "r.example", "a/b").await, "basic alice se:cret");
    assert_eq!(find(&config, "docker.io", "library/a").await, "identity id");
    let text = std::fs::read_to_string(&path).unwrap();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        read,
        serde_json::json!({"auths": {
            "https://index.docker.io/v1/": {"identitytoken": "id"},
            "r.example": {"auth": "YWxpY2U6c2U6Y3JldA=="},
        }})
    );
    assert!(config.erase(&host("r.example")).await.unwrap());
    assert_eq!(find(&config, "r.example", "a/b").await, "anonymous");
    assert_eq!(find(&config, "docker.io", "").await, "identity id");
    let error = config.store(&host("r.example"), &Credentials::Anonymous).await.unwrap_err();
    assert!(error.to_string().contains("nothing to keep"), "{error}");
    // Nothing is left beside the file.
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_changed_keeps_the_rest_its_link_and_its_owner_s_privacy() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real.json"), directory.path().join("link.json"));
    std::fs::copy(testdata("docker.json"), &real).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::symlink("real.json", &link).unwrap();
    let config = DockerConfig::at(&link);
    config.store(&host("docker.io"), &Credentials::basic("new", "hub")).await.unwrap();
    config.store(&host("scheme.example:8443"), &Credentials::basic("new", "scheme")).await.unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(find(&config, "docker.io", "").await, "basic new hub");
    assert_eq!(find(&config, "scheme.example:8443", "").await, "basic new scheme");

    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (mut before, mut after) = (read(&testdata("docker.json")), read(&real));
    for key in ["https://index.docker.io/v1/", "https://scheme.example:8443/v1/"] {
        before["auths"].as_object_mut().unwrap().remove(key).unwrap();
    }
    for key in ["https://index.docker.io/v1/", "scheme.example:8443"] {
        after["auths"].as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(before, after);
}

#[cfg(unix)]
#[tokio::test]
async fn helpers_keep_what_files_do_not() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["docker-credential-golden", "docker-credential-golden-store"] {
        let script = std::fs::canonicalize(testdata("helpers/docker-credential-golden")).unwrap();
        std::os::unix::fs::symlink(script, directory.path().join(name)).unwrap();
    }
    let path = directory.path().join("config.json");
    std::fs::copy(testdata("helpers.json"), &path).unwrap();
    let config = DockerConfig::at(&path).helper_directory(directory.path());
    config.store(&host("new.example"), &Credentials::basic("alice", "sec\"ret")).await.unwrap();
    config.store(&host("docker.io"), &Credentials::IdentityToken("id".into())).await.unwrap();
    config.erase(&host("own.example")).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("ret") && text.contains(r#""new.example": {}"#), "{text}");
    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        [
            r#"store {"Secret":"sec\"ret","ServerURL":"new.example","Username":"alice"}"#,
            r#"store {"Secret":"id","ServerURL":"https://index.docker.io/v1/","Username":"<token>"}"#,
            "erase own.example",
            "erase own.example",
        ]
    );
    let refused = Credentials::Bearer("topsecret".into());
    let error = config.store(&host("new.example"), &refused).await.unwrap_err();
    assert!(!format!("{error:?}").contains("topsecret"));
}

#[test]
fn nothing_secret_is_shown() {
    let credentials = [
        Credentials::basic("alice", "topsecret"),
        Credentials::IdentityToken("topsecret".into()),
        Credentials::Bearer("topsecret".into()),
    ];
    for credentials in credentials {
        let all = StaticCredentials::new().with(host("r.example"), credentials.clone());
        assert!(!format!("{credentials:?} {all:?}").contains("topsecret"));
    }
    let shown = format!("{:?}", golden("docker.json"));
    assert!(shown.contains("docker.json") && !shown.contains("auth"), "{shown}");
}

/// Says who asks, and how often it was asked; the password changes after `good` questions.
struct Counted(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl CredentialProvider for Counted {
    async fn credentials(
        &self,
        _: &Host,
        _: Option<&Name>,
    ) -> Result<Credentials, CredentialError> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Credentials::basic("alice", if asked == 0 { "old" } else { "new" }))
    }
}

#[tokio::test]
async fn a_provider_is_asked_once_and_again_when_the_registry_refuses() {
    for scheme in ["Basic", "Bearer realm=\"/token\""] {
        let old_is_good = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let good = old_is_good.clone();
        let server = Server::start(move |seen| {
            let old = good.load(Ordering::Relaxed);
            let password = if old { "YWxpY2U6b2xk" } else { "YWxpY2U6bmV3" };
            let challenge = Answer::status(401).header("WWW-Authenticate", scheme);
            let basic = format!("Basic {password}");
            let token = format!("Bearer t{old}");
            match seen.header("authorization") {
                Some(value) if seen.target.starts_with("/token") => match value == basic {
                    true => Answer::ok(format!(r#"{{"token":"t{old}"}}"#)),
                    false => Answer::status(401),
                },
                Some(value) if value == basic || value == token => Answer::ok("blob"),
                _ => challenge,
            }
        })
        .await;
        let asked = Arc::new(AtomicUsize::new(0));
        let repository = server.repository_of(builder().credentials(Counted(asked.clone())));
        let blob = Digest::sha256(b"blob");
        let all = (0..10).map(|_| repository.blob_size(&blob));
        for size in futures_util::future::join_all(all).await {
            assert_eq!(size.unwrap(), Some(4), "{scheme}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{scheme}");
        old_is_good.store(false, Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(repository.blob_size(&blob).await.unwrap(), Some(4), "{scheme}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2, "{scheme}");
    }
}

#[tokio::test]
async fn a_login_elsewhere_is_seen_by_a_client_that_was_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let config = DockerConfig::at(directory.path().join("config.json"));
    for scheme in ["Basic", "Bearer realm=\"/token\""] {
        let server = Server::start(move |seen| match seen.header("authorization") {
            Some("Basic YWxpY2U6c2VjcmV0" | "Bearer t") => Answer::ok(r#"{"token":"t"}"#),
            _ if seen.target.starts_with("/token") => Answer::error(401, "UNAUTHORIZED"),
            _ => Answer::status(401).header("WWW-Authenticate", scheme),
        })
        .await;
        let repository = server.repository_of(builder().credentials(config.clone()));
        let blob = Digest::sha256(b"blob");
        assert!(repository.blob_size(&blob).await.unwrap_err().is_unauthorized());
        config.store(&server.host, &Credentials::basic("alice", "secret")).await.unwrap();
        assert_eq!(repository.blob_size(&blob).await.unwrap(), Some(13), "{scheme}");
    }
}
