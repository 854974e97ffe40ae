//! Settings of connections.

use std::time::Duration;

use ipnet::IpNet;
use oci_ref::{Error, ErrorKind};
use tokio::sync::Semaphore;

use crate::peers;

/// Limits of [`serve`](crate::serve()).
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_peer: Option<usize>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) keep_alive: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) min_rate: u64,
    pub(crate) grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_connections_per_peer: None,
            trusted_proxies: Vec::new(),
            keep_alive: Duration::from_secs(75),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            min_rate: 1 << 10,
            grace: Duration::from_secs(30),
        }
    }
}

impl ServeOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections at a time. For a further one, the connection ends that has been idle
    /// longest; if none is idle, it waits. At least 1. Default: 4096.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// The most connections at a time from one IPv4 address, or one network of 64 bits of IPv6;
    /// further ones are answered 503. A connection from a trusted proxy does not count, but each
    /// request does that it passes on, until it is answered, as one of whom the proxy names. At
    /// least 1. Default: no limit.
    #[must_use]
    pub fn max_connections_per_peer(mut self, connections: Option<usize>) -> Self {
        self.max_connections_per_peer = connections.map(|connections| connections.max(1));
        self
    }

    /// Adds an address or a network, such as `10.0.0.0/8`, of proxies whose `X-Forwarded-For` says
    /// whom a request is from: the last address there that is not such a proxy's. A
    /// [`PeerAddr`](crate::PeerAddr) has it then, with port 0. Default: none.
    ///
    /// # Errors
    /// `Invalid`, if it is neither.
    pub fn trusted_proxy(mut self, network: &str) -> oci_ref::Result<Self> {
        let parsed = peers::network(network).ok_or_else(|| {
            let message = format!("{network:?} is no address and no network, such as 10.0.0.0/8");
            Error::new(ErrorKind::Invalid, message)
        })?;
        self.trusted_proxies.push(parsed);
        Ok(self)
    }

    /// The time that a connection stays open on which nothing is asked, after the first request.
    /// Longer than load balancers keep theirs, which otherwise send a request just when the
    /// connection ends. Default: 75 s.
    #[must_use]
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// The time that a connection has to send the head of a request. Default: 30 s.
    #[must_use]
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// The longest time for which a peer may read nothing of what is sent to it. Default: 60 s.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The least bytes a second that a peer must read while we wait for it, from when we have
    /// waited for one idle timeout in all. 0 for none. Default: 1024.
    #[must_use]
    pub fn min_rate(mut self, bytes_per_second: u64) -> Self {
        self.min_rate = bytes_per_second;
        self
    }

    /// The time for which requests that are being answered may go on after the shutdown. Default:
    /// 30 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}
