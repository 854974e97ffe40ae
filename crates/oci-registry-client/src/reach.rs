//! Addresses that only some can reach, and who may lead there.
//!
//! A registry says where tokens are to be had (`realm`), where a blob is to be sent or read
//! (`Location`), and a client goes there. One on the public network must not make it ask what lies
//! behind the client's own walls.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use oci_spec_types::Host;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A part of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// Addresses that everybody reaches.
    Public,
    /// Private and shared networks (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The same link (RFC 3927, RFC 4291): machines in clouds have their secrets there.
    LinkLocal,
    /// This machine.
    Loopback,
}

impl Zone {
    const ALL: [Self; 4] = [Self::Public, Self::Private, Self::LinkLocal, Self::Loopback];

    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // 0.0.0.0 leads to this machine.
            [0 | 127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [100, 64..=127, ..] => Self::Private,
            _ if address.is_private() => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            // Those of the other family, as they are translated (RFC 6052), and as they once were
            // written (RFC 4291, 2.5.5.1).
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Self::of_v4(embedded(high, low)),
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Loopback,
            [0, 0, 0, 0, 0, 0, high, low] => Self::of_v4(embedded(high, low)),
            _ if address.is_unique_local() => Self::Private,
            _ if address.is_unicast_link_local() => Self::LinkLocal,
            // Site-local, of old (RFC 3879).
            [0xfec0..=0xfeff, ..] => Self::Private,
            _ => Self::Public,
        }
    }

    /// The zone of an address by what is written in it; `None` of a name that has to be looked up.
    pub(crate) fn written(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::of(address));
        }
        (host == "localhost" || host.ends_with(".localhost")).then_some(Self::Loopback)
    }

    /// Tells whether a registry that is in this zone may lead to another.
    fn may_lead_to(self, other: Self) -> bool {
        other == Self::Public || other == self || (other == Self::Private && self == Self::Loopback)
    }

    /// The word for an address there.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
        }
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// The zone in which a registry was seen to answer.
#[derive(Default)]
pub(crate) struct Seen(AtomicU8);

impl Seen {
    pub(crate) fn learn(&self, address: SocketAddr) {
        let zone = Zone::of(address.ip());
        let at = Zone::ALL.iter().position(|other| *other == zone).unwrap_or_default();
        self.0.store(at as u8 + 1, Ordering::Relaxed);
    }

    /// Tells whether the zone of a registry is known.
    pub(crate) fn is_known(&self, base: &Url) -> bool {
        self.0.load(Ordering::Relaxed) != 0 || Zone::written(base).is_some()
    }

    /// The zone of a registry: what is written in its address counts. One that has not been seen,
    /// and one behind a proxy, is taken for public.
    pub(crate) fn zone(&self, base: &Url) -> Zone {
        let seen = || {
            let at = usize::from(self.0.load(Ordering::Relaxed)).checked_sub(1)?;
            Zone::ALL.get(at).copied()
        };
        Zone::written(base).or_else(seen).unwrap_or(Zone::Public)
    }
}

/// The hosts to which registries may lead wherever they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Arc<BTreeSet<Host>>);

impl Allowed {
    pub(crate) fn new(hosts: BTreeSet<Host>) -> Self {
        Self(Arc::new(hosts))
    }

    /// Tells whether a host was named, with this port or with none.
    fn covers(&self, name: &str, port: Option<u16>) -> bool {
        self.0.iter().any(|host| {
            host.name().eq_ignore_ascii_case(name)
                && host.port().is_none_or(|only| port.is_none_or(|port| only == port))
        })
    }

    /// Returns the way in which an address may be reached to which a registry leads.
    ///
    /// # Errors
    /// The zone of the address, if the registry must not lead there.
    pub(crate) fn check(&self, registry: Zone, url: &Url) -> Result<Lookup, Zone> {
        let name = url.host_str().unwrap_or_default();
        if self.covers(name, url.port_or_known_default()) {
            return Ok(Lookup::All);
        }
        match Zone::written(url) {
            Some(zone) if !registry.may_lead_to(zone) => Err(zone),
            None if registry == Zone::Public => Ok(Lookup::Public),
            _ => Ok(Lookup::All),
        }
    }
}

/// The addresses that a name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    All,
    /// Public ones only.
    Public,
}

