//! Plain HTTP or HTTPS: the scheme by which a registry is asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};

use oci_ref::ErrorKind;
use oci_spec_types::Host;
use reqwest::Url;

use crate::registry::Registry;
use crate::request::is_same_origin;
use crate::response::Response;
use crate::tls::{self, TlsFault};
use crate::{Error, Result};

/// The registries that are reached by plain HTTP. All others are reached by HTTPS only.
///
/// By default a registry on this machine (`localhost`, `127.0.0.0/8`, `[::1]`) may speak either: it
/// is asked by plain HTTP first, and by HTTPS from then on if its port turns out to speak TLS. Its
/// certificate is verified as any other.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PlainHttp {
    /// None, and this machine by HTTPS as well.
    Never,
    /// This machine, where TLS is not spoken.
    #[default]
    Loopback,
    /// All, where TLS is not spoken: each is asked by plain HTTP first, as this machine is.
    Anywhere,
    /// All, by nothing else.
    Always,
    /// These, and no others.
    Hosts(BTreeSet<Host>),
    /// These, and this machine as for [`Loopback`](Self::Loopback).
    LoopbackAnd(BTreeSet<Host>),
}

/// The scheme by which a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
    /// Plain HTTP, until the port turns out to speak TLS.
    Either,
}

impl PlainHttp {
    pub(crate) fn scheme(&self, host: &Host) -> Scheme {
        match self {
            Self::Always => Scheme::Http,
            Self::Anywhere => Scheme::Either,
            Self::Hosts(hosts) | Self::LoopbackAnd(hosts) if hosts.contains(host) => Scheme::Http,
            Self::Loopback | Self::LoopbackAnd(_) if host.is_loopback() => Scheme::Either,
            _ => Scheme::Https,
        }
    }

    /// Tells whether a host may be reached by plain HTTP.
    pub(crate) fn covers(&self, host: &Host) -> bool {
        self.scheme(host) != Scheme::Https
    }
}

/// The scheme that a registry's port was seen to speak.
#[derive(Default)]
pub(crate) struct Spoken(AtomicU8);

const PLAIN: u8 = 1;
const TLS: u8 = 2;

impl Spoken {
    fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TLS
    }

    fn learn(&self, spoken: u8) {
        self.0.store(spoken, Ordering::Relaxed);
    }
}

impl Registry {
    /// Looks at the first answer by plain HTTP, or at what came instead. A port that speaks TLS
    /// answers `400`, or in what is no HTTP: then the address to ask instead is returned, if HTTPS
    /// may be spoken there.
    ///
    /// # Errors
    /// When the port speaks TLS, and the caller wanted plain HTTP.
    pub(crate) async fn https_instead(
        &self,
        url: &Url,
        answer: &Result<Response>,
    ) -> Result<Option<Url>> {
        let spoken = &self.state().spoken;
        // Others may have found out while this request was under way.
        if let Some(https) = self.by_https(url) {
            return Ok(Some(https));
        }
        if spoken.is_known() || url.scheme() != "http" || !is_same_origin(url, self.base()) {
            return Ok(None);
        }
        match answer {
            Ok(response) if response.status().as_u16() != 400 => {
                spoken.learn(PLAIN);
                return Ok(None);
            }
            Err(error) if !error.is_broken_connection() => return Ok(None),
            _ => {}
        }
        // By a proxy, the port would be another's.
        if self.client().transport().proxies().find(url).is_some() {
            return Ok(None);
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Ok(None);
        };
        if !tls::speaks_tls(host, port).await {
            return Ok(None);
        }
        if self.https().is_none() {
            let reason = "the registry speaks HTTPS, and was asked by plain HTTP";
            let error = Error::new(ErrorKind::Io, format!("registry {}", self.host()), reason);
            return Err(error.with_tls_fault(TlsFault::Https));
        }
        spoken.learn(TLS);
        Ok(self.by_https(url))
    }

    /// Returns the address by HTTPS of one that was made before it was known that the registry
    /// speaks it.
    pub(crate) fn by_https(&self, url: &Url) -> Option<Url> {
        let https = self.https().filter(|_| self.state().spoken.is_tls())?;
        if !is_same_origin(url, self.asked_first()) {
            return None;
        }
        let mut instead = https.clone();
        instead.set_path(url.path());
        instead.set_query(url.query());
        Some(instead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_may_speak_either() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        let named = PlainHttp::Hosts([host("r.example")].into());
        let beside = PlainHttp::LoopbackAnd([host("r.example")].into());
        for (plain, asked, expected) in [
            (PlainHttp::Never, "localhost:5000", Scheme::Https),
            (PlainHttp::Loopback, "localhost:5000", Scheme::Either),
            (PlainHttp::Loopback, "r.example", Scheme::Https),
            (PlainHttp::Anywhere, "localhost:5000", Scheme::Either),
            (PlainHttp::Anywhere, "r.example", Scheme::Either),
            (PlainHttp::Always, "localhost:5000", Scheme::Http),
            (PlainHttp::Always, "r.example", Scheme::Http),
            (named.clone(), "r.example", Scheme::Http),
            (named, "localhost", Scheme::Https),
            (beside.clone(), "r.example", Scheme::Http),
            (beside.clone(), "localhost", Scheme::Either),
            (beside, "other.example", Scheme::Https),
        ] {
            assert_eq!(plain.scheme(&host(asked)), expected, "{plain:?} {asked}");
        }
    }
}
