//! What is measured.

use oci_spec_types::MediaType;

use crate::bench::content::{
    Blob, Content, LARGE, REPOSITORY, TAG, blob_path, expect, manifest_path, push_blob,
    push_manifest, store,
};
use crate::bench::http::{Answer, Connection};
use crate::bench::lists::List;
use crate::bench::target::{Kind as Who, Target};
use crate::bench::{filled, lists};
use crate::process::Result;

/// Names that the aims refer to.
pub(crate) const GET_BY_TAG: &str = "GET manifest by tag";
pub(crate) const GET_SMALL: &str = "GET blob 4 KiB";
pub(crate) const GET_LARGE: &str = "GET blob 64 MiB";
pub(crate) const GET_RANGE: &str = "GET 64 KiB of a blob of 64 MiB";
pub(crate) const PUSH_SMALL: &str = "push blob 4 KiB";
pub(crate) const PUSH_LARGE: &str = "push blob 64 MiB";
pub(crate) const PUSH_IMAGE: &str = "push layer + manifest + tag";
pub(crate) const TAGS_1_000: &str = "page of 100 among 1,000 tags";
pub(crate) const TAGS_100_000: &str = "page of 100 among 100,000 tags";
pub(crate) const REFERRERS: &str = "list of 500 referrers";

/// One thing that is measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    on: On,
    /// Whether its content is large.
    pub(crate) large: bool,
    /// Whether it runs beside uploads that rest and downloads that are slow.
    pub(crate) crowd: bool,
    kind: Kind,
}

/// On whom a scenario runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// Anybody who serves the files that a registry would.
    Files,
    /// Registries.
    Registries,
    /// Registries, and ours also without syncing.
    Pushed,
    /// Ours, which takes many tags in one push, so that preparing does not take hours.
    Ours,
    /// Ours with very many manifests.
    Filled,
}

enum Kind {
    GetManifest { method: &'static str, by_tag: bool },
    GetBlob,
    GetRange,
    PushBlob,
    PushImage,
    List(Listed),
    FilledManifest,
}

/// A list that is asked for.
enum Listed {
    Tags(usize),
    Referrers,
    FilledCatalog,
    FilledTags,
}

impl Listed {
    /// The list of one operation.
    fn of(&self, target: &Target, content: &Content, number: u64) -> Result<List> {
        match self {
            Self::Tags(tags) => Ok(lists::tag_page(*tags, number)),
            Self::Referrers => Ok(lists::referrers(&content.manifest)),
            Self::FilledCatalog => filled::catalog_page(target, number),
            Self::FilledTags => filled::tag_page(target, number),
        }
    }
}

pub(crate) const ALL: &[Scenario] = &[
    read(GET_BY_TAG, Kind::GetManifest { method: "GET", by_tag: true }),
    read("GET manifest by digest", Kind::GetManifest { method: "GET", by_tag: false }),
    read("HEAD manifest by tag", Kind::GetManifest { method: "HEAD", by_tag: true }),
    read("HEAD manifest by digest", Kind::GetManifest { method: "HEAD", by_tag: false }),
    read(GET_SMALL, Kind::GetBlob),
    Scenario { large: true, ..read(GET_LARGE, Kind::GetBlob) },
    read(GET_RANGE, Kind::GetRange),
    Scenario {
        crowd: true,
        ..list(
            "GET manifest by tag, beside 64 resting uploads and 64 slow downloads",
            Kind::GetManifest { method: "GET", by_tag: true },
        )
    },
    push(PUSH_SMALL, Kind::PushBlob),
    Scenario {
        crowd: true,
        ..list("push blob 4 KiB, beside 64 resting uploads and 64 slow downloads", Kind::PushBlob)
    },
    Scenario { large: true, ..push(PUSH_LARGE, Kind::PushBlob) },
    push(PUSH_IMAGE, Kind::PushImage),
    list(TAGS_1_000, Kind::List(Listed::Tags(1_000))),
    only(On::Ours, "page of 100 among 10,000 tags", Kind::List(Listed::Tags(10_000))),
    only(On::Ours, TAGS_100_000, Kind::List(Listed::Tags(100_000))),
    list(REFERRERS, Kind::List(Listed::Referrers)),
    only(On::Filled, "GET manifest by tag, among very many manifests", Kind::FilledManifest),
    only(On::Filled, "page of 10 tags, among very many manifests", Kind::List(Listed::FilledTags)),
    only(
        On::Filled,
        "page of 100 of the catalogue of very many manifests",
        Kind::List(Listed::FilledCatalog),
    ),
];

const fn only(on: On, name: &'static str, kind: Kind) -> Scenario {
    Scenario { name, on, large: false, crowd: false, kind }
}

const fn read(name: &'static str, kind: Kind) -> Scenario {
    only(On::Files, name, kind)
}

const fn list(name: &'static str, kind: Kind) -> Scenario {
    only(On::Registries, name, kind)
}

const fn push(name: &'static str, kind: Kind) -> Scenario {
    only(On::Pushed, name, kind)
}

/// What an operation sends, made before its time is taken.
pub(crate) struct Prepared {
    blob: Option<Blob>,
    manifest: Option<Blob>,
    number: u64,
}

impl Scenario {
    /// Whether it runs on a target.
    pub(crate) fn runs_on(&self, target: &Target) -> bool {
        match target.kind {
            Who::Ours => self.on != On::Filled,
            Who::Peer => matches!(self.on, On::Files | On::Registries | On::Pushed),
            // Large content has nothing to do with the database.
            Who::OnDatabase => self.on != On::Filled && !self.large,
            Who::Unsynced => self.on == On::Pushed,
            Who::Filled { .. } => self.on == On::Filled,
            Who::Files => self.on == On::Files,
        }
    }

