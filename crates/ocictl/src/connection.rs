//! How registries are reached: with whose credentials, at which mirrors, with how much patience.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Args;
use oci_registry_client::{
    Client, ClientBuilder, DockerConfig, Mirror, PlainHttp, Repository, RetryPolicy,
};
use oci_spec_types::{Host, Reference};

use crate::failure::Failure;

/// How a registry is reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct HostArgs {
    /// Use HTTP instead of HTTPS for all registries. Loopback addresses use it anyway.
    #[arg(long)]
    plain_http: bool,

    /// The file with the credentials [default: those of Podman and Docker, as `ocictl login` keeps them; or
    /// $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// Trust the certificates in this PEM file too.
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,

    /// How often a request that failed for a passing reason is tried again.
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: u32,
}

/// How registries are reached, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectionArgs {
    #[command(flatten)]
    host: HostArgs,

    /// Ask registries as nobody in particular.
    #[arg(long, conflicts_with = "authfile")]
    no_creds: bool,
}

/// Where else content is read from.
#[derive(Clone, Debug, Args)]
pub(crate) struct MirrorArgs {
    /// Read content of the registry HOST at this mirror first. May be repeated, and is asked in that order; tags are
    /// asked of the registry itself.
    #[arg(long, value_name = "HOST=MIRROR")]
    mirror: Vec<MirrorOf>,
}

/// A registry, and a mirror of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MirrorOf {
    host: Host,
    mirror: Host,
}

impl FromStr for MirrorOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, mirror) = text
            .split_once('=')
            .ok_or("expected HOST=MIRROR, such as registry.example=mirror.example:5000")?;
        let parse = |text: &str| text.parse::<Host>().map_err(|error| error.to_string());
        Ok(Self { host: parse(host)?, mirror: parse(mirror)? })
    }
}

impl HostArgs {
    /// Where credentials are kept.
    pub(crate) fn credentials(&self) -> DockerConfig {
        self.authfile.as_ref().map_or_else(DockerConfig::from_env, DockerConfig::at)
    }

    /// A client that asks as nobody.
    pub(crate) fn builder(&self) -> Result<ClientBuilder, Failure> {
        let plain = if self.plain_http { PlainHttp::Always } else { PlainHttp::Loopback };
        let retry = RetryPolicy::exponential(
            Duration::from_millis(500),
            Duration::from_secs(30),
            self.retries,
        )
        .deadline(Duration::from_secs(300));
        let mut builder = Client::builder()
            .user_agent(concat!("ocictl/", env!("CARGO_PKG_VERSION")))
            .plain_http(plain)
            .retry(retry)
            .on_retry(|retry| {
                tracing::warn!(
                    "{}; trying again in {:.1} s",
                    retry.error,
                    retry.wait.as_secs_f64()
                );
            })
            .on_warning(|warning| tracing::warn!("{} says: {}", warning.host, warning.text));
        for file in &self.ca_file {
            let pem = std::fs::read(file).map_err(|error| {
                Failure::new(format!("--ca-file {}", file.display())).because(error)
            })?;
            builder = builder.add_root_certificates(pem);
        }
        Ok(builder)
    }
}

impl MirrorArgs {
    fn add_to(&self, mut builder: ClientBuilder) -> ClientBuilder {
        for MirrorOf { host, .. } in &self.mirror {
            let mirrors = self.mirror.iter().filter(|other| other.host == *host);
            let mirrors = mirrors.map(|other| Mirror::new(other.mirror.clone()));
            builder = builder.mirrors(host.clone(), mirrors);
        }
        builder
    }
}

/// The client of one command, made when it is first needed.
pub(crate) struct Connection {
    args: ConnectionArgs,
    mirrors: Option<MirrorArgs>,
    concurrency: Option<usize>,
    client: OnceLock<Client>,
}

impl Connection {
    pub(crate) fn new(args: ConnectionArgs) -> Self {
        Self { args, mirrors: None, concurrency: None, client: OnceLock::new() }
    }

    /// Where else content is read from.
    pub(crate) fn mirrors(self, mirrors: MirrorArgs) -> Self {
        Self { mirrors: Some(mirrors), ..self }
    }

    /// How many requests to a registry run at a time.
    pub(crate) fn concurrency(self, requests: usize) -> Self {
        Self { concurrency: Some(requests), ..self }
    }

    fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = self.args.host.builder()?;
        if let Some(mirrors) = &self.mirrors {
            builder = mirrors.add_to(builder);
        }
        if let Some(requests) = self.concurrency {
            builder = builder.concurrency(requests);
        }
        if !self.args.no_creds {
            builder = builder.credentials(self.args.host.credentials());
        }
        let client = builder
            .build()
            .map_err(|error| Failure::new("preparing the HTTP client").because(error))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Asks whether there is a registry that may be used.
    pub(crate) async fn ping(&self, host: &Host) -> Result<(), Failure> {
        let failed =
            |error: oci_registry_client::Error| Failure::of(format!("asking {host}"), error.into());
        let registry = self.client()?.registry(host).map_err(failed)?;
        registry.ping().await.map_err(failed)
    }

    pub(crate) fn repository(&self, reference: &Reference) -> Result<Repository, Failure> {
        let opened = self.client()?.repository(reference);
        opened.map_err(|error| Failure::of(format!("opening {reference}"), error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_named_with_their_registry() {
        let parsed: MirrorOf = "registry.example=localhost:5000".parse().unwrap();
        assert_eq!(
            (parsed.host.as_str(), parsed.mirror.as_str()),
            ("registry.example", "localhost:5000")
        );
        for wrong in [
            "",
            "registry.example",
            "registry.example=",
            "=x.example",
            "a.example=https://x.example",
        ] {
            wrong.parse::<MirrorOf>().unwrap_err();
        }
    }
}
