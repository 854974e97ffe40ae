//! One registry: a host, and what is not of a single repository.

use std::fmt;
use std::sync::Arc;

use http::Method;
use oci_ref::{Cursor, Page};
use oci_spec_types::{ErrorCode, Host, Name};
use reqwest::Url;
use serde::Deserialize;

use crate::auth::Scopes;
use crate::client::HostState;
use crate::page::{self, PageRequest};
use crate::request::{About, Request};
use crate::{Client, Error, Repository, Result};

/// A registry. Clones are cheap.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    client: Client,
    host: Host,
    /// `https://HOST/v2/`.
    base: Url,
    state: Arc<HostState>,
}

impl Registry {
    pub(crate) fn new(client: Client, host: Host, state: Arc<HostState>) -> Result<Self> {
        let scheme = if client.config().plain_http.covers(&host) { "http" } else { "https" };
        // The name by which references know Docker Hub is not where its registry answers.
        let address = match host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            other => other,
        };
        let base = Url::parse(&format!("{scheme}://{address}/v2/")).map_err(|error| {
            Error::new(oci_ref::ErrorKind::Invalid, format!("registry {host}"), error.to_string())
                .with_source(error)
        })?;
        Ok(Self(Arc::new(Inner { client, host, base, state })))
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
        let request = Request::new(Method::GET, self.0.base.clone(), about);
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

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn state(&self) -> &HostState {
        &self.0.state
    }

    pub(crate) fn base(&self) -> &Url {
        &self.0.base
    }

    /// Where the registry answers, as text.
    pub(crate) fn origin_text(&self) -> String {
        self.0.base.origin().ascii_serialization()
    }

    /// An address below `/v2/`. Names, tags and digests need no escapes.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.0.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.0.base.as_str()).finish()
    }
}
