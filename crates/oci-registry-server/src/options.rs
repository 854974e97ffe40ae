//! What can be configured about the router.

use std::sync::Arc;
use std::time::Duration;

use oci_ref::{Error, ErrorKind, Result};

use crate::browser::CorsOrigin;
use crate::{AccessPolicy, AllowAll};

/// How the router behaves. The defaults are those of an open registry that takes everything.
///
/// ```
/// use oci_registry_server::ServerOptions;
///
/// let options = ServerOptions::new()
///     .external_url("https://registry.example/mirror")?
///     .deletes(false);
/// # let _ = options;
/// # Ok::<_, oci_ref::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerOptions {
    pub(crate) policy: Arc<dyn AccessPolicy>,
    pub(crate) external_url: Option<String>,
    pub(crate) hosts: Vec<String>,
    pub(crate) cors_origins: Vec<CorsOrigin>,
    pub(crate) read_only: bool,
    pub(crate) deletes: bool,
    pub(crate) catalog: bool,
    pub(crate) unknown_manifests: bool,
    pub(crate) max_manifest_bytes: u64,
    pub(crate) manifest_memory: u64,
    pub(crate) max_blob_bytes: Option<u64>,
    pub(crate) max_page: usize,
    pub(crate) max_requests: Option<usize>,
    pub(crate) idle_timeout: Duration,
    pub(crate) min_rate: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            policy: Arc::new(AllowAll),
            external_url: None,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            read_only: false,
            deletes: true,
            catalog: true,
            unknown_manifests: true,
            max_manifest_bytes: 8 << 20,
            manifest_memory: 64 << 20,
            max_blob_bytes: None,
            max_page: 1000,
            max_requests: None,
            idle_timeout: Duration::from_secs(60),
            min_rate: 1 << 10,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Who may do what. Default: [`AllowAll`].
    #[must_use]
    pub fn policy(mut self, policy: Arc<dyn AccessPolicy>) -> Self {
        self.policy = policy;
        self
    }

    /// What `Location` and `Link` begin with, such as `https://registry.example`: where clients see the router, `/v2/`
    /// excluded. Default: they are paths alone, which works behind any proxy that keeps paths as they are.
    ///
    /// # Errors
    /// `Invalid`, if it is not an `http` or `https` URL without query and fragment.
    pub fn external_url(mut self, url: impl Into<String>) -> Result<Self> {
        let mut url: String = url.into();
        let parsed: Option<http::Uri> = url.parse().ok();
        let fits = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if !fits || url.contains(['#', '@']) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("external URL {url:?}: expected http(s)://host[:port][/path]"),
            ));
        }
        url.truncate(url.trim_end_matches('/').len());
        self.external_url = Some(url);
        Ok(self)
    }

    /// Adds hosts, with or without a port, by which clients on the same machine may call the
    /// registry. From there, over loopback, a request for any host but `localhost`, names below
    /// that, loopback addresses, and that of the external URL is refused with 421: a page in a
    /// browser could otherwise reach the registry by a name of its own that leads here. `*` is any.
    /// Default: none. Only requests with a [`PeerAddr`](crate::PeerAddr) are looked at.
    #[must_use]
    pub fn allow_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hosts.extend(hosts.into_iter().map(Into::into));
        self
    }

    /// Adds an origin, such as `https://ui.example`, whose pages may use the registry in a browser:
    /// they see its answers, and may write. `*` is any, without the browser's credentials. Writes
    /// from pages of other origins than the registry's own are refused with 403. Default: none.
    ///
    /// # Errors
    /// `Invalid`, if it is neither `*` nor a scheme, `http` or `https`, with a host and perhaps a
    /// port.
    pub fn cors_origin(mut self, origin: &str) -> Result<Self> {
        let parsed = CorsOrigin::parse(origin).ok_or_else(|| {
            let message = format!("origin {origin:?}: expected http(s)://host[:port], or *");
            Error::new(ErrorKind::Invalid, message)
        })?;
        self.cors_origins.push(parsed);
        Ok(self)
    }

    /// Whether everything but reading is refused with 405. Default: no.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether tags, manifests and blobs can be deleted; if not, all three are refused with 405. Cancelling an upload
    /// is always possible. Default: yes.
    #[must_use]
    pub fn deletes(mut self, deletes: bool) -> Self {
        self.deletes = deletes;
        self
    }

    /// Whether `/v2/_catalog` lists the repositories; if not, it is refused with 405. Default: yes.
    #[must_use]
    pub fn catalog(mut self, catalog: bool) -> Self {
        self.catalog = catalog;
        self
    }

    /// Takes or refuses manifests of types that are neither images nor indexes. What they
    /// reference is found by their structure. Default: yes.
    #[must_use]
    pub fn unknown_manifests(mut self, accept: bool) -> Self {
        self.unknown_manifests = accept;
        self
    }

    /// The largest manifest, in bytes; a larger one is refused with 413. The spec asks for at least
    /// 4 MiB. Default: 8 MiB.
    #[must_use]
    pub fn max_manifest_bytes(mut self, limit: u64) -> Self {
        self.max_manifest_bytes = limit;
        self
    }

    /// The bytes of memory that all manifests of more than 64 KiB may take that are being received
    /// or sent: half of it for each, but as much as one may have at least. A push that finds no
    /// room is refused with 503, and the slowest of those that hold it is given up; an answer goes
    /// out in smaller pieces. Default: 64 MiB.
    #[must_use]
    pub fn manifest_memory(mut self, bytes: u64) -> Self {
        self.manifest_memory = bytes;
        self
    }

    /// The largest blob, in bytes; a larger one is refused with 413. Default: none.
    #[must_use]
    pub fn max_blob_bytes(mut self, limit: Option<u64>) -> Self {
        self.max_blob_bytes = limit;
        self
    }

    /// The most entries of one page of tags, repositories or referrers, whatever a request asks for. At least 1.
    /// Default: 1000.
    #[must_use]
    pub fn max_page(mut self, entries: usize) -> Self {
        self.max_page = entries.max(1);
        self
    }

    /// The most requests that are answered at the same time, from their head to the last byte of their answer; more
    /// are refused with 429. Default: no limit but that of connections, [`ServeOptions`](crate::ServeOptions).
    #[must_use]
    pub fn max_requests(mut self, requests: Option<usize>) -> Self {
        self.max_requests = requests;
        self
    }

    /// How long to wait for more of a request's body before it is given up with 408. What an upload has got until then
    /// is kept. There is no limit to the whole time that a body takes. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The least bytes a second, on average, of a request's body that we wait for, from when we have waited for one
    /// idle timeout in all. 0 for none. Default: 1024.
    #[must_use]
    pub fn min_rate(mut self, bytes_per_second: u64) -> Self {
        self.min_rate = bytes_per_second;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_urls() {
        let of = |url: &str| ServerOptions::new().external_url(url).map(|o| o.external_url);
        assert_eq!(of("https://r.example").unwrap().as_deref(), Some("https://r.example"));
        assert_eq!(of("http://r:5000/x/").unwrap().as_deref(), Some("http://r:5000/x"));
        let bad = [
            "",
            "r.example",
            "/x",
            "ftp://r",
            "http://",
            "http://u:p@r",
            "http://r?x",
            "http://r#x",
        ];
        for url in bad {
            assert!(of(url).is_err(), "{url}");
        }
    }
}
