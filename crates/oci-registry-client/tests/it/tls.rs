//! https: whom the client trusts, who it is, which HTTP it speaks, and through what it goes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use oci_ref::{ArtifactBuilder, CopyOptions, LayerContent, Memory, copy};
use oci_registry_client::{
    Client, ClientBuilder, Credentials, Error, PlainHttp, Proxies, StaticCredentials, TlsFault,
    TlsOptions,
};
use oci_registry_server::{MemoryRegistry, ServerOptions, TestRegistry, router};
use oci_spec_types::{Host, MediaType, Tag};
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

type Answers = http::Response<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// What answers requests.
type App = Arc<dyn Fn(http::Request<Incoming>) -> BoxFuture<'static, Answers> + Send + Sync>;

/// The same answer to all requests, without a body.
fn always(status: u16, header: Option<(&'static str, String)>) -> App {
    Arc::new(move |_| {
        let mut answer = http::Response::builder().status(status);
        if let Some((name, value)) = &header {
            answer = answer.header(*name, value);
        }
        let body = http_body_util::Empty::new().map_err(Into::into).boxed_unsync();
        std::future::ready(answer.body(body).unwrap()).boxed()
    })
}

/// A registry by https on 127.0.0.1 that offers these protocols, and wants clients that this authority vouches for.
async fn serve(
    identity: &Identity,
    protocols: &[&str],
    clients: Option<&Authority>,
) -> (Host, Seen) {
    serve_app(identity, protocols, clients, always(200, None)).await
}

async fn serve_app(
    identity: &Identity,
    protocols: &[&str],
    clients: Option<&Authority>,
    app: App,
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
            let (acceptor, seen, app) = (acceptor.clone(), all.clone(), app.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let known = stream.get_ref().1.peer_certificates().is_some();
                let service = service_fn(move |request: http::Request<Incoming>| {
                    seen.lock().unwrap().push((request.version(), known));
                    let answer = app(request);
                    async move { Ok::<_, Infallible>(answer.await) }
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

/// A certificate that is its own authority, as `openssl req -x509` makes it.
fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let chain = params.self_signed(&key).unwrap().pem();
    Identity { chain, key: key.serialize_pem() }
}

// covers: C29
// seanmonstar/reqwest#2041, rustls/webpki#205
#[tokio::test]
async fn a_certificate_that_the_user_named_is_its_own_authority() {
    let ends = |year| {
        move |params: &mut CertificateParams| {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
    };
    let leaf = |params: &mut CertificateParams| params.is_ca = IsCa::NoCa;
    let cases: [(Identity, Option<TlsFault>); 4] = [
        (self_signed("127.0.0.1", |_| {}), None),
        (self_signed("127.0.0.1", leaf), None),
        (self_signed("registry.example", |_| {}), Some(TlsFault::OtherName)),
        (self_signed("127.0.0.1", ends(2001)), Some(TlsFault::Dates)),
    ];
    for (number, (identity, fault)) in cases.into_iter().enumerate() {
        let (host, _) = serve(&identity, BOTH, None).await;
        let beside_the_platform = Client::builder().no_proxy().plain_http(PlainHttp::Never);
        for builder in [builder(), beside_the_platform] {
            let named = builder.add_root_certificates(identity.chain.clone());
            let answer = ping(named, &host).await;
            assert_eq!(
                answer.as_ref().err().map(|error| error.tls_fault()),
                fault.map(Some),
                "{number}: {answer:?}"
            );
        }
        // One that was not named is refused, also beside one that was.
        let other = builder().add_root_certificates(self_signed("127.0.0.1", |_| {}).chain);
        let error = ping(other, &host).await.unwrap_err();
        let expected = fault.filter(|fault| *fault == TlsFault::Dates);
        assert_eq!(
            error.tls_fault(),
            expected.or(Some(TlsFault::UnknownAuthority)),
            "{number}: {error}"
        );
    }
}

// covers: C29
#[tokio::test]
async fn a_named_certificate_that_another_authority_signed_is_accepted_alone() {
    let authority = Authority::new();
    let (one, other) = (authority.vouch("127.0.0.1"), authority.vouch("127.0.0.1"));
    let (host, _) = serve(&one, BOTH, None).await;
    ping(builder().add_root_certificates(one.chain.clone()), &host).await.unwrap();
    let (host, _) = serve(&other, BOTH, None).await;
    let error = ping(builder().add_root_certificates(one.chain), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::UnknownAuthority), "{error}");
}

// covers: C29
#[tokio::test]
async fn settings_of_one_registry_are_for_it_alone() {
    let (mine, clients) = (Authority::new(), Authority::new());
    let me = clients.vouch("me.example");
    let (registry, seen) = serve(&mine.vouch("127.0.0.1"), BOTH, Some(&clients)).await;
    let (elsewhere, _) = serve(&mine.vouch("127.0.0.1"), BOTH, None).await;
    let tls =
        TlsOptions::new().add_root_certificates(mine.pem()).client_certificate(me.chain, me.key);
    let client = builder().registry_tls(registry.clone(), tls).build().unwrap();
    client.registry(&registry).unwrap().ping().await.unwrap();
    assert!(seen.lock().unwrap()[0].1, "the client has a certificate");
    let error = client.registry(&elsewhere).unwrap().ping().await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::UnknownAuthority), "{error}");
}

// covers: C29
#[tokio::test]
async fn where_a_registry_leads_its_authorities_count_and_its_other_settings_do_not() {
    let authority = Authority::new();
    let me = authority.vouch("me.example");
    let (storage, seen) = serve(&authority.vouch("127.0.0.1"), BOTH, None).await;
    let (stranger, _) = serve(&Authority::new().vouch("127.0.0.1"), BOTH, None).await;
    for (target, reached) in [(&storage, true), (&stranger, false)] {
        let leads = always(307, Some(("location", format!("https://{target}/v2/"))));
        // Whoever vouches for it, its own certificate is accepted.
        let unknown = Authority::new().vouch("registry.example");
        let (registry, _) = serve_app(&unknown, BOTH, None, leads).await;
        let tls = TlsOptions::new()
            .add_root_certificates(authority.pem())
            .client_certificate(me.chain.clone(), me.key.clone())
            .accept_any_certificate();
        let answer = ping(builder().registry_tls(registry.clone(), tls), &registry).await;
        assert_eq!(answer.is_ok(), reached, "{answer:?}");
    }
    assert!(!seen.lock().unwrap()[0].1, "no certificate of the client is shown elsewhere");
}

// covers: C29
#[tokio::test]
async fn certificates_are_found_in_directories_as_docker_has_them() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let me = clients.vouch("me.example");
    let (host, seen) = serve(&servers.vouch("127.0.0.1"), BOTH, Some(&clients)).await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directories = || [first.path().to_owned(), second.path().to_owned()];
    let found = || builder().certificate_directories(directories());
    let error = ping(found(), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::UnknownAuthority), "{error}");

    let directory = second.path().join(host.as_str());
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("ca.crt"), servers.pem()).unwrap();
    std::fs::write(directory.join("README"), "left alone").unwrap();
    std::fs::write(directory.join("client.cert"), me.chain).unwrap();
    let error = ping(found(), &host).await.unwrap_err().to_string();
    assert!(
        error.contains("client.cert is there without") && error.contains("client.key"),
        "{error}"
    );
    std::fs::write(directory.join("client.key"), me.key).unwrap();
    ping(found(), &host).await.unwrap();
    assert!(seen.lock().unwrap()[0].1);

    // The first directory of that name counts, alone.
    let directory = first.path().join(host.as_str());
    std::fs::create_dir(&directory).unwrap();
    let error = ping(found(), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::UnknownAuthority), "{error}");
    std::fs::write(directory.join("ca.crt"), "nonsense").unwrap();
    let error = ping(found(), &host).await.unwrap_err().to_string();
    assert!(error.contains("root certificate"), "{error}");
}

