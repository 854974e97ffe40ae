//! The addresses that connections and requests are from, and how many each of them has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Somebody who is counted: an IPv4 address, or the 64 bits of an IPv6 address that a network gives
/// to one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(Ipv6Addr::from(network).into())
            }
            address => Self(address),
        }
    }
}

/// Reads an address or a network, such as `10.0.0.0/8`.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: IpAddr| IpNet::from(address)))
}

/// The address that a request is from, which came over a connection from `peer`: if that is one of
/// our proxies, whoever it says. Of those in `X-Forwarded-For` the last counts that is not a proxy
/// of ours: what stands before, anybody can write there. None if a proxy does not say.
pub(crate) fn client(proxies: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    if !is_proxy(proxies, peer) {
        return Some(peer);
    }
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let said = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for text in said {
        let address = std::str::from_utf8(text).ok().and_then(|text| address(text.trim()))?;
        if !is_proxy(proxies, address) {
            return Some(address);
        }
    }
    None
}

pub(crate) fn is_proxy(proxies: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    proxies.iter().any(|network| network.contains(&address))
}

/// An address, as proxies write it: some with a port.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    plain.parse().ok().or_else(with_port)
}

/// The number of connections and requests that each has.
pub(crate) struct Peers {
    limit: usize,
    counts: Mutex<HashMap<Peer, usize>>,
}

impl Peers {
    /// At most so many of each.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default() })
    }

    /// Counts one more, unless there are as many as there may be.
    pub(crate) fn enter(self: &Arc<Self>, peer: Peer) -> Option<PeerSlot> {
        // Nothing can panic while it is locked.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(PeerSlot { peers: Arc::clone(self), peer })
    }
}

/// One that is counted, until it is dropped.
pub(crate) struct PeerSlot {
    peers: Arc<Peers>,
    peer: Peer,
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_proxies_of_ours_say_who_asks() {
        let proxies =
            ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"].map(|text| network(text).unwrap());
        let of = |peer: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            client(&proxies, ip(peer), &headers).map(|client| client.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("198.51.100.7", &["203.0.113.9"]), some("198.51.100.7"));
        assert_eq!(of("10.1.2.3", &["203.0.113.9"]), some("203.0.113.9"));
        assert_eq!(of("::ffff:10.1.2.3", &["203.0.113.9"]), some("203.0.113.9"));
        assert_eq!(of("10.1.2.3", &["6.6.6.6, 203.0.113.9, 192.0.2.1"]), some("203.0.113.9"));
        assert_eq!(of("10.1.2.3", &["6.6.6.6", "203.0.113.9 ,10.9.9.9"]), some("203.0.113.9"));
        assert_eq!(of("10.1.2.3", &["203.0.113.9:4711"]), some("203.0.113.9"));
        assert_eq!(of("10.1.2.3", &["[2001:dead::1]:4711"]), some("2001:dead::1"));
        assert_eq!(of("10.1.2.3", &["[2001:dead::1]"]), some("2001:dead::1"));
        for nobody in ["", "unknown", "6.6.6.6, x", "10.9.9.9", "203.0.113.9,"] {
            assert_eq!(of("10.1.2.3", &[nobody]), None, "{nobody}");
        }
        assert_eq!(of("10.1.2.3", &[]), None);
        for bad in ["", "10.0.0.0/33", "example.com", "10.0.0"] {
            assert!(network(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn each_has_so_many() {
        let peers = Peers::new(2);
        let enter = |text: &str| peers.enter(Peer::of(ip(text)));
        let first = enter("2001:db8:0:1::1").unwrap();
        let second = enter("2001:db8:0:1::2").unwrap();
        assert!(enter("2001:db8:0:1:ffff::3").is_none(), "it is the same network");
        assert!(enter("2001:db8:0:2::1").is_some());
        drop((first, second));
        let mapped = (enter("::ffff:192.0.2.1"), enter("192.0.2.1"));
        assert!(mapped.0.is_some() && mapped.1.is_some());
        assert!(enter("192.0.2.1").is_none());
        drop(mapped);
        assert!(peers.counts.lock().unwrap().is_empty());
    }
}
