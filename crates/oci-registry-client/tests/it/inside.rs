//! Registries that lead to addresses behind the client's own walls.

use oci_ref::{Blob, Store};
use oci_registry_client::{
    Client, ClientBuilder, Credentials, Error, Obstacle, PlainHttp, Proxies, Repository,
    StaticCredentials,
};
use oci_spec_types::{Algorithm, Descriptor, Digest, Host, MediaType};

use crate::server::{Answer, Seen, Server, builder};

const CONTENT: &[u8] = b"0123456789";

fn blob() -> Descriptor {
    Descriptor::of(MediaType::OCTET_STREAM, CONTENT)
}

fn name() -> Host {
    "registry.example".parse().unwrap()
}

/// Settings for a registry outside: behind a proxy, so that nobody here knows where it is.
fn outside(proxy: &Server) -> ClientBuilder {
    let password = Credentials::basic("bob", "SECRETPW");
    let proxies = Proxies::none().all(&proxy.url("")).unwrap();
    builder()
        .proxies(proxies)
        .plain_http(PlainHttp::Always)
        .credentials(StaticCredentials::new().with(name(), password))
}

fn repository(client: &Client) -> Repository {
    client.repository(&format!("{}/a/b", name()).parse().unwrap()).unwrap()
}

/// The host to which a registry must not lead.
fn refused(error: &oci_ref::Error) -> String {
    let error: &Error = error.find_source().unwrap();
    assert!(!error.is_retryable(), "{error}");
    match error.obstacle() {
        Some(Obstacle::Internal(host)) => host.clone(),
        other => panic!("{other:?}: {error}"),
    }
}

/// A way in which a registry leads somewhere.
#[derive(Clone, Copy, Debug)]
enum Way {
    Redirect,
    Upload,
    Token,
}

const WAYS: [Way; 3] = [Way::Redirect, Way::Upload, Way::Token];

impl Way {
    fn answer(self, to: &str, seen: &Seen) -> Answer {
        let authorized = seen.header("authorization").is_some();
        match self {
            Self::Redirect => Answer::status(307).header("Location", format!("{to}/blob")),
            Self::Upload => Answer::status(202).header("Location", format!("{to}/upload")),
            Self::Token if authorized => Answer::ok(CONTENT),
            Self::Token => Answer::status(401)
                .header("WWW-Authenticate", format!("Bearer realm=\"{to}/token\"")),
        }
    }

    async fn go(self, repository: &Repository) -> oci_ref::Result<()> {
        match self {
            Self::Upload => repository.put_blob(&blob(), &bytes::Bytes::from(CONTENT)).await,
            Self::Redirect | Self::Token => {
                let read = Blob::open(repository, &blob()).await?.into_bytes(100).await;
                read.map(|_| ())
            }
        }
    }
}

/// A server that lies inside: it would give everything.
async fn inside() -> Server {
    Server::start(|seen| match seen.target.split('?').next() {
        Some("/blob") => Answer::ok(CONTENT),
        Some("/token") => Answer::ok(r#"{"token":"t"}"#),
        _ => Answer::status(201),
    })
    .await
}

// google/go-containerregistry: "refuse private realms, Locations and URLs" (a2f47d42, e5983f2a)
#[tokio::test]
async fn a_registry_outside_does_not_lead_inside() {
    for way in WAYS {
        let inside = inside().await;
        let port = inside.host.port().unwrap();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "10.0.0.1"] {
            let to = format!("http://{host}:{port}");
            let proxy = Server::start(move |seen| way.answer(&to, seen)).await;
            let client = outside(&proxy).build().unwrap();
            let error = way.go(&repository(&client)).await.unwrap_err();
            refused(&error);
            assert!(
                error.to_string().contains("the registry that leads there is not at one"),
                "{error}"
            );
            assert!(!format!("{error:?}").contains("SECRETPW"), "{error:?}");
        }
        assert!(inside.seen().is_empty(), "{way:?}: {:?}", inside.lines());
    }
}

#[tokio::test]
async fn what_is_named_may_be_led_to() {
    for way in WAYS {
        let inside = inside().await;
        let to = inside.url("");
        let proxy = Server::start(move |seen| way.answer(&to, seen)).await;
        let other = "127.0.0.1:1".parse().unwrap();
        let client = outside(&proxy).allow_internal([other]).build().unwrap();
        assert_eq!(refused(&way.go(&repository(&client)).await.unwrap_err()), "127.0.0.1");
        for named in [inside.host.clone(), "127.0.0.1".parse().unwrap()] {
            let before = inside.seen().len();
            let client = outside(&proxy).allow_internal([named]).build().unwrap();
            way.go(&repository(&client)).await.unwrap();
            assert_eq!(inside.seen().len(), before + 1, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_registry_inside_leads_to_its_own_kind() {
    for way in WAYS {
        let inside = inside().await;
        let to = inside.url("");
        let registry = Server::start(move |seen| way.answer(&to, seen)).await;
        let password = Credentials::basic("bob", "secret");
        let known = StaticCredentials::new().with(registry.host.clone(), password);
        let repository = registry.repository_of(builder().credentials(known));
        way.go(&repository).await.unwrap();
        assert_eq!(inside.seen().len(), 1, "{way:?}");
    }
}

/// Machines in clouds have their secrets there, and no registry.
#[tokio::test]
async fn a_registry_on_this_machine_does_not_lead_to_link_local_addresses() {
    for way in WAYS {
        for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"] {
            let to = format!("http://{host}");
            let registry = Server::start(move |seen| way.answer(&to, seen)).await;
            let repository = registry.repository_of(builder().plain_http(PlainHttp::Always));
            refused(&way.go(&repository).await.unwrap_err());
        }
    }
}

/// An upload of an earlier process leads elsewhere before the registry itself has been asked.
#[tokio::test]
async fn a_registry_with_a_name_is_where_it_answers() {
    let inside = Server::start(|seen| match seen.method.as_str() {
        "PUT" => Answer::status(201),
        "GET" => Answer::status(204).header("Range", "0-3").header("Location", "/upload"),
        _ => Answer::status(202).header("Range", "0-3").header("Location", "/upload"),
    })
    .await;
    let to = inside.url("/upload");
    let registry = Server::start(move |seen| match seen.method.as_str() {
        "POST" => Answer::status(202).header("Location", &to),
        _ => Answer::ok("{}"),
    })
    .await;
    // A name, which is known to this client alone.
    let host = format!("registry.example:{}", registry.host.port().unwrap());
    let open = || {
        let known = || {
            let here = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            reqwest::Client::builder().resolve("registry.example", here)
        };
        let client = builder().plain_http(PlainHttp::Always).chunk_size(4).http(known).build();
        client.unwrap().repository(&format!("{host}/a/b").parse().unwrap()).unwrap()
    };
    let mut staged = open().stage(Algorithm::Sha256).await.unwrap();
    staged.append("0123".into()).await.unwrap();
    let name = staged.suspend().await.unwrap();
    let before = registry.lines().len();
    let staged = open().resume(&name).await.unwrap();
    assert_eq!(staged.offset(), 4);
    assert_eq!(registry.lines()[before..], ["GET /v2/"]);
    staged.commit(&Digest::sha256(b"0123")).await.unwrap();
}
