//! Reaching registries: plain HTTP and TLS by side and by host, certificates, proxies.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use oci_registry_server::{TestAuth, TestRegistry};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{OCICTL, scratch};

pub(crate) fn run(home: &Path, args: &[&str]) -> Output {
    run_with(home, args, &[])
}

fn run_with(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(OCICTL);
    command.args(args).env("HOME", home).env("OCICTL_LOG", "warn");
    for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn assert_done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn assert_hint(output: &Output, hint: &str) {
    assert!(!output.status.success(), "{}", said(output));
    assert!(said(output).contains(&format!("hint: {hint}")), "{}", said(output));
}

/// A registry by plain HTTP, and the same by TLS with a certificate that is its own authority, as
/// `openssl req -x509` makes it.
struct Both {
    _runtime: tokio::runtime::Runtime,
    _registry: TestRegistry,
    plain: String,
    tls: String,
    certificate: String,
}

fn both(auth: Option<TestAuth>) -> Both {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut builder = TestRegistry::builder();
    if let Some(auth) = auth {
        builder = builder.auth(auth);
    }
    let registry = runtime.block_on(builder.start()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap().pem();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let tls = listener.local_addr().unwrap().to_string();
    let plain = registry.host();
    let to = plain.clone();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut registry) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut registry).await;
            });
        }
    });
    Both { _runtime: runtime, _registry: registry, plain, tls, certificate }
}

// covers: C29
#[test]
fn a_self_signed_registry_on_this_machine_is_reached_and_beside_it_one_by_plain_http() {
    let (scratch, layout, _) = scratch();
    let home = scratch.path();
    let both = both(None);
    let ca = home.join("registry.crt");
    std::fs::write(&ca, &both.certificate).unwrap();
    let ca = ca.to_str().unwrap();
    let (from, tls) = (format!("{layout}:image"), format!("docker://{}/a/b:v1", both.tls));
    let plain = format!("docker://{}/a/c:v1", both.plain);

    let refused = run(home, &["copy", &from, &tls]);
    assert_hint(&refused, "--ca-file FILE trusts");
    assert_done(&run(home, &["copy", "--ca-file", ca, &from, &tls]));
    assert_done(&run(home, &["inspect", "--ca-file", ca, &tls]));
    // One side by TLS, the other by plain HTTP.
    assert_done(&run(home, &["copy", "--from-ca-file", ca, &tls, &plain]));
    assert_done(&run(home, &["copy", "--to-ca-file", ca, &plain, &tls]));
    assert_hint(&run(home, &["copy", "--from-ca-file", ca, &plain, &tls]), "--ca-file FILE trusts");

    let open = run(home, &["inspect", "--insecure-tls", &both.tls, &tls]);
    assert_done(&open);
    let warning = format!("the TLS certificate of {} is not verified", both.tls);
    assert!(said(&open).contains(&warning), "{}", said(&open));

    // As Docker and containers have certificates.
    let directory = home.join(".config/containers/certs.d").join(&both.tls);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("ca.crt"), &both.certificate).unwrap();
    assert_done(&run(home, &["inspect", &tls]));
    let named = run(home, &["inspect", "--cert-dir", directory.to_str().unwrap(), &tls]);
    assert_done(&named);

    // For all: where TLS is not spoken.
    assert_done(&run(home, &["copy", "--plain-http", &tls, &plain]));
    let by_host = format!("--plain-http={}", both.tls);
    assert_hint(&run(home, &["inspect", &by_host, &tls]), "the registry speaks HTTPS");
    let by_host = format!("--plain-http={}", both.plain);
    assert_done(&run(home, &["inspect", &by_host, &tls]));
}

#[test]
fn a_side_has_a_user_of_its_own() {
    let (scratch, layout, _) = scratch();
    let home = scratch.path();
    let (one, other) = (
        both(Some(TestAuth::basic().user("alice", "one"))),
        both(Some(TestAuth::bearer().user("bob", "two"))),
    );
    let password = |name: &str, text: &str| {
        let file = home.join(name);
        std::fs::write(&file, format!("{text}\n")).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (first, second) = (password("one", "one"), password("two", "two"));
    let from = format!("{layout}:image");
    let there = format!("docker://{}/a/b:v1", one.plain);
    let alice = ["--user", "alice", "--password-file", &first];
    assert_done(&run(home, &[&["copy"], &alice[..], &[&from, &there]].concat()));
    let back = format!("docker://{}/a/b:v1", other.plain);
    let sides = [
        "copy",
        "--from-user",
        "alice",
        "--from-password-file",
        &first,
        "--to-user",
        "bob",
        "--to-password-file",
        &second,
        &there,
        &back,
    ];
    assert_done(&run(home, &sides));
    let swapped = [
        "copy",
        "--from-user",
        "bob",
        "--from-password-file",
        &second,
        "--to-user",
        "alice",
        "--to-password-file",
        &first,
        &there,
        &back,
    ];
    let refused = run(home, &swapped);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    let absent = home.join("absent.json");
    let refused = run(home, &["inspect", "--authfile", absent.to_str().unwrap(), &there]);
    assert!(said(&refused).contains("absent.json is not there"), "{}", said(&refused));
    let both_from_stdin = [
        "copy",
        "--from-user",
        "alice",
        "--from-password-file",
        "-",
        "--to-user",
        "bob",
        "--to-password-file",
        "-",
        &there,
        &back,
    ];
    let refused = run(home, &both_from_stdin);
    assert!(said(&refused).contains("one password alone"), "{}", said(&refused));
}

// docker/compose#13825, golang/go#51416
#[test]
fn a_proxy_is_not_for_this_machine_and_errors_name_it() {
    let (scratch, layout, _) = scratch();
    let both = both(None);
    let there = format!("docker://{}/a/b:v1", both.plain);
    let from = format!("{layout}:image");
    let proxy = [("HTTP_PROXY", "http://me:SECRET@127.0.0.1:1")];
    assert_done(&run_with(scratch.path(), &["copy", &from, &there], &proxy));
    let far = ["inspect", "--retries", "0", "--plain-http", "docker://registry.example/a/b:v1"];
    let refused = run_with(scratch.path(), &far, &proxy);
    let text = said(&refused);
    assert!(
        text.contains("through the proxy http://127.0.0.1:1") && !text.contains("SECRET"),
        "{text}"
    );
    let wrong = run_with(scratch.path(), &far, &[("HTTP_PROXY", "ftp://me:SECRET@proxy.example")]);
    let text = said(&wrong);
    assert!(text.contains("HTTP_PROXY") && !text.contains("SECRET"), "{text}");
}