/// Settings with which plain HTTP is asked first.
fn either() -> ClientBuilder {
    Client::builder().no_proxy().only_added_root_certificates()
}

// covers: C29
#[tokio::test]
async fn tls_on_this_machine_is_found_out() {
    let authority = Authority::new();
    let (host, seen) = serve(&authority.vouch("127.0.0.1"), BOTH, None).await;
    let client = either().add_root_certificates(authority.pem()).build().unwrap();
    let registry = client.registry(&host).unwrap();
    registry.ping().await.unwrap();
    // Known from then on, by whoever shares the client.
    client.registry(&host).unwrap().ping().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
    // Several may find out at a time.
    let client = either().add_root_certificates(authority.pem()).build().unwrap();
    let registry = client.registry(&host).unwrap();
    let pings = (0..8).map(|_| registry.ping());
    futures_util::future::try_join_all(pings).await.unwrap();
    // Certificates are verified as ever.
    let error = ping(either(), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::UnknownAuthority), "{error}");
    // Whoever asked for plain HTTP gets that, or is told why not.
    let error = ping(either().plain_http(PlainHttp::Always), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::Https), "{error}");
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn plain_http_on_this_machine_stays_plain() {
    // The first answer may be a refusal like that of a port that speaks TLS.
    for status in [200, 400, 401, 500] {
        let server = Server::start(move |_| Answer::status(status)).await;
        let _ = ping(either(), &server.host).await;
        assert_eq!(server.lines(), ["GET /v2/"], "{status}");
    }
    let server = TestRegistry::start().await.unwrap();
    let error = ping(builder(), &server.host().parse().unwrap()).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::PlainHttp), "{error}");
    assert!(!error.is_retryable(), "{error}");
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

