//! Encrypted connections to a server that takes no others over the network.

use oci_ref::ErrorKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::opening::{open, refusal};
use super::server::{self, PASSWORD, Server};
use crate::support::error_of;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_spoken_to_as_sslmode_says() {
    if !server::is_there("a_server_is_spoken_to_as_sslmode_says") {
        return;
    }
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = certificate.signed_by(&key, &ours).unwrap().pem();
    let start = move || Server::start_encrypted(&certificate, &key.serialize_pem());
    let Some((server, port)) = tokio::task::spawn_blocking(start).await.unwrap() else {
        // The server that was named is not ours to change.
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (file("ours.pem", &ours.pem()), file("other.pem", &other.pem()));
    server::create(&server.url("postgres"), "registry").await;
    let url = |host: &str, settings: &str| {
        format!("postgres://admin:{PASSWORD}@{host}:{port}/registry?{settings}")
    };

    for (host, settings) in [
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ours}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ours}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ours}")),
    ] {
        let url = format!("{}&application_name=encrypted", url(host, &settings));
        let engine = open(&url).await.unwrap_or_else(|error| panic!("{settings}: {error:?}"));
        let plain = "SELECT count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl
                     JOIN pg_stat_activity USING (pid) WHERE application_name = 'encrypted'";
        assert_eq!(server::number(&server.url("registry"), plain).await, 0, "{settings}");
        engine.close().await;
    }
    let unproven = "cannot prove that it is the server";
    for (host, settings, told) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ours}"), unproven),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), unproven),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), unproven),
        ("localhost", format!("sslmode=require&sslrootcert={other}"), unproven),
        ("localhost", "sslmode=disable".to_owned(), "not without encryption"),
    ] {
        let (kind, message) = refusal(&url(host, &settings)).await;
        assert_eq!(kind, ErrorKind::Invalid, "{settings}: {message}");
        assert!(message.contains(told), "{settings}: {message}");
    }
    let missing = url("localhost", &format!("sslmode=verify-full&sslrootcert={ours}-not"));
    let error = error_of(open(&missing).await).to_string();
    assert!(error.contains("cannot read") && error.contains("ours.pem-not"), "{error}");
    // It does not encrypt what comes by its socket.
    let (kind, message) = refusal(&format!("{}&sslmode=require", server.url("registry"))).await;
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(message.contains("does not encrypt"), "{message}");
    // A wrong password is not shown, either.
    let wrong = url("localhost", "sslmode=require").replace(PASSWORD, "wrong-not-to-be-shown");
    let (_, message) = refusal(&wrong).await;
    assert!(message.contains("refuses the user or the password"), "{message}");
}
