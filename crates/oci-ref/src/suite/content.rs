//! Small content for tests: bytes, images and indexes, the same in every run.

use bytes::Bytes;
use oci_spec_types::{Algorithm, Descriptor, ImageIndex, ImageManifest, MediaType, Tag};

use crate::{Error, ErrorKind, Manifest, Precondition, Result, Store};

/// Some bytes and their descriptor.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What describes them.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Bytes,
}

impl Piece {
    /// Bytes of a type, with their sha256 digest.
    pub fn new(media_type: MediaType, bytes: impl Into<Bytes>) -> Self {
        Self::with(Algorithm::Sha256, media_type, bytes)
    }

    /// Bytes of a type, with their digest by an algorithm.
    pub fn with(algorithm: Algorithm, media_type: MediaType, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = algorithm.digest(&bytes);
        Self { descriptor: Descriptor::new(media_type, digest, bytes.len() as u64), bytes }
    }

    /// Stores the bytes as a blob.
    pub async fn put(&self, store: &(impl Store + ?Sized)) -> Result<()> {
        store.put_blob(&self.descriptor, &self.bytes).await
    }
}

/// So many bytes that do not compress, and differ from those of other seeds.
pub fn noise(seed: &str, size: usize) -> Bytes {
    let hash = Algorithm::Sha256.digest(seed.as_bytes());
    let mut state = hash
        .encoded()
        .bytes()
        .fold(1_u64, |state, byte| state.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// A blob of noise.
pub fn noise_blob(seed: &str, size: usize) -> Piece {
    Piece::new(MediaType::OCTET_STREAM, noise(seed, size))
}

/// A manifest with the bytes of a document that was just serialised.
pub fn seal(json: serde_json::Result<Vec<u8>>) -> Result<Manifest> {
    let json = json.map_err(|error| {
        Error::new(ErrorKind::Invalid, "a document cannot be serialised").with_source(error)
    })?;
    Ok(Manifest::parse(json.into(), None, None)?)
}

/// A manifest and the blobs that it references.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The manifest.
    pub manifest: Manifest,
    /// Its blobs.
    pub blobs: Vec<Piece>,
}

impl Packed {
    /// Stores the blobs, then the manifest.
    pub async fn put(&self, store: &(impl Store + ?Sized), tags: &[Tag]) -> Result<()> {
        for blob in &self.blobs {
            blob.put(store).await?;
        }
        store.put_manifest(&self.manifest, tags, &Precondition::None).await
    }
}

/// A small image: a config, and a layer of noise.
pub fn image(seed: &str) -> Result<Packed> {
    image_with(seed, |_| {})
}

/// A small image whose manifest is changed before it is sealed.
pub fn image_with(seed: &str, change: impl FnOnce(&mut ImageManifest)) -> Result<Packed> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","author":{seed:?},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
    );
    let config = Piece::new(MediaType::OCI_IMAGE_CONFIG, config);
    let layer = Piece::new(MediaType::OCI_LAYER, noise(seed, 1000));
    let mut manifest =
        ImageManifest::new(config.descriptor.clone(), vec![layer.descriptor.clone()]);
    change(&mut manifest);
    Ok(Packed { manifest: seal(serde_json::to_vec_pretty(&manifest))?, blobs: vec![config, layer] })
}

/// An index of manifests.
pub fn index<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Result<Manifest> {
    let manifests = manifests.into_iter().map(|manifest| manifest.descriptor().clone());
    seal(serde_json::to_vec_pretty(&ImageIndex::new(manifests.collect())))
}

/// A tag that is known to be one.
///
/// # Panics
/// If it is none.
pub fn tag(name: &str) -> Tag {
    name.parse().expect("the test names a valid tag")
}
