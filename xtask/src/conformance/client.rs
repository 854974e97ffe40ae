//! Sending requests: connections, TLS, credentials and time limits, and a record of every answer.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::Answer;
use super::auth::{Challenge, basic, token_url};
use super::request::Request;
use super::url::Url;
use super::wire::{Body, Reply, encode, exchange};

/// No request takes longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A registry, and what it has answered so far.
pub(super) struct Client {
    pub(super) base: Url,
    credentials: Option<(String, String)>,
    pub(super) authorizations: RefCell<HashMap<String, String>>,
    tls: RefCell<Option<TlsConnector>>,
    pub(super) answers: RefCell<Vec<Answer>>,
}

impl Client {
    pub(super) fn new(base: Url, credentials: Option<(String, String)>) -> Self {
        Self {
            base,
            credentials,
            authorizations: RefCell::default(),
            tls: RefCell::default(),
            answers: RefCell::default(),
        }
    }

    pub(super) fn request(&self, method: &'static str, url: Url) -> Request<'_> {
        Request::new(self, method, url)
    }

    /// Every answer of this run; the bodies of refusals alone.
    pub(super) fn answers(&self) -> Ref<'_, Vec<Answer>> {
        self.answers.borrow()
    }

    pub(super) async fn send_once(
        &self,
        method: &str,
        url: &Url,
        headers: &[(String, String)],
        body: &Body,
    ) -> Result<Reply, String> {
        let request = encode(method, &url.target, &url.authority, headers, body);
        let sent = async {
            let (host, port) = url.host_and_port()?;
            let stream = TcpStream::connect((host.as_str(), port))
                .await
                .map_err(|error| format!("connecting to {}: {error}", url.authority))?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            if !url.tls {
                return exchange(stream, &request, method).await;
            }
            let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
            let stream = self.tls()?.connect(name, stream).await;
            let stream = stream.map_err(|error| format!("TLS with {}: {error}", url.authority))?;
            exchange(stream, &request, method).await
        };
        tokio::time::timeout(TIME_LIMIT, sent)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", TIME_LIMIT.as_secs())))
    }

    fn tls(&self) -> Result<TlsConnector, String> {
        if let Some(tls) = &*self.tls.borrow() {
            return Ok(tls.clone());
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("setting up TLS: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        *self.tls.borrow_mut() = Some(tls.clone());
        Ok(tls)
    }

    /// What to answer to a 401.
    pub(super) async fn authorize(&self, reply: &Reply) -> Result<Option<String>, String> {
        let mut challenges = reply.all("www-authenticate").filter_map(Challenge::parse);
        let own = self.credentials.as_ref().map(|(username, password)| basic(username, password));
        match challenges.next() {
            Some(Challenge::Basic) => Ok(own),
            Some(Challenge::Bearer { realm, service, scope }) => {
                let url =
                    Url::parse(&token_url(&realm, service.as_deref(), scope.as_deref()), false)?;
                let headers: Vec<_> =
                    own.map(|own| ("Authorization".to_owned(), own)).into_iter().collect();
                let reply = self.send_once("GET", &url, &headers, &Body::None).await?;
                let token: serde_json::Value =
                    serde_json::from_slice(&reply.body).map_err(|_| {
                        format!("the token service answered {} without JSON", reply.status)
                    })?;
                let token = token.get("token").or_else(|| token.get("access_token"));
                let token = token.and_then(|token| token.as_str());
                let token = token.ok_or_else(|| {
                    format!("the token service answered {} without a token", reply.status)
                })?;
                Ok(Some(format!("Bearer {token}")))
            }
            None => Ok(None),
        }
    }
}
