//! What is read and pushed, and how a client pushes it.

use std::sync::Arc;

use oci_spec_types::{Algorithm, Descriptor, Digest, Hasher, ImageManifest, MediaType};

use crate::bench::http::Connection;
use crate::bench::target::Target;
use crate::noise::noise;
use crate::process::Result;

pub(crate) const REPOSITORY: &str = "bench/data";
pub(crate) const TAG: &str = "v1";
pub(crate) const SMALL: usize = 4 << 10;
pub(crate) const LARGE: usize = 64 << 20;

/// How many bytes make one pushed blob differ from another.
const DIFFERENT: usize = 16;

/// A blob that can be pushed.
pub(crate) struct Blob {
    pub(crate) bytes: Arc<Vec<u8>>,
    /// What comes after those.
    tail: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let digest = Digest::sha256(&bytes);
        Self { bytes: Arc::new(bytes), tail: Vec::new(), digest }
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len() + self.tail.len()
    }

    pub(crate) fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::new(media_type, self.digest.clone(), self.length() as u64)
    }
}

/// Blobs that differ at their end, so that the load spends no time on making and hashing them.
struct Family {
    begin: Arc<Vec<u8>>,
    hashed: Hasher,
}

impl Family {
    fn new(seed: u64, length: usize) -> Self {
        let begin = Arc::new(noise(seed, length - DIFFERENT));
        let mut hashed = Hasher::new(Algorithm::Sha256);
        hashed.update(&begin);
        Self { begin, hashed }
    }

    fn member(&self, seed: u64) -> Blob {
        let (tail, mut hasher) = (noise(seed, DIFFERENT), self.hashed.clone());
        hasher.update(&tail);
        Blob { bytes: Arc::clone(&self.begin), tail, digest: hasher.finish() }
    }
}

/// What is read, and what is pushed.
pub(crate) struct Content {
    pub(crate) small: Blob,
    pub(crate) large: Blob,
    pub(crate) config: Blob,
    pub(crate) manifest: Blob,
    pushed_small: Family,
    pushed_large: Family,
    /// Makes every pushed blob another one, so that two runs against one server do not push the same.
    run: u64,
}

impl Content {
    pub(crate) fn new() -> Arc<Self> {
        let small = Blob::new(noise(1, SMALL));
        let config = Blob::new(b"{}".to_vec());
        let manifest = image(&config, &small);
        let run = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Arc::new(Self {
            large: Blob::new(noise(2, LARGE)),
            pushed_small: Family::new(3, SMALL),
            pushed_large: Family::new(4, LARGE),
            small,
            config,
            manifest,
            run,
        })
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

    /// A blob that was never pushed before.
    pub(crate) fn fresh(&self, large: bool, number: u64) -> Blob {
        let seed = self.run.wrapping_mul(31).wrapping_add(number);
        let family = if large { &self.pushed_large } else { &self.pushed_small };
        family.member(seed)
    }

    /// The manifest of an image of one layer.
    pub(crate) fn image_of(&self, layer: &Blob) -> Blob {
        image(&self.config, layer)
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

pub(crate) fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// Stores what the reading scenarios read.
pub(crate) async fn store(target: &Target, content: &Content) -> Result {
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
    let done = connection.send_parts("PUT", &path, headers, [&blob.bytes, &blob.tail]).await?;
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
