//! The HTTP clients underneath: one for each set of TLS settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oci_ref::ErrorKind;
use oci_spec_types::Host;

use crate::proxy::Proxies;
use crate::reach::{Lookup, Names};
use crate::tls::{self, Platform, TlsOptions, Trust};
use crate::{Error, Result};

/// Makes the settings with which an HTTP client begins.
type Base = Box<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>;

/// The settings of HTTP clients.
pub(crate) struct Settings {
    pub(crate) base: Base,
    pub(crate) user_agent: String,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) trust: Trust,
    pub(crate) registries: BTreeMap<Host, TlsOptions>,
    pub(crate) directories: Vec<PathBuf>,
}

/// The HTTP clients of one client.
pub(crate) struct Transport {
    settings: Settings,
    common: Http,
}

/// An HTTP client, and the platform's certificates if they count for it.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    /// The same for names that must not lead inside.
    public: reqwest::Client,
    pub(crate) platform: Option<Arc<Platform>>,
}

impl Http {
    pub(crate) fn client(&self, lookup: Lookup) -> &reqwest::Client {
        match lookup {
            Lookup::All => &self.client,
            Lookup::Public => &self.public,
        }
    }
}

/// The HTTP clients for one registry, made when it is reached first.
#[derive(Default)]
pub(crate) struct RegistryHttp(OnceLock<Result<Option<Pair>, String>>);

/// The client for a registry's own address, and the one for where it sends us.
struct Pair {
    own: Http,
    elsewhere: Http,
}

impl Transport {
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        settings.proxies.check()?;
        // Settings that cannot be used are better known now.
        for options in settings.registries.values() {
            settings.http(&options.applied_to(&settings.trust, true))?;
        }
        let common = settings.http(&settings.trust)?;
        Ok(Self { settings, common })
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.settings.proxies
    }

    /// The client for an address to which a registry leads: its own, or another.
    pub(crate) fn http<'a>(
        &'a self,
        registry: &'a RegistryHttp,
        host: &Host,
        own_address: bool,
    ) -> Result<&'a Http> {
        let made = registry.0.get_or_init(|| self.pair(host).map_err(|error| error.to_string()));
        match made {
            Ok(None) => Ok(&self.common),
            Ok(Some(pair)) if own_address => Ok(&pair.own),
            Ok(Some(pair)) => Ok(&pair.elsewhere),
            Err(reason) => {
                Err(Error::new(ErrorKind::Invalid, format!("TLS for {host}"), reason.clone()))
            }
        }
    }

    fn pair(&self, host: &Host) -> Result<Option<Pair>> {
        let settings = &self.settings;
        let found = tls::find_directory(&settings.directories, host)?;
        let options = match (found, settings.registries.get(host)) {
            (None, None) => return Ok(None),
            (Some(found), None) => found,
            (None, Some(set)) => set.clone(),
            (Some(found), Some(set)) => found.overlaid(set),
        };
        Ok(Some(Pair {
            own: settings.http(&options.applied_to(&settings.trust, true))?,
            elsewhere: settings.http(&options.applied_to(&settings.trust, false))?,
        }))
    }
}

impl Settings {
    fn http(&self, trust: &Trust) -> Result<Http> {
        let tls = trust.prepare()?;
        Ok(Http {
            client: self.client(tls.config.clone(), Lookup::All)?,
            public: self.client(tls.config, Lookup::Public)?,
            platform: tls.platform,
        })
    }

    fn client(&self, tls: rustls::ClientConfig, lookup: Lookup) -> Result<reqwest::Client> {
        let proxies = self.proxies.clone();
        let mut http = (self.base)()
            .user_agent(&self.user_agent)
            .no_proxy()
            .proxy(reqwest::Proxy::custom(move |url| proxies.find(url).cloned()))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .dns_resolver(Arc::new(Names(lookup)))
            .tls_backend_preconfigured(tls);
        if let Some(timeout) = self.connect_timeout {
            http = http.connect_timeout(timeout);
        }
        http.build().map_err(|error| {
            Error::new(ErrorKind::Invalid, "HTTP client", error.to_string()).with_source(error)
        })
    }
}
