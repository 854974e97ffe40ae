//! From a location to the repository that it is in.

use std::io::stdin;
use std::path::Path;
use std::sync::Arc;

use oci_ref::{
    Directory, DockerArchive, DockerArchiveOptions, DockerArchiveWriter, Layout, LayoutEntry,
    OciArchive, OciArchiveWriter, Precondition, Source, SpoolOptions, Store, Target, choose_entry,
};
use oci_spec_types::{Descriptor, Digest, Platform, RefName, Reference, Tag};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::location::{Entry, Form, Location, STDIN};

/// What is read from a place.
pub(crate) struct Opened {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Target,
    /// True if it was chosen of several as what fits the platform.
    pub(crate) fits: bool,
}

/// The place that something is written to.
pub(crate) struct Destination {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tags: Vec<Tag>,
    /// The digest that what is written must have.
    pub(crate) digest: Option<Digest>,
    /// What is left to do once everything has been copied.
    pub(crate) end: End,
}

/// Opens a place to read from. Where several manifests have the name, or all of them have none, the
/// platform tells which is meant.
pub(crate) async fn source(
    location: &Location,
    connection: &Connection,
    platform: Option<&Platform>,
) -> Result<Opened, Failure> {
    let (form, path, entry) = match location {
        Location::Registry(reference) => {
            let target = Target::of(reference)
                .ok_or_else(|| Failure::new(format!("{location} names neither tag nor digest")))?;
            let source = Arc::new(connection.repository(reference)?);
            return Ok(Opened { source, target, fits: false });
        }
        Location::Files { form, path, entry } => (form, path, entry),
    };
    let opened = match form {
        Form::Layout => from_layout(path, entry, platform).await,
        Form::Archive => from_archive(path, entry, platform).await,
        Form::Directory => from_directory(path).await,
        Form::DockerArchive => from_docker_archive(path, entry, platform).await,
    };
    let failed = |error| Failure::of(format!("opening {location}"), error);
    let Files { source, mut named, mut fits, entries } = opened.map_err(failed)?;
    if *entry == Entry::Only && entries.iter().all(|(name, _)| name.is_none()) {
        let all: Vec<_> = entries.iter().map(|(_, descriptor)| descriptor.clone()).collect();
        let fitting = fitting(&source, &all, platform).await.map_err(failed)?;
        fits |= fitting.is_some();
        named = named.or(fitting);
    }
    let target = match (named, entry) {
        (Some(named), _) => Target::Digest(named.digest),
        (None, Entry::Digest(digest)) => Target::Digest(digest.clone()),
        (None, _) => only_entry(&entries, location)?,
    };
    Ok(Opened { source, target, fits })
}

/// Files that have been opened: what was named in them, or else all that could have been.
struct Files {
    source: Arc<dyn Source>,
    named: Option<Descriptor>,
    /// True if the one that is named was chosen of several as what fits the platform.
    fits: bool,
    entries: Vec<(Option<String>, Descriptor)>,
}

/// Of several manifests the one that a platform fits; `None` where there is no choice, or nothing
/// to choose by.
async fn fitting(
    source: &Arc<dyn Source>,
    entries: &[Descriptor],
    platform: Option<&Platform>,
) -> oci_ref::Result<Option<Descriptor>> {
    match (platform, entries) {
        (Some(platform), [first, others @ ..])
            if others.iter().any(|other| other.digest != first.digest) =>
        {
            choose_entry(source, entries, platform).await.map(Some)
        }
        _ => Ok(None),
    }
}

/// Finds what is named, and tells whether it was chosen of several with that name as what fits the
/// platform.
async fn named(
    source: &Arc<dyn Source>,
    entry: &Entry,
    platform: Option<&Platform>,
    same: impl Fn(&str) -> Vec<Descriptor>,
    resolve: impl AsyncFn(&str) -> oci_ref::Result<Descriptor>,
) -> oci_ref::Result<(Option<Descriptor>, bool)> {
    let Entry::Named(name) = entry else { return Ok((None, false)) };
    match fitting(source, &same(name), platform).await? {
        Some(fitting) => Ok((Some(fitting), true)),
        None => Ok((Some(resolve(name).await?), false)),
    }
}

fn with_name(entries: &[LayoutEntry], name: &str) -> Vec<Descriptor> {
    let named = entries.iter().filter(|entry| entry.name.as_deref() == Some(name));
    named.map(|entry| entry.descriptor.clone()).collect()
}

fn listed(entries: Vec<LayoutEntry>) -> Vec<(Option<String>, Descriptor)> {
    entries.into_iter().map(|entry| (entry.name, entry.descriptor)).collect()
}

async fn from_layout(
    path: &Path,
    entry: &Entry,
    platform: Option<&Platform>,
) -> oci_ref::Result<Files> {
    let layout = Layout::open(path).await?;
    let source: Arc<dyn Source> = Arc::new(layout.clone());
    let entries = layout.entries().await?;
    let same = |name: &str| with_name(&entries, name);
    let resolve = async |name: &str| layout.resolve_name(name).await;
    let (named, fits) = named(&source, entry, platform, same, resolve).await?;
    Ok(Files { source, named, fits, entries: listed(entries) })
}

async fn from_archive(
    path: &Path,
    entry: &Entry,
    platform: Option<&Platform>,
) -> oci_ref::Result<Files> {
    let archive = match path == Path::new(STDIN) {
        true => OciArchive::read_from(stdin(), path, SpoolOptions::default()).await?,
        false => OciArchive::open(path).await?,
    };
    let source: Arc<dyn Source> = Arc::new(archive.clone());
    let entries = archive.entries();
    let same = |name: &str| with_name(&entries, name);
    let resolve = async |name: &str| archive.resolve_name(name).await;
    let (named, fits) = named(&source, entry, platform, same, resolve).await?;
    Ok(Files { source, named, fits, entries: listed(entries) })
}

