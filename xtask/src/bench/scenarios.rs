//! What is measured.

use std::sync::Arc;

use oci_spec_types::{Descriptor, Digest, ImageManifest, MediaType};

use crate::bench::http::Connection;
use crate::bench::lists;
use crate::bench::target::Target;
use crate::noise::noise;
use crate::process::Result;

pub(crate) const REPOSITORY: &str = "bench/data";
const TAG: &str = "v1";
const SMALL: usize = 4 << 10;
const LARGE: usize = 64 << 20;

/// One thing that is measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    large: bool,
    /// Whether it runs beside uploads that rest and downloads that are slow.
    pub(crate) crowd: bool,
    kind: Kind,
}

/// What a target must be for a scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anything that serves the files that a registry would.
    Files,
    /// A registry.
    Registry,
    /// A registry that takes many tags in one push, so that preparing does not take hours: ours.
    TagParameters,
}

enum Kind {
    GetManifest { method: &'static str, by_tag: bool },
    GetBlob,
    GetRange,
    PushBlob,
    PushImage,
    TagPage { tags: usize },
    Referrers,
}

pub(crate) const ALL: &[Scenario] = &[
    read("GET manifest by tag", Kind::GetManifest { method: "GET", by_tag: true }),
    read("GET manifest by digest", Kind::GetManifest { method: "GET", by_tag: false }),
    read("HEAD manifest by tag", Kind::GetManifest { method: "HEAD", by_tag: true }),
    read("HEAD manifest by digest", Kind::GetManifest { method: "HEAD", by_tag: false }),
    read("GET blob 4 KiB", Kind::GetBlob),
    Scenario { large: true, ..read("GET blob 64 MiB", Kind::GetBlob) },
    read("GET 64 KiB of a blob of 64 MiB", Kind::GetRange),
    Scenario {
        crowd: true,
        needs: Needs::Registry,
        ..read(
            "GET manifest by tag, beside 64 resting uploads and 64 slow downloads",
            Kind::GetManifest { method: "GET", by_tag: true },
        )
    },
    write("push blob 4 KiB", Kind::PushBlob),
    Scenario { large: true, ..write("push blob 64 MiB", Kind::PushBlob) },
    write("push layer + manifest + tag", Kind::PushImage),
    write("page of 100 among 1,000 tags", Kind::TagPage { tags: 1_000 }),
    tags("page of 100 among 10,000 tags", 10_000),
    tags("page of 100 among 100,000 tags", 100_000),
    write("list of 500 referrers", Kind::Referrers),
];

const fn read(name: &'static str, kind: Kind) -> Scenario {
    Scenario { name, needs: Needs::Files, large: false, crowd: false, kind }
}

const fn write(name: &'static str, kind: Kind) -> Scenario {
    Scenario { name, needs: Needs::Registry, large: false, crowd: false, kind }
}

const fn tags(name: &'static str, tags: usize) -> Scenario {
    let needs = Needs::TagParameters;
    Scenario { name, needs, large: false, crowd: false, kind: Kind::TagPage { tags } }
}

/// A blob that can be pushed.
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest = Digest::sha256(&bytes);
        Self { bytes, digest }
    }

    pub(crate) fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, self.digest.clone(), self.bytes.len() as u64)
    }
}

/// What is read, and what is pushed.
pub(crate) struct Content {
    pub(crate) small: Blob,
    pub(crate) large: Blob,
    pub(crate) config: Blob,
    pub(crate) manifest: Blob,
    /// Begins every pushed blob, so that two runs against one server do not push the same.
    run: u64,
}

/// What an operation sends, made before its time is taken.
pub(crate) struct Prepared {
    blob: Option<Blob>,
    manifest: Option<Blob>,
    number: u64,
}

impl Content {
    pub(crate) fn new() -> Arc<Self> {
        let small = Blob::new(noise(1, SMALL));
        let config = Blob::new(b"{}".to_vec());
        let manifest = image(&config, &small);
        let run = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Arc::new(Self { large: Blob::new(noise(2, LARGE)), small, config, manifest, run })
    }

    /// The files that a static server serves in place of a registry: path and bytes.
    pub(crate) fn files(&self) -> Vec<(String, &[u8])> {
        let mut files = vec![(manifest_path(TAG), self.manifest.bytes.as_slice())];
        files.push((manifest_path(self.manifest.digest.as_str()), &self.manifest.bytes));
        for blob in [&self.small, &self.large] {
            files.push((blob_path(&blob.digest), &blob.bytes));
        }
        files
    }
}

fn image(config: &Blob, layer: &Blob) -> Blob {
    let config = config.descriptor(MediaType::OCI_EMPTY_JSON);
    let layers = vec![layer.descriptor(MediaType::OCI_LAYER)];
    let mut manifest = ImageManifest::new(config, layers);
    manifest.artifact_type = Some("application/vnd.example.bench".into());
    Blob::new(serde_json::to_vec(&manifest).unwrap_or_default())
}

pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// Stores what the reading scenarios read.
async fn store(target: &Target, content: &Content) -> Result {
    let mut connection = Connection::open(&target.host).await?;
    for blob in [&content.config, &content.small, &content.large] {
        let found = connection.send("HEAD", &blob_path(&blob.digest), "", &[]).await?;
        if found.status != 200 {
            push_blob(&mut connection, REPOSITORY, blob).await?;
        }
    }
    push_manifest(&mut connection, REPOSITORY, &content.manifest, TAG).await
}

