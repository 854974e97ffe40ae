//! Reaching registries: with whose credentials, at which mirrors, with how much patience.

mod args;
mod side;

use std::str::FromStr;
use std::sync::OnceLock;

use clap::Args;
use oci_registry_client::{Client, ClientBuilder, Mirror, Repository};
use oci_spec_types::{Host, Reference};

use self::side::Reach;
use crate::failure::Failure;
use crate::state::Uploads;

pub(crate) use self::args::{ConnectionArgs, FromArgs, HostArgs, ManifestArgs, RetryArgs, ToArgs};
pub(crate) use self::side::{Side, password_from};

/// The most bytes of a manifest that is read, unless an option says otherwise: 4 MiB.
const MAX_MANIFEST: u64 = 4 << 20;

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
    /// A client for a registry that asks as nobody.
    pub(crate) fn builder(&self, host: &Host) -> Result<ClientBuilder, Failure> {
        Reach::from(self.reach.clone()).builder(Some(host), self.retries.retries)
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

/// The client for one side of a command, made when it is first needed.
pub(crate) struct Connection {
    side: Side,
    /// The registry of this side, if it has one.
    host: Option<Host>,
    retries: u32,
    mirrors: Option<MirrorArgs>,
    concurrency: Option<usize>,
    uploads: Option<Uploads>,
    max_manifest: u64,
    client: OnceLock<Client>,
}

impl Connection {
    pub(crate) fn new(side: Side, host: Option<&Host>, retries: RetryArgs) -> Self {
        Self {
            side,
            host: host.cloned(),
            retries: retries.retries,
            mirrors: None,
            concurrency: None,
            uploads: None,
            max_manifest: MAX_MANIFEST,
            client: OnceLock::new(),
        }
    }

    /// Where else content is read from.
    pub(crate) fn mirrors(self, mirrors: MirrorArgs) -> Self {
        Self { mirrors: Some(mirrors), ..self }
    }

    /// How many requests to a registry run at a time.
    pub(crate) fn concurrency(self, requests: usize) -> Self {
        Self { concurrency: Some(requests), ..self }
    }

    /// Remembers uploads there that are not finished.
    pub(crate) fn remember(self, uploads: Option<Uploads>) -> Self {
        Self { uploads, ..self }
    }

    /// The largest manifest that is read.
    pub(crate) fn max_manifest(self, args: &ManifestArgs) -> Self {
        Self { max_manifest: args.max_manifest, ..self }
    }

    fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = self.side.builder(self.host.as_ref(), self.retries)?;
        if let Some(mirrors) = &self.mirrors {
            builder = mirrors.add_to(builder);
        }
        if let Some(requests) = self.concurrency {
            builder = builder.concurrency(requests);
        }
        if let Some(uploads) = &self.uploads {
            builder = builder.remember_uploads(uploads.clone());
        }
        let client = builder
            .manifest_limit(self.max_manifest)
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
