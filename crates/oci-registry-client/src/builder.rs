//! Settings of a client.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_ref::ErrorKind;
use oci_spec_types::{Host, MediaType};

use crate::auth::{CredentialProvider, StaticCredentials};
use crate::memory::UploadMemory;
use crate::proxy::Proxies;
use crate::reach::Allowed;
use crate::retry;
use crate::tls::{TlsOptions, Trust};
use crate::transport::{Settings, Transport};
use crate::warning::{self, Warnings};
use crate::{Client, Error, Mirror, PlainHttp, Result, Retry, RetryPolicy, Warning};

/// How a blob whose digest is known is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UploadMode {
    /// In one request; in chunks if the registry says how large they are to be (`OCI-Chunk-Min-Length`), or refuses one
    /// request as too large (413, 416). What breaks off is gone on with where the registry has it.
    #[default]
    Auto,
    /// In one request, or the rest of it in one after a break.
    Monolithic,
    /// In chunks.
    Chunked,
}

/// The longest time for which the other side may keep silent, if there is a limit: what is longer is none.
const MAX_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The longest time between two requests that a rate limit may ask for.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);

/// Settings for a [`Client`].
///
/// ```
/// use std::time::Duration;
/// use oci_registry_client::{Client, Credentials, RetryPolicy, StaticCredentials};
///
/// let client = Client::builder()
///     .credentials(StaticCredentials::new().with("registry.example".parse()?, Credentials::basic("alice", "secret")))
///     .retry(RetryPolicy::default())
///     .idle_timeout(Duration::from_secs(30))
///     .on_warning(|warning| eprintln!("{}: {}", warning.host, warning.text))
///     .build()?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct ClientBuilder {
    http: Settings,
    config: Config,
    on_warning: Option<warning::Handler>,
}

/// How a large blob is read by several requests at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParallelRanges {
    pub(crate) requests: usize,
    pub(crate) min_size: u64,
}

pub(crate) struct Config {
    pub(crate) plain_http: PlainHttp,
    pub(crate) idle_timeout: Option<Duration>,
    /// In bytes a second.
    pub(crate) min_rate: Option<u64>,
    pub(crate) allowed: Allowed,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) on_retry: Option<retry::Handler>,
    pub(crate) credentials: Arc<dyn CredentialProvider>,
    pub(crate) mirrors: BTreeMap<Host, Vec<Mirror>>,
    pub(crate) concurrency: usize,
    /// The time between two requests to a registry.
    pub(crate) interval: Option<Duration>,
    pub(crate) parallel_ranges: Option<ParallelRanges>,
    pub(crate) metadata_limit: u64,
    pub(crate) manifest_limit: u64,
    pub(crate) manifest_types: Vec<MediaType>,
    pub(crate) upload_mode: UploadMode,
    pub(crate) chunk_size: usize,
    pub(crate) max_chunk_size: usize,
    pub(crate) upload_memory: Option<Arc<dyn UploadMemory>>,
    pub(crate) keep_old_referrers_index: bool,
}