/// The reason why a name was not looked up as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the name {0} cannot be looked up: {1}")]
    Failed(String, #[source] std::io::Error),
    #[error("{0} is at {1}, a {2} address")]
    Inside(String, IpAddr, &'static str),
}

/// Returns the lookup that failed among an error and its causes.
pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a LookupError> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Looks names up as the system does.
pub(crate) struct Names(pub(crate) Lookup);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let only = self.0;
        Box::pin(async move {
            let name = name.as_str();
            let failed = |error| LookupError::Failed(name.to_owned(), error);
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name, 0)).await.map_err(failed)?.collect();
            let inside = |found: &&SocketAddr| Zone::of(found.ip()) != Zone::Public;
            match found.iter().find(inside).filter(|_| only == Lookup::Public) {
                None => Ok(Box::new(found.into_iter()) as Addrs),
                Some(found) => {
                    let zone = Zone::of(found.ip()).name();
                    Err(LookupError::Inside(name.to_owned(), found.ip(), zone).into())
                }
            }
        })
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Url {
        Url::parse(&format!("http://{host}/v2/")).unwrap()
    }

    #[test]
    fn zones() {
        use Zone::{LinkLocal, Loopback, Private, Public};
        for (host, zone) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.0.1:5000", Some(Loopback)),
            ("0.0.0.0", Some(Loopback)),
            ("2130706433", Some(Loopback)),
            ("0x7f.1", Some(Loopback)),
            ("[::1]", Some(Loopback)),
            ("[::]", Some(Loopback)),
            ("[::ffff:127.0.0.1]", Some(Loopback)),
            ("[::127.0.0.1]", Some(Loopback)),
            ("[64:ff9b::7f00:1]", Some(Loopback)),
            ("localhost", Some(Loopback)),
            ("LOCALHOST.", Some(Loopback)),
            ("a.localhost", Some(Loopback)),
            ("10.1.2.3", Some(Private)),
            ("172.16.0.1", Some(Private)),
            ("172.32.0.1", Some(Public)),
            ("192.168.1.1", Some(Private)),
            ("100.64.0.1", Some(Private)),
            ("100.128.0.1", Some(Public)),
            ("[fd00::1]", Some(Private)),
            ("[::ffff:10.0.0.1]", Some(Private)),
            ("[64:ff9b::a00:1]", Some(Private)),
            ("[fec0::1]", Some(Private)),
            ("169.254.169.254", Some(LinkLocal)),
            ("[fe80::1]", Some(LinkLocal)),
            ("192.0.2.1", Some(Public)),
            ("[2001:db8::1]", Some(Public)),
            ("registry.example", None),
            ("localhost.example", None),
        ] {
            assert_eq!(Zone::written(&url(host)), zone, "{host}");
        }
    }

    #[test]
    fn who_may_lead_where() {
        use Zone::{LinkLocal, Loopback, Private, Public};
        let allowed = Allowed::default();
        let leads = |from, to: &str| allowed.check(from, &url(to)).is_ok();
        for (from, [public, private, link, loopback]) in [
            (Public, [true, false, false, false]),
            (Private, [true, true, false, false]),
            (LinkLocal, [true, false, true, false]),
            (Loopback, [true, true, false, true]),
        ] {
            assert_eq!(leads(from, "192.0.2.1"), public, "{from:?}");
            assert_eq!(leads(from, "10.0.0.1"), private, "{from:?}");
            assert_eq!(leads(from, "169.254.169.254"), link, "{from:?}");
            assert_eq!(leads(from, "127.0.0.1"), loopback, "{from:?}");
        }
        assert_eq!(allowed.check(Public, &url("a.example")), Ok(Lookup::Public));
        assert_eq!(allowed.check(Private, &url("a.example")), Ok(Lookup::All));
    }

    #[test]
    fn what_is_named_is_allowed() {
        let hosts = ["10.0.0.1:5000", "auth.lan"].map(|host| host.parse().unwrap());
        let allowed = Allowed::new(hosts.into());
        for (host, goes) in [
            ("10.0.0.1:5000", true),
            ("10.0.0.1:5001", false),
            ("10.0.0.1", false),
            ("10.0.0.2:5000", false),
        ] {
            assert_eq!(allowed.check(Zone::Public, &url(host)).is_ok(), goes, "{host}");
        }
        let lan = allowed.check(Zone::Public, &url("AUTH.lan:8080"));
        assert_eq!(lan, Ok(Lookup::All));
    }

    #[test]
    fn a_registry_is_where_it_was_seen() {
        let (seen, base) = (Seen::default(), url("registry.example"));
        assert_eq!((seen.zone(&base), seen.is_known(&base)), (Zone::Public, false));
        for (address, zone) in [
            ("10.0.0.1:5000", Zone::Private),
            ("[fe80::1]:5000", Zone::LinkLocal),
            ("127.0.0.1:5000", Zone::Loopback),
            ("192.0.2.1:443", Zone::Public),
        ] {
            seen.learn(address.parse().unwrap());
            assert_eq!((seen.zone(&base), seen.is_known(&base)), (zone, true), "{address}");
            assert_eq!(seen.zone(&url("10.0.0.1")), Zone::Private, "it is written there");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_where_they_may_lead() {
        let look_up = |only| Names(only).resolve("localhost".parse().unwrap());
        assert!(look_up(Lookup::All).await.unwrap().next().is_some());
        let error = look_up(Lookup::Public).await.err().expect("refused");
        let found = find(error.as_ref());
        assert!(matches!(found, Some(LookupError::Inside(name, ..)) if name == "localhost"));
    }
}