/// Begins an upload, and gives the path that it is continued at.
pub(crate) async fn begin_upload(connection: &mut Connection) -> Result<String> {
    begin_upload_to(connection, REPOSITORY).await
}

async fn begin_upload_to(connection: &mut Connection, repository: &str) -> Result<String> {
    let begun =
        connection.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[]).await?;
    expect(begun.status, 202, "beginning an upload")?;
    let location = begun.location.ok_or("an upload began without a Location")?;
    match location.find("/v2/") {
        Some(start) => Ok(location[start..].to_owned()),
        None => Err(format!("Location {location:?} has no /v2/")),
    }
}

pub(crate) async fn push_blob(
    connection: &mut Connection,
    repository: &str,
    blob: &Blob,
) -> Result {
    let path = begin_upload_to(connection, repository).await?;
    let separator = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{separator}digest={}", blob.digest);
    let headers = "Content-Type: application/octet-stream\r\n";
    let done = connection.send("PUT", &path, headers, &blob.bytes).await?;
    expect(done.status, 201, "closing an upload")
}

pub(crate) async fn push_manifest(
    connection: &mut Connection,
    repository: &str,
    manifest: &Blob,
    reference: &str,
) -> Result {
    let headers = format!("Content-Type: {}\r\n", MediaType::OCI_IMAGE_MANIFEST);
    let path = format!("/v2/{repository}/manifests/{reference}");
    let done = connection.send("PUT", &path, &headers, &manifest.bytes).await?;
    expect(done.status, 201, "pushing a manifest")
}

pub(crate) fn expect(found: u16, expected: u16, doing: &str) -> Result {
    if found == expected {
        return Ok(());
    }
    Err(format!("{doing}: status {found}, expected {expected}"))
}

impl Scenario {
    /// Whether it can run on a target.
    pub(crate) fn runs_on(&self, target: &Target) -> bool {
        match self.needs {
            Needs::Files => true,
            Needs::Registry => !target.read_only,
            Needs::TagParameters => target.ours,
        }
    }

    /// Stores on a target what the scenario reads there.
    pub(crate) async fn store(&self, target: &Target, content: &Content) -> Result {
        if target.read_only {
            return Ok(());
        }
        store(target, content).await?;
        match self.kind {
            Kind::TagPage { tags } => lists::store_tags(target, content, tags).await,
            Kind::Referrers => lists::store_referrers(target, content).await,
            _ => Ok(()),
        }
    }

    /// How many connections: large content fills the machine with few.
    pub(crate) fn connections(&self, small: u16) -> usize {
        usize::from(if self.large { small.min(4) } else { small })
    }

    /// Makes what an operation sends.
    pub(crate) fn prepare(&self, content: &Content, number: u64) -> Prepared {
        let seed = content.run.wrapping_mul(31).wrapping_add(number);
        let blob = match self.kind {
            Kind::PushBlob if self.large => Some(Blob::new(noise(seed, LARGE))),
            Kind::PushBlob | Kind::PushImage => Some(Blob::new(noise(seed, SMALL))),
            _ => None,
        };
        let manifest = match (&self.kind, &blob) {
            (Kind::PushImage, Some(blob)) => Some(image(&content.config, blob)),
            _ => None,
        };
        Prepared { blob, manifest, number }
    }

    /// Does one operation, and says how many bytes of content moved.
    pub(crate) async fn run(
        &self,
        connection: &mut Connection,
        content: &Content,
        prepared: &Prepared,
    ) -> Result<u64> {
        match &self.kind {
            Kind::GetManifest { method, by_tag } => {
                let digest = content.manifest.digest.as_str();
                let path = manifest_path(if *by_tag { TAG } else { digest });
                let accept = format!("Accept: {}\r\n", MediaType::OCI_IMAGE_MANIFEST);
                let answer = connection.send(method, &path, &accept, &[]).await?;
                expect(answer.status, 200, method)?;
                Ok(answer.length)
            }
            Kind::GetBlob => {
                let blob = if self.large { &content.large } else { &content.small };
                let answer = connection.send("GET", &blob_path(&blob.digest), "", &[]).await?;
                expect(answer.status, 200, "GET")?;
                if answer.length != blob.bytes.len() as u64 {
                    return Err(format!(
                        "a blob of {} bytes came with {}",
                        blob.bytes.len(),
                        answer.length
                    ));
                }
                Ok(answer.length)
            }
            Kind::GetRange => {
                const LENGTH: u64 = 64 << 10;
                // Elsewhere every time.
                let start = prepared.number * 7919 * LENGTH % (LARGE as u64 - LENGTH);
                let range = format!("Range: bytes={start}-{}\r\n", start + LENGTH - 1);
                let path = blob_path(&content.large.digest);
                let answer = connection.send("GET", &path, &range, &[]).await?;
                expect(answer.status, 206, "GET of a range")?;
                Ok(answer.length)
            }
            Kind::TagPage { tags } => lists::tag_page(connection, *tags, prepared.number).await,
            Kind::Referrers => lists::referrers(connection, &content.manifest).await,
            Kind::PushBlob | Kind::PushImage => {
                let blob = prepared.blob.as_ref().ok_or("nothing was prepared to be pushed")?;
                push_blob(connection, REPOSITORY, blob).await?;
                if let Some(manifest) = &prepared.manifest {
                    let tag = format!("t{}", prepared.number);
                    push_manifest(connection, REPOSITORY, manifest, &tag).await?;
                }
                Ok(blob.bytes.len() as u64)
            }
        }
    }
}
