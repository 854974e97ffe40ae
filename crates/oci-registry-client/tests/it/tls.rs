//! https: whom the client trusts, who it is, which HTTP it speaks, and through what it goes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use oci_registry_client::{Client, ClientBuilder, Error, PlainHttp};
use oci_spec_types::Host;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::server::{Answer, Server};

/// Somebody who vouches for others.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn vouch(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { chain, key: key.serialize_pem() }
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// What a request came by: its HTTP version, and whether the client had a certificate.
type Seen = Arc<Mutex<Vec<(http::Version, bool)>>>;

/// A registry by https on 127.0.0.1 that offers these protocols, and wants clients that this authority vouches for.
async fn serve(
    identity: &Identity,
    protocols: &[&str],
    clients: Option<&Authority>,
) -> (Host, Seen) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone());
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&authority.pem()));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = config.with_single_cert(certificates(&identity.chain), key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string().parse().unwrap();
    let seen = Seen::default();
    let all = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), all.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let known = stream.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request: http::Request<Incoming>| {
                    seen.lock().unwrap().push((request.version(), known));
                    async { Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new())) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (host, seen)
}

/// https also to this machine.
fn builder() -> ClientBuilder {
    Client::builder().no_proxy().only_added_root_certificates().plain_http(PlainHttp::Never)
}

async fn ping(builder: ClientBuilder, host: &Host) -> Result<(), Error> {
    builder.build().unwrap().registry(host).unwrap().ping().await
}

const BOTH: &[&str] = &["h2", "http/1.1"];

#[tokio::test]
async fn an_authority_that_was_added_is_trusted_and_no_other() {
    let authority = Authority::new();
    let (host, seen) = serve(&authority.vouch("127.0.0.1"), BOTH, None).await;
    ping(builder().add_root_certificates(authority.pem()), &host).await.unwrap();

    let stranger = builder().add_root_certificates(Authority::new().pem());
    // The platform does not know it either.
    let platform = Client::builder().no_proxy().plain_http(PlainHttp::Never);
    for (what, builder) in [("none", builder()), ("another", stranger), ("the platform", platform)]
    {
        let error = ping(builder, &host).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("certificate") || text.contains("https is not possible"), "{text}");
        assert!(text.contains(&format!("https://{host}/v2/")), "{what}: {text}");
        assert!(!error.is_retryable(), "{what}: it will not be trusted later either: {text}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1, "nothing is asked of a stranger");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let (host, _) = serve(&authority.vouch("registry.example"), BOTH, None).await;
    let error = ping(builder().add_root_certificates(authority.pem()), &host).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("not valid for name") && !error.is_retryable(), "{text}");
}

#[tokio::test]
async fn a_client_says_who_it_is_by_its_certificate() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let (host, seen) = serve(&servers.vouch("127.0.0.1"), BOTH, Some(&clients)).await;
    let trusting = || builder().add_root_certificates(servers.pem());
    let me = clients.vouch("me.example");
    ping(trusting().client_certificate(me.chain, me.key), &host).await.unwrap();
    assert!(seen.lock().unwrap()[0].1);
    let error = ping(trusting(), &host).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let other = Authority::new().vouch("me.example");
    ping(trusting().client_certificate(other.chain, other.key), &host).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered() {
    let authority = Authority::new();
    for (offered, expected) in [
        (BOTH, http::Version::HTTP_2),
        (&["http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let (host, seen) = serve(&authority.vouch("127.0.0.1"), offered, None).await;
        ping(builder().add_root_certificates(authority.pem()), &host).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(expected, false)], "{offered:?}");
    }
}

/// A proxy that opens tunnels, and gives the first lines of what it was asked.
async fn tunnels() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let lines = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).await.unwrap();
            }
            let line = head.lines().next().unwrap().to_owned();
            let target = line.split(' ').nth(1).unwrap().to_owned();
            lines.lock().unwrap().push(line);
            let mut to = TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut to).await });
        }
    });
    (url, seen)
}

#[tokio::test]
async fn https_goes_through_a_proxy_s_tunnel() {
    let authority = Authority::new();
    let (host, seen) = serve(&authority.vouch("127.0.0.1"), BOTH, None).await;
    let (proxy, lines) = tunnels().await;
    let proxied = builder().proxy(reqwest::Proxy::https(proxy).unwrap());
    // The certificate that counts is the registry's.
    ping(proxied.add_root_certificates(authority.pem()), &host).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), [format!("CONNECT {host} HTTP/1.1")]);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn plain_http_goes_through_a_proxy() {
    let proxy = Server::answering([Answer::status(200)]).await;
    let proxied = crate::server::builder()
        .plain_http(PlainHttp::Always)
        .proxy(reqwest::Proxy::all(proxy.url("")).unwrap());
    ping(proxied, &"registry.example".parse().unwrap()).await.unwrap();
    assert_eq!(proxy.lines(), ["GET http://registry.example/v2/"]);
}

#[tokio::test]
async fn silence_in_a_handshake_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host: Host = listener.local_addr().unwrap().to_string().parse().unwrap();
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let timeout = std::time::Duration::from_millis(50);
    let error = ping(builder().connect_timeout(timeout), &host).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    silent.await.unwrap();
}