async fn from_directory(path: &Path) -> oci_ref::Result<Files> {
    let directory = Directory::open(path).await?;
    let named = Some(directory.root().await?);
    Ok(Files { named, fits: false, entries: Vec::new(), source: Arc::new(directory) })
}

async fn from_docker_archive(
    path: &Path,
    entry: &Entry,
    platform: Option<&Platform>,
) -> oci_ref::Result<Files> {
    let archive = match path == Path::new(STDIN) {
        true => DockerArchive::read_from(stdin(), path, SpoolOptions::default()).await?,
        false => DockerArchive::open(path).await?,
    };
    let source: Arc<dyn Source> = Arc::new(archive.clone());
    let same =
        |name: &str| archive.images_named(name).into_iter().map(|image| image.descriptor).collect();
    let resolve = async |name: &str| archive.resolve_name(name);
    let (named, fits) = named(&source, entry, platform, same, resolve).await?;
    let images = archive.images().into_iter();
    let entries = images.map(|image| (image.names.into_iter().next(), image.descriptor)).collect();
    Ok(Files { source, named, fits, entries })
}

/// The entry that is meant where none is named: there must be only one.
fn only_entry(
    entries: &[(Option<String>, Descriptor)],
    location: &Location,
) -> Result<Target, Failure> {
    let Some((_, first)) = entries.first() else {
        return Err(Failure::new(format!("{location} is empty")));
    };
    if entries.iter().any(|(_, other)| other.digest != first.digest) {
        let name = |(name, descriptor): &(Option<String>, Descriptor)| match name {
            // Whoever made the file chose the name, and a terminal may take it for more than text.
            Some(name) => format!("{location}:{}", name.escape_debug()),
            None => format!("{location}@{}", descriptor.digest),
        };
        let names: Vec<_> = entries.iter().take(5).map(name).collect();
        let message = format!("{location} has {} entries, and none is named", entries.len());
        return Err(Failure::new(message).hint(format!("name one: {}", names.join(", "))));
    }
    Ok(Target::Digest(first.digest.clone()))
}

/// Opens a place to write to.
pub(crate) async fn destination(
    location: &Location,
    connection: &Connection,
) -> Result<Destination, Failure> {
    let (form, path, entry) = match location {
        Location::Registry(reference) => {
            return Ok(Destination {
                store: Arc::new(connection.repository(reference)?),
                tags: reference.tag().cloned().into_iter().collect(),
                digest: reference.digest().cloned(),
                end: End::None,
            });
        }
        Location::Files { form, path, entry } => (form, path, entry),
    };
    if location.is_stream() {
        let message = format!("{location} would be written to the standard output");
        return Err(Failure::new(message).hint("name a file; ./- is one that is called -"));
    }
    let misnamed = |name: &str| Failure::new(format!("naming the copy {name:?}"));
    let (mut repository, mut tags, mut named) = (None, Vec::new(), None);
    match (form, entry) {
        (Form::DockerArchive, Entry::Named(name)) => {
            let parsed = Reference::parse_familiar(name);
            let parsed = parsed.map_err(|error| misnamed(name).because(error))?;
            tags.extend(parsed.tag().cloned());
            repository = Some(parsed);
        }
        (_, Entry::Named(name)) => {
            let parsed = name.parse::<RefName>();
            named = Some(parsed.map_err(|error| misnamed(name).because(error))?);
        }
        (_, Entry::Only | Entry::Digest(_)) => {}
    }
    let digest = match entry {
        Entry::Digest(digest) => Some(digest.clone()),
        Entry::Named(_) | Entry::Only => None,
    };
    let failed = |error| Failure::of(format!("opening {location}"), error);
    let (store, end): (Arc<dyn Store>, End) = match form {
        Form::Layout => {
            let layout = Layout::create(path).await.map_err(failed)?;
            (Arc::new(layout.clone()), End::Layout(layout, named))
        }
        Form::Archive => {
            let archive = OciArchiveWriter::create(path).await.map_err(failed)?;
            (Arc::new(archive.clone()), End::Archive(archive, named))
        }
        Form::Directory => {
            let directory = Directory::create(path).await.map_err(failed)?;
            (Arc::new(directory.clone()), End::Directory(directory))
        }
        Form::DockerArchive => {
            let options = DockerArchiveOptions { repository, ..DockerArchiveOptions::default() };
            let archive = DockerArchiveWriter::create(path, options).await.map_err(failed)?;
            (Arc::new(archive.clone()), End::DockerArchive(archive))
        }
    };
    Ok(Destination { store, tags, digest, end })
}

/// What is left to do once everything has been copied.
pub(crate) enum End {
    None,
    Layout(Layout, Option<RefName>),
    Archive(OciArchiveWriter, Option<RefName>),
    DockerArchive(DockerArchiveWriter),
    Directory(Directory),
}

impl End {
    /// Does it. `root` is what was copied.
    pub(crate) async fn reach(self, root: &Digest) -> oci_ref::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Layout(layout, name) => match name {
                Some(name) => layout.set_name(&name, root, &Precondition::None).await,
                None => Ok(()),
            },
            Self::Archive(archive, name) => {
                if let Some(name) = name {
                    archive.set_name(&name, root, &Precondition::None).await?;
                }
                archive.finish().await
            }
            Self::DockerArchive(archive) => archive.finish().await,
            Self::Directory(directory) => directory.set_root(root).await,
        }
    }
}
