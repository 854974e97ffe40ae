//! From a location to the repository that it is in.

use std::sync::Arc;

use oci_ref::{Layout, Source, Store, Target};
use oci_registry_client::{Client, PlainHttp, Repository};
use oci_spec_types::{Digest, Reference, Tag};

use crate::cli::ConnectionArgs;
use crate::failure::Failure;
use crate::location::{Entry, Location};

/// What is read from a place.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Target,
}

/// The place that something is written to.
pub(crate) struct Destination {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tags: Vec<Tag>,
    /// The digest that what is written must have.
    pub(crate) digest: Option<Digest>,
}

fn client(connection: ConnectionArgs) -> Result<Client, Failure> {
    let plain = if connection.plain_http { PlainHttp::Always } else { PlainHttp::Loopback };
    Client::builder()
        .user_agent(concat!("ocictl/", env!("CARGO_PKG_VERSION")))
        .plain_http(plain)
        .build()
        .map_err(|error| Failure::new("preparing the HTTP client").because(error))
}

fn repository(reference: &Reference, connection: ConnectionArgs) -> Result<Repository, Failure> {
    let opened = client(connection)?.repository(reference);
    opened.map_err(|error| Failure::of(format!("opening {reference}"), error.into()))
}

/// Opens a place to read from.
pub(crate) async fn source(
    location: &Location,
    connection: ConnectionArgs,
) -> Result<Opened, Failure> {
    let opening = || format!("opening {location}");
    match location {
        Location::Registry(reference) => {
            let target = Target::of(reference)
                .ok_or_else(|| Failure::new(format!("{location} names neither tag nor digest")))?;
            Ok(Opened { source: Arc::new(repository(reference, connection)?), target })
        }
        Location::Layout { path, entry } => {
            let layout = Layout::open(path).await.map_err(|error| Failure::of(opening(), error))?;
            let target = match entry {
                Entry::Digest(digest) => Target::Digest(digest.clone()),
                Entry::Named(name) => {
                    let named = layout.resolve_name(name).await;
                    Target::Digest(named.map_err(|error| Failure::of(opening(), error))?.digest)
                }
                Entry::Only => only_entry(&layout, location).await?,
            };
            Ok(Opened { source: Arc::new(layout), target })
        }
    }
}

async fn only_entry(layout: &Layout, location: &Location) -> Result<Target, Failure> {
    let entries = layout
        .entries()
        .await
        .map_err(|error| Failure::of(format!("opening {location}"), error))?;
    let Some(first) = entries.first() else {
        return Err(Failure::new(format!("{location} is empty")));
    };
    if entries.iter().any(|entry| entry.descriptor.digest != first.descriptor.digest) {
        let mut names: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.name {
                Some(name) => format!("{location}:{name}"),
                None => format!("{location}@{}", entry.descriptor.digest),
            })
            .collect();
        let count = names.len();
        names.truncate(5);
        return Err(Failure::new(format!("{location} has {count} entries, and none is named"))
            .hint(format!("name one: {}", names.join(", "))));
    }
    Ok(Target::Digest(first.descriptor.digest.clone()))
}

/// Opens a place to write to.
pub(crate) async fn destination(
    location: &Location,
    connection: ConnectionArgs,
) -> Result<Destination, Failure> {
    match location {
        Location::Registry(reference) => Ok(Destination {
            store: Arc::new(repository(reference, connection)?),
            tags: reference.tag().cloned().into_iter().collect(),
            digest: reference.digest().cloned(),
        }),
        Location::Layout { path, entry } => {
            let tags = match entry {
                Entry::Named(name) => vec![name.parse::<Tag>().map_err(|error| {
                    Failure::new(format!("naming the copy {name:?}")).because(error)
                })?],
                Entry::Only | Entry::Digest(_) => Vec::new(),
            };
            let layout = Layout::create(path)
                .await
                .map_err(|error| Failure::of(format!("opening {location}"), error))?;
            let digest = match entry {
                Entry::Digest(digest) => Some(digest.clone()),
                Entry::Named(_) | Entry::Only => None,
            };
            Ok(Destination { store: Arc::new(layout), tags, digest })
        }
    }
}