/// The manifest types that are asked for.
const MANIFEST_TYPES: [MediaType; 5] = [
    MediaType::OCI_IMAGE_MANIFEST,
    MediaType::OCI_IMAGE_INDEX,
    MediaType::DOCKER_MANIFEST,
    MediaType::DOCKER_MANIFEST_LIST,
    MediaType::OCI_ARTIFACT_MANIFEST,
];

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        Self {
            http: Settings {
                base: Box::new(reqwest::Client::builder),
                user_agent: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).into(),
                proxies: Arc::new(Proxies::from_env()),
                connect_timeout: Some(Duration::from_secs(30)),
                trust: Trust::default(),
                registries: BTreeMap::new(),
                directories: Vec::new(),
            },
            config: Config {
                plain_http: PlainHttp::default(),
                idle_timeout: Some(Duration::from_secs(120)),
                min_rate: Some(1 << 10),
                allowed: Allowed::default(),
                retry: None,
                on_retry: None,
                credentials: Arc::new(StaticCredentials::new()),
                mirrors: BTreeMap::new(),
                concurrency: 16,
                interval: None,
                parallel_ranges: None,
                metadata_limit: 4 << 20,
                manifest_limit: 50 << 20,
                manifest_types: MANIFEST_TYPES.to_vec(),
                upload_mode: UploadMode::default(),
                chunk_size: 4 << 20,
                max_chunk_size: 64 << 20,
                upload_memory: None,
                keep_old_referrers_index: false,
            },
            on_warning: None,
        }
    }

    /// Sets the registries that are reached by plain HTTP. By default those on this machine, where
    /// they speak it.
    pub fn plain_http(mut self, plain_http: PlainHttp) -> Self {
        self.config.plain_http = plain_http;
        self
    }

    /// Who the caller is at which registry. By default nobody in particular.
    pub fn credentials(mut self, provider: impl CredentialProvider + 'static) -> Self {
        self.config.credentials = Arc::new(provider);
        self
    }

    /// The mirrors of a registry, in the order in which they are asked for its content; the registry itself comes last.
    /// Called again for the same registry, these take the place of those before.
    ///
    /// Each request to a mirror says by `ns=HOST` whose content it wants, and has the credentials for the mirror, never
    /// those for the registry. A mirror that lacks something, fails or gives other content is passed over, without
    /// retries; one that does not answer is left alone for 30 seconds. Where a mirror gives other content than a blob's
    /// digest says after more than 1 MiB of it, that read fails, and the next one is answered elsewhere.
    ///
    /// Manifests and whole blobs are read at mirrors: [`Source::manifest`](oci_ref::Source::manifest),
    /// [`Source::blob`](oci_ref::Source::blob), and what is built on them. The registry itself is asked whether
    /// something is there, what a tag names ([`Source::resolve`](oci_ref::Source::resolve)), for lists and for parts
    /// of blobs: what is written next depends on the former, and nothing verifies the latter. All writes go to it.
    pub fn mirrors<M: Into<Mirror>>(
        mut self,
        host: Host,
        mirrors: impl IntoIterator<Item = M>,
    ) -> Self {
        self.config.mirrors.insert(host, mirrors.into_iter().map(Into::into).collect());
        self
    }

    /// When a request that failed is tried again, and a broken blob resumed. By default never: `None`.
    pub fn retry(mut self, policy: impl Into<Option<RetryPolicy>>) -> Self {
        self.config.retry = policy.into();
        self
    }

    /// Is told of each attempt that failed and will be repeated.
    pub fn on_retry(mut self, handler: impl Fn(&Retry<'_>) + Send + Sync + 'static) -> Self {
        self.config.on_retry = Some(Arc::new(handler));
        self
    }

    /// Is told once of each warning that a registry gives.
    pub fn on_warning(mut self, handler: impl Fn(&Warning) + Send + Sync + 'static) -> Self {
        self.on_warning = Some(Arc::new(handler));
        self
    }

    /// How long a connection may take to be made. 30 seconds by default; `None` for no limit.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.http.connect_timeout = timeout.into();
        self
    }

    /// How long the other side may keep silent: between the end of a request and its answer, between two pieces of a
    /// body. The time that content to be sent takes to arrive here does not count. What is read as a whole, such as a
    /// manifest or an error, must come with at least 4 KiB a second after that. 2 minutes by default; `None` for no limit.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = timeout.into().map(|timeout| timeout.min(MAX_IDLE));
        self
    }

    /// The fewest bytes a second in which a blob has to come, on average over the
    /// [idle time](Self::idle_timeout) and at least 30 seconds. Time in which nobody reads it does
    /// not count. One that comes more slowly is resumed as one that broke off; what comes so does
    /// not let the attempts begin anew. 1 KiB by default; `None` for no limit, as without an idle
    /// time.
    pub fn min_rate(mut self, bytes_a_second: impl Into<Option<u64>>) -> Self {
        self.config.min_rate = bytes_a_second.into();
        self
    }

    /// Lets registries lead to these hosts, each with this port or any: for tokens, to read blobs
    /// and to send them.
    ///
    /// A registry may lead to any public address, and to private ones (RFC 1918, 4193, 6598) if it
    /// answers at a private address or on this machine. To this machine it may lead if it is on it,
    /// and to link-local addresses (RFC 3927, 4291) if it answers at one. All else is an
    /// [`Obstacle::Internal`](crate::Obstacle), unless it is named here: nobody outside is to
    /// choose what is asked inside. Names are looked up for this, but for what goes through a
    /// proxy, which looks names up itself.
    pub fn allow_internal(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.config.allowed = Allowed::new(hosts.into_iter().collect());
        self
    }

    /// How many requests to one registry wait for an answer at a time, those that read and those that write each. 16 by
    /// default.
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.config.concurrency = requests;
        self
    }

    /// How many requests to one registry begin in a second at most, evenly spaced. By default as many as there are;
    /// `None` for no limit.
    pub fn rate_limit(mut self, requests_a_second: impl Into<Option<f64>>) -> Self {
        self.config.interval = requests_a_second
            .into()
            .map(|rate| Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX));
        self
    }

    /// Reads what follows the first `min_size` bytes of a blob by up to `requests` requests at once, if the registry
    /// gives parts of blobs. For blobs much larger than that, where one connection does not use all of the line.
    ///
    /// Each request asks for 4 MiB, which are held in memory until their turn: a blob that is being read holds up to
    /// `requests` times as much. It is verified as ever. By default a blob is read by one request.
    pub fn parallel_ranges(mut self, requests: usize, min_size: u64) -> Self {
        self.config.parallel_ranges = Some(ParallelRanges { requests, min_size });
        self
    }

    /// The most bytes that a page of tags, repositories or referrers may have, and the index that lists referrers where
    /// there is no API. 4 MiB by default.
    pub fn metadata_limit(mut self, bytes: u64) -> Self {
        self.config.metadata_limit = bytes;
        self
    }

    /// The most bytes that a manifest may have. 50 MiB by default.
    pub fn manifest_limit(mut self, bytes: u64) -> Self {
        self.config.manifest_limit = bytes;
        self
    }

    /// The manifest types that are asked for (`Accept`), and by which
    /// [`Repository::fetch`](crate::Repository::fetch) and its like tell manifests from blobs. By
    /// default, and if there are none, those of OCI and Docker schema 2.
    pub fn manifest_types(mut self, types: impl IntoIterator<Item = MediaType>) -> Self {
        let types: Vec<_> = types.into_iter().collect();
        self.config.manifest_types = if types.is_empty() { MANIFEST_TYPES.to_vec() } else { types };
        self
    }

    /// How a blob whose digest is known is sent.
    pub fn upload_mode(mut self, mode: UploadMode) -> Self {
        self.config.upload_mode = mode;
        self
    }

    /// Remembers the uploads of blobs of 1 MiB and more whose digest is known, and goes on with those
    /// that were remembered before, where the registry still has them. An upload that is remembered
    /// is not cancelled when its transfer breaks off or is dropped. By default none is.
    pub fn remember_uploads(mut self, memory: impl UploadMemory + 'static) -> Self {
        self.config.upload_memory = Some(Arc::new(memory));
        self
    }

    /// The size in bytes of the chunks in which a blob is sent whose digest is not known yet; it is also how much of it
    /// is held in memory. 4 MiB by default, which no registry is known to refuse. A registry may ask for larger chunks,
    /// up to 64 MiB.
    pub fn chunk_size(mut self, bytes: usize) -> Self {
        self.config.chunk_size = bytes;
        self.config.max_chunk_size = self.config.max_chunk_size.max(bytes);
        self
    }

    /// Whether the index that lists the referrers of a manifest, for registries without the referrers API, is kept when
    /// another takes its tag. By default it is deleted.
    pub fn keep_old_referrers_index(mut self, keep: bool) -> Self {
        self.config.keep_old_referrers_index = keep;
        self
    }

    /// Trusts the certificates in this PEM as well.
    pub fn add_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.http.trust.roots.push(pem.into());
        self
    }

    /// Trusts the certificates that were added, and not those of the platform.
    pub fn only_added_root_certificates(mut self) -> Self {
        self.http.trust.only_roots = true;
        self
    }

    /// Says by a certificate who the client is: the chain and its key, both in PEM.
    pub fn client_certificate(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.http.trust.identity = Some((chain.into(), key.into()));
        self
    }

    /// Uses these TLS settings for one registry, beside those of the client. They come on top of
    /// those that [`certificate_directories`](Self::certificate_directories) has for it.
    pub fn registry_tls(mut self, host: Host, tls: TlsOptions) -> Self {
        self.http.registries.insert(host, tls);
        self
    }

    /// Looks for certificates of each registry in these directories, in this order: the first that
    /// has a directory `HOST:PORT` counts (`/etc/containers/certs.d`, `/etc/docker/certs.d`), in
    /// the form that [`TlsOptions::from_directory`] reads. They are read when the registry is first
    /// reached. By default none.
    pub fn certificate_directories(
        mut self,
        directories: impl IntoIterator<Item = PathBuf>,
    ) -> Self {
        self.http.directories = directories.into_iter().collect();
        self
    }

    /// Names the client (`User-Agent`). By default this crate and its version.
    pub fn user_agent(mut self, name: &str) -> Self {
        name.clone_into(&mut self.http.user_agent);
        self
    }

    /// Reaches registries by these proxies. By default those of the environment, see
    /// [`Proxies::from_env`].
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.http.proxies = Arc::new(proxies);
        self
    }

    /// Uses no proxy, whatever the environment says.
    pub fn no_proxy(self) -> Self {
        self.proxies(Proxies::none())
    }

    /// Begins each HTTP client underneath with these settings, for what this builder has no setting
    /// for. There may be several, since each has TLS settings of its own. Redirects, decompression,
    /// TLS, proxies, what looks names up, the user agent and the timeout for connecting are set by
    /// this builder in any case. A timeout for whole requests cuts long transfers off.
    pub fn http(
        mut self,
        http: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.http.base = Box::new(http);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// When a certificate or a setting of the HTTP client cannot be used, or a limit is zero or makes no sense. A machine without root
    /// certificates is no error here: registries over plain HTTP can be reached, and any request by https fails.
    pub fn build(self) -> Result<Client> {
        let zero = |what: &str| Err(Error::new(ErrorKind::Invalid, what, "it must not be zero"));
        if self.config.concurrency == 0 {
            return zero("concurrency");
        }
        if self.config.chunk_size == 0 {
            return zero("chunk size");
        }
        if self.config.parallel_ranges.is_some_and(|parallel| parallel.requests == 0) {
            return zero("number of parallel ranges");
        }
        if self.config.interval.is_some_and(|interval| interval > MAX_INTERVAL) {
            let reason = "it must be at least one request an hour";
            return Err(Error::new(ErrorKind::Invalid, "rate limit", reason));
        }
        let mut config = self.config;
        config.concurrency = config.concurrency.min(tokio::sync::Semaphore::MAX_PERMITS);
        let transport = Transport::new(self.http)?;
        Ok(Client::new(transport, config, Warnings::new(self.on_warning)))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("plain_http", &self.plain_http)
            .field("mirrors", &self.mirrors)
            .field("idle_timeout", &self.idle_timeout)
            .field("min_rate", &self.min_rate)
            .field("allowed", &self.allowed)
            .field("retry", &self.retry)
            .field("concurrency", &self.concurrency)
            .field("interval", &self.interval)
            .field("parallel_ranges", &self.parallel_ranges)
            .field("metadata_limit", &self.metadata_limit)
            .field("manifest_limit", &self.manifest_limit)
            .field("upload_mode", &self.upload_mode)
            .field("chunk_size", &self.chunk_size)
            .finish_non_exhaustive()
    }
}