#[tokio::test]
async fn an_image_goes_there_and_back_by_either_http() {
    let authority = Authority::new();
    for protocols in [&["h2"], &["http/1.1"]] {
        let registry = router(Arc::new(MemoryRegistry::new()), ServerOptions::new());
        let app: App = Arc::new(move |request| {
            let service = TowerToHyperService::new(registry.clone());
            let answer = async move { service.call(request).await.unwrap() };
            answer.map(|answer| answer.map(|body| body.map_err(Into::into).boxed_unsync())).boxed()
        });
        let (host, seen) = serve_app(&authority.vouch("127.0.0.1"), protocols, None, app).await;
        let client = builder().add_root_certificates(authority.pem()).build().unwrap();
        let repository = client.registry(&host).unwrap().repository("a/b".parse().unwrap());
        let kind = MediaType::OCTET_STREAM;
        let artifact = (0..4u32).fold(ArtifactBuilder::new(kind.clone()), |artifact, layer| {
            // More than the windows of HTTP/2 let through at once.
            let content: Vec<u8> =
                (0..6 << 20).map(|at: u32| (at ^ (at >> (8 + layer))) as u8).collect();
            artifact.layer(LayerContent::blob(kind.clone(), content))
        });
        let tag: Tag = "1".parse().unwrap();
        let from = Arc::new(Memory::new());
        let written = artifact.write(&from, std::slice::from_ref(&tag)).await.unwrap();
        let options = CopyOptions { tags: vec![tag.clone()], ..CopyOptions::default() };
        let there = Arc::new(repository);
        copy(from, &tag.clone().into(), there.clone(), options.clone()).await.unwrap();
        let back = Arc::new(Memory::new());
        let copied = copy(there, &tag.into(), back, options).await.unwrap();
        assert_eq!((copied.descriptor.digest, copied.blobs), (written.digest().clone(), 5));
        let version =
            if protocols[0] == "h2" { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        assert!(seen.lock().unwrap().iter().all(|(found, _)| *found == version));
    }
}

#[tokio::test]
async fn from_https_nothing_leads_to_plain_http() {
    let authority = Authority::new();
    let thief = Server::start(|_| Answer::ok(r#"{"token":"t"}"#)).await;
    let token = format!("Bearer realm=\"{}\",service=\"s\"", thief.url("/token"));
    let cases = [
        (always(401, Some(("www-authenticate", token))), "not reached by https"),
        (always(307, Some(("location", thief.url("/v2/")))), "from https to plain http"),
    ];
    for (app, said) in cases {
        let (host, _) = serve_app(&authority.vouch("127.0.0.1"), BOTH, None, app).await;
        let credentials =
            StaticCredentials::new().with(host.clone(), Credentials::basic("alice", "secret"));
        let builder = builder().add_root_certificates(authority.pem()).credentials(credentials);
        // Even where plain HTTP to the thief would be allowed.
        let plain = PlainHttp::Hosts([thief.host.clone()].into());
        let error = ping(builder.plain_http(plain), &host).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(thief.seen().is_empty());
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
            // Every name leads to this machine.
            let port: u16 = target.rsplit_once(':').unwrap().1.parse().unwrap();
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut to).await });
        }
    });
    (url, seen)
}