    /// Whether the targets write content.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.kind, Kind::PushBlob | Kind::PushImage)
    }

    /// Whether it needs a server with very many manifests.
    pub(crate) fn needs_many(&self) -> bool {
        self.on == On::Filled
    }

    /// Stores on a target what the scenario reads there.
    pub(crate) async fn store(&self, target: &Target, content: &Content) -> Result {
        if matches!(target.kind, Who::Files | Who::Filled { .. }) {
            return Ok(());
        }
        store(target, content).await?;
        match self.kind {
            Kind::List(Listed::Tags(tags)) => lists::store_tags(target, content, tags).await,
            Kind::List(Listed::Referrers) => lists::store_referrers(target, content).await,
            _ => Ok(()),
        }
    }

    /// How many connections: large content fills the machine with few.
    pub(crate) fn connections(&self, small: u16) -> usize {
        usize::from(if self.large { small.min(4) } else { small })
    }

    /// Makes what an operation sends.
    pub(crate) fn prepare(&self, content: &Content, number: u64) -> Prepared {
        let blob = self.writes().then(|| content.fresh(self.large, number));
        let manifest = match (&self.kind, &blob) {
            (Kind::PushImage, Some(blob)) => Some(content.image_of(blob)),
            _ => None,
        };
        Prepared { blob, manifest, number }
    }

    /// How many entries an operation gives: those of a list, which are counted once, or else one.
    pub(crate) async fn entries(&self, target: &Target, content: &Content) -> Result<usize> {
        match &self.kind {
            Kind::List(list) => list.of(target, content, 0)?.count(target).await,
            _ => Ok(1),
        }
    }

    /// Does one operation, and says how many bytes of content moved.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        target: &Target,
        content: &Content,
        prepared: &Prepared,
    ) -> Result<u64> {
        let number = prepared.number;
        match &self.kind {
            Kind::GetManifest { method, by_tag } => {
                let digest = content.manifest.digest.as_str();
                let path = manifest_path(if *by_tag { TAG } else { digest });
                let accept = format!("Accept: {}\r\n", MediaType::OCI_IMAGE_MANIFEST);
                let answer = connection.send(method, &path, &accept, &[]).await?;
                expect(answer.status, 200, method)?;
                let length = if *method == "HEAD" { 0 } else { content.manifest.length() };
                whole(&answer, length as u64)
            }
            Kind::GetBlob => {
                let blob = if self.large { &content.large } else { &content.small };
                let answer = connection.send("GET", &blob_path(&blob.digest), "", &[]).await?;
                expect(answer.status, 200, "GET")?;
                whole(&answer, blob.length() as u64)
            }
            Kind::GetRange => {
                const LENGTH: u64 = 64 << 10;
                // Elsewhere every time.
                let start = number * 7919 * LENGTH % (LARGE as u64 - LENGTH);
                let range = format!("Range: bytes={start}-{}\r\n", start + LENGTH - 1);
                let path = blob_path(&content.large.digest);
                let answer = connection.send("GET", &path, &range, &[]).await?;
                expect(answer.status, 206, "GET of a range")?;
                whole(&answer, LENGTH)
            }
            Kind::PushBlob | Kind::PushImage => {
                let blob = prepared.blob.as_ref().ok_or("nothing was prepared to be pushed")?;
                push_blob(connection, REPOSITORY, blob).await?;
                if let Some(manifest) = &prepared.manifest {
                    let tag = format!("t{number}");
                    push_manifest(connection, REPOSITORY, manifest, &tag).await?;
                }
                Ok(blob.length() as u64)
            }
            Kind::FilledManifest => filled::manifest(connection, target, number).await,
            Kind::List(list) => list.of(target, content, number)?.get(connection).await,
        }
    }
}

/// The length of an answer, which must be all of it.
fn whole(answer: &Answer, expected: u64) -> Result<u64> {
    match answer.length {
        found if found == expected => Ok(found),
        found => Err(format!("{found} bytes came, expected {expected}")),
    }
}
