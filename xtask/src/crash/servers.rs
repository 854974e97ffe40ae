//! The servers that a client can ask: a single one, or replicas, any of which may be down.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::conformance::wire::Reply;
use crate::crash::http::{Connection, TIME_LIMIT};
use crate::noise::Random;

/// Those that are up, as all clients see it at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers(Rc<RefCell<Vec<String>>>);

impl Servers {
    pub(super) fn one(host: &str) -> Self {
        Self(Rc::new(RefCell::new(vec![host.to_owned()])))
    }

    pub(super) fn up(&self, host: &str) {
        self.0.borrow_mut().push(host.to_owned());
    }

    pub(super) fn down(&self, host: &str) {
        self.0.borrow_mut().retain(|up| up != host);
    }

    pub(super) fn is_up(&self, host: &str) -> bool {
        self.0.borrow().iter().any(|up| up == host)
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// A client's connections to them. Each request goes to one that is up, at random.
pub(super) struct Connections {
    servers: Servers,
    open: BTreeMap<String, Connection>,
    random: Random,
    /// The only one to ask, if it is not to be a random one.
    pub(super) only: Option<String>,
    /// The one that was asked last.
    pub(super) last: String,
    /// How many requests were sent.
    pub(super) sent: u64,
    /// How long an answer may take.
    pub(super) limit: Duration,
}

impl Connections {
    pub(super) fn new(servers: Servers, seed: u64) -> Self {
        let (open, random) = (BTreeMap::new(), Random::new(seed));
        let (last, limit) = (String::new(), TIME_LIMIT);
        Self { servers, open, random, only: None, last, sent: 0, limit }
    }

    /// Whether the server that was asked last is up.
    pub(super) fn last_is_up(&self) -> bool {
        self.servers.is_up(&self.last)
    }

    /// The port of this end.
    pub(super) async fn port(&mut self) -> Result<u16, String> {
        self.choose()?.port().await
    }

    pub(super) async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Reply, String> {
        self.sent += 1;
        let limit = self.limit;
        self.choose()?.send(method, target, headers, body, limit).await
    }

    fn choose(&mut self) -> Result<&mut Connection, String> {
        let mut up = self.servers.all();
        up.retain(|host| self.only.as_ref().is_none_or(|only| only == host));
        self.open.retain(|host, _| self.servers.is_up(host));
        self.last.clear();
        let host = up.get(self.random.below(up.len())).ok_or("no server is up")?;
        self.last.clone_from(host);
        Ok(self.open.entry(host.clone()).or_insert_with(|| Connection::new(host)))
    }
}