#[tokio::test]
async fn https_goes_through_a_proxy_s_tunnel() {
    let authority = Authority::new();
    let (host, seen) = serve(&authority.vouch("registry.example"), BOTH, None).await;
    let named: Host = format!("registry.example:{}", host.port().unwrap()).parse().unwrap();
    let (proxy, lines) = tunnels().await;
    let proxied = || {
        let proxies = Proxies::none().all(&proxy).unwrap();
        builder().proxies(proxies).add_root_certificates(authority.pem())
    };
    // The certificate that counts is the registry's.
    ping(proxied(), &named).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), [format!("CONNECT {named} HTTP/1.1")]);
    assert_eq!(seen.lock().unwrap().len(), 1);
    // This machine is not reached through it: the certificate is for another name.
    let error = ping(proxied(), &host).await.unwrap_err();
    assert_eq!(error.tls_fault(), Some(TlsFault::OtherName), "{error}");
    assert_eq!(lines.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn plain_http_goes_through_a_proxy() {
    let proxy = Server::start(|_| Answer::status(200)).await;
    let address = proxy.url("").replace("http://", "http://me:SECRET@");
    let proxies = Proxies::none().all(&address).unwrap().no_proxy("direct.example:1");
    let proxied =
        || crate::server::builder().plain_http(PlainHttp::Always).proxies(proxies.clone());
    ping(proxied(), &"registry.example".parse().unwrap()).await.unwrap();
    assert_eq!(proxy.lines(), ["GET http://registry.example/v2/"]);
    let seen = proxy.seen();
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic bWU6U0VDUkVU"));
    ping(proxied(), &"direct.example:1".parse().unwrap()).await.unwrap_err();
    assert_eq!(proxy.seen().len(), 1, "what is to be reached directly is");
}

#[tokio::test]
async fn an_error_names_the_proxy_without_its_password() {
    for scheme in ["http", "socks5"] {
        let proxies = format!("{scheme}://me:SECRET@127.0.0.1:1");
        let proxied = builder().proxies(Proxies::none().all(&proxies).unwrap());
        let error = ping(proxied, &"registry.example".parse().unwrap()).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("through the proxy {scheme}://127.0.0.1:1")), "{text}");
        assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_socks_proxy_is_spoken_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("socks5h://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // RFC 1928: the methods that the client offers, then one of them: none.
        let mut methods = [0; 2];
        stream.read_exact(&mut methods).await.unwrap();
        stream.read_exact(&mut vec![0; methods[1].into()]).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap();
        // Connect to a name of so many bytes.
        let mut request = [0; 5];
        stream.read_exact(&mut request).await.unwrap();
        let mut name = vec![0; request[4].into()];
        stream.read_exact(&mut name).await.unwrap();
        let port = stream.read_u16().await.unwrap();
        stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 1]).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        (request, String::from_utf8(name).unwrap(), port, line)
    });
    let proxied = crate::server::builder()
        .plain_http(PlainHttp::Always)
        .proxies(Proxies::none().all(&proxy).unwrap());
    ping(proxied, &"registry.example:5000".parse().unwrap()).await.unwrap();
    let (request, name, port, line) = asked.await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 3], "a connection to a name that the proxy looks up");
    assert_eq!((name.as_str(), port), ("registry.example", 5000));
    assert_eq!(line, "GET /v2/ HTTP/1.1\r\n");
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
