//! One registry: a host, and what is not of a single repository.

use std::fmt;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use http::Method;
use oci_ref::{Cursor, ErrorKind, Page};
use oci_spec_types::{ErrorCode, Host, Name};
use reqwest::Url;
use serde::Deserialize;

use crate::auth::Scopes;
use crate::client::HostState;
use crate::page::{self, PageRequest};
use crate::request::{About, Request};
use crate::retry::Attempts;
use crate::scheme::Scheme;
use crate::{Client, Error, Repository, Result};

/// A registry. Clones are cheap.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    client: Client,
    host: Host,
    /// `https://HOST/v2/`, or by plain HTTP.
    base: Url,
    /// The same by HTTPS, where plain HTTP is asked first and either may be spoken.
    https: Option<Url>,
    state: Arc<HostState>,
    /// The registry whose content this one mirrors.
    mirrored: Option<Host>,
    /// The mirrors of this one, and whether each knows tags.
    mirrors: Vec<(Registry, bool)>,
}

impl Registry {
    /// A registry with its mirrors.
    pub(crate) fn new(client: Client, host: Host) -> Result<Self> {
        let mirrors = client.config().mirrors.get(&host).into_iter().flatten();
        let mirrors = mirrors.map(|mirror| {
            let (client, mirrored) = (client.clone(), Some(host.clone()));
            let registry = Self::open(client, mirror.host.clone(), mirrored, Vec::new())?;
            Ok((registry, mirror.tags))
        });
        let mirrors = mirrors.collect::<Result<_>>()?;
        Self::open(client, host, None, mirrors)
    }

    fn open(
        client: Client,
        host: Host,
        mirrored: Option<Host>,
        mirrors: Vec<(Self, bool)>,
    ) -> Result<Self> {
        let scheme = client.config().plain_http.scheme(&host);
        // The name by which references know Docker Hub is not where its registry answers.
        let address = match host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{address}/v2/")).map_err(|error| {
                Error::new(ErrorKind::Invalid, format!("registry {host}"), error.to_string())
                    .with_source(error)
            })
        };
        let (base, https) = match scheme {
            Scheme::Https => (url("https")?, None),
            Scheme::Http => (url("http")?, None),
            Scheme::Either => (url("http")?, Some(url("https")?)),
        };
        let state = client.host_state(&host);
        Ok(Self(Arc::new(Inner { client, host, base, https, state, mirrored, mirrors })))
    }

    /// The registry's name in references.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// A repository of this registry.
    pub fn repository(&self, name: Name) -> Repository {
        Repository::new(self.clone(), name)
    }

    /// Asks whether there is a registry that the caller may use (distribution-spec, "Determining Support").
    pub async fn ping(&self) -> Result<()> {
        let about = About::new(format!("registry {}", self.host()), ErrorCode::Unsupported);
        let request = Request::new(Method::GET, self.base().clone(), about);
        self.send(&request).await.map(|_| ())
    }

    /// A page of at most `limit` names of repositories. Many registries do not have this.
    pub async fn catalog(&self, after: Option<&Cursor>, limit: usize) -> Result<Page<Name>> {
        #[derive(Deserialize)]
        struct Catalog {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        let about = About::new(format!("catalogue of {}", self.host()), ErrorCode::Unsupported);
        let page = PageRequest { first: self.url("_catalog"), after, limit };
        let request = |url| Request::new(Method::GET, url, about.clone()).scopes(Scopes::catalog());
        page::read(self, page, request, |body: Catalog| {
            let names = body.repositories.unwrap_or_default();
            names.into_iter().map(|name| (name.parse().ok(), name)).collect()
        })
        .await
    }

    /// All names of repositories, in pages of `page_size`, after the name `last` if there is one. The stream ends after an
    /// error.
    pub fn catalog_stream(
        &self,
        last: Option<&Name>,
        page_size: usize,
    ) -> BoxStream<'static, Result<Name>> {
        let (registry, page_size) = (self.clone(), page_size.max(1));
        page::stream(last.map(|name| Cursor::After(name.to_string())), move |after| {
            let registry = registry.clone();
            async move { registry.catalog(after.as_ref(), page_size).await }
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn state(&self) -> &HostState {
        &self.0.state
    }

    /// The registry whose content this one mirrors, if it does.
    pub(crate) fn mirrored(&self) -> Option<&Host> {
        self.0.mirrored.as_ref()
    }

    /// The mirrors of this registry, and whether each knows tags.
    pub(crate) fn mirrors(&self) -> &[(Self, bool)] {
        &self.0.mirrors
    }

    /// The attempts at one thing. A mirror has one: there are others to ask.
    pub(crate) fn attempts(&self) -> Attempts {
        match self.0.mirrored {
            Some(_) => Attempts::once(),
            None => Attempts::new(self.0.client.clone()),
        }
    }

    pub(crate) fn base(&self) -> &Url {
        self.https().filter(|_| self.state().spoken.is_tls()).unwrap_or(&self.0.base)
    }

    /// The registry's address by the scheme that is asked first.
    pub(crate) fn asked_first(&self) -> &Url {
        &self.0.base
    }

    /// The registry's address by HTTPS, where either scheme may be spoken.
    pub(crate) fn https(&self) -> Option<&Url> {
        self.0.https.as_ref()
    }

    /// Where the registry answers, as text.
    pub(crate) fn origin_text(&self) -> String {
        self.base().origin().ascii_serialization()
    }

    /// An address below `/v2/`. Names, tags and digests need no escapes.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base().clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.base().as_str()).finish()
    }
}
