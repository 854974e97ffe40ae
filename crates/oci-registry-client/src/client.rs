//! The client: what its requests to all registries share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use oci_spec_types::{Host, Reference};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::{Known, Learned, Tokens};
use crate::builder::{ClientBuilder, Config};
use crate::reach::Seen;
use crate::registry::Registry;
use crate::repository::{IndexUpdates, Unfinished};
use crate::scheme::Spoken;
use crate::secrets::Secrets;
use crate::transport::{RegistryHttp, Transport};
use crate::warning::Warnings;
use crate::{Repository, Result, Retry, RetryPolicy};

/// Talks to registries. Clones are cheap and share connections, tokens and limits.
///
/// ```
/// use oci_registry_client::Client;
///
/// let client = Client::builder().build()?;
/// let repository = client.repository(&"registry.example/team/app:1.0".parse()?)?;
/// assert_eq!(repository.name().as_str(), "team/app");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Transport,
    config: Config,
    tokens: Tokens,
    secrets: Secrets,
    warnings: Warnings,
    index_updates: IndexUpdates,
    hosts: Mutex<HashMap<Host, Arc<HostState>>>,
}

impl Client {
    /// Settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    pub(crate) fn new(transport: Transport, config: Config, warnings: Warnings) -> Self {
        Self(Arc::new(Inner {
            transport,
            config,
            tokens: Tokens::default(),
            secrets: Secrets::default(),
            warnings,
            index_updates: IndexUpdates::default(),
            hosts: Mutex::default(),
        }))
    }

    /// A registry.
    ///
    /// # Errors
    /// When the host cannot stand in a URL.
    pub fn registry(&self, host: &Host) -> Result<Registry> {
        Registry::new(self.clone(), host.clone())
    }

    /// The repository that a reference names; its tag and digest are not looked at.
    ///
    /// # Errors
    /// When the host cannot stand in a URL.
    pub fn repository(&self, reference: &Reference) -> Result<Repository> {
        Ok(self.registry(reference.host())?.repository(reference.name().clone()))
    }

    /// What the requests to one registry share.
    pub(crate) fn host_state(&self, host: &Host) -> Arc<HostState> {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(HostState::new(self.0.config.concurrency));
        hosts.entry(host.clone()).or_insert_with(new).clone()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The secrets that were sent and must not be shown.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    pub(crate) fn index_updates(&self) -> &IndexUpdates {
        &self.0.index_updates
    }

    pub(crate) fn retry_policy(&self) -> Option<&RetryPolicy> {
        self.0.config.retry.as_ref()
    }

    pub(crate) fn tell_retry(&self, retry: &Retry<'_>) {
        if let Some(handler) = &self.0.config.on_retry {
            handler(retry);
        }
    }

    pub(crate) fn tell_warnings(&self, host: &Host, headers: &HeaderMap) {
        self.0.warnings.tell(host, headers, &self.0.secrets);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// What the requests to one registry share.
pub(crate) struct HostState {
    /// Requests that only read. They wait for nothing but their answer.
    pub(crate) reads: Semaphore,
    /// Requests with content. They may wait for a read from the same registry, hence the two limits: with one, many
    /// uploads could hold all places while the reads that feed them wait for one.
    pub(crate) writes: Semaphore,
    pub(crate) learned: Learned,
    pub(crate) credentials: Known,
    /// Of a mirror: what it is not asked for again.
    pub(crate) unfinished: Unfinished,
    /// Set once it has said that it keeps signatures beside manifests, which is an extension.
    pub(crate) keeps_signatures: AtomicBool,
    pub(crate) http: RegistryHttp,
    /// The scheme that was seen to be spoken, where it may be either.
    pub(crate) spoken: Spoken,
    /// The zone in which it answers.
    pub(crate) seen: Seen,
    paused_until: Mutex<Option<Instant>>,
    /// When the next request may begin, where there is a limit to how many begin in a second.
    next_turn: Mutex<Option<Instant>>,
}

impl HostState {
    fn new(concurrency: usize) -> Self {
        Self {
            reads: Semaphore::new(concurrency),
            writes: Semaphore::new(concurrency),
            learned: Learned::default(),
            credentials: Known::default(),
            unfinished: Unfinished::default(),
            keeps_signatures: AtomicBool::new(false),
            http: RegistryHttp::default(),
            spoken: Spoken::default(),
            seen: Seen::default(),
            paused_until: Mutex::default(),
            next_turn: Mutex::default(),
        }
    }

    /// Waits until one more request may begin. Who gives up waiting leaves its turn unused.
    pub(crate) async fn turn(&self, interval: Option<Duration>) {
        let Some(interval) = interval else { return };
        let turn = {
            let mut next = self.next_turn.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = next.unwrap_or_else(Instant::now).max(Instant::now());
            *next = turn.checked_add(interval);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    /// When the registry may be asked again, if it has to be waited for.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        let paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        paused.filter(|until| *until > Instant::now())
    }

    pub(crate) fn pause_until(&self, until: Instant) {
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = (*paused).max(Some(until));
    }
}
