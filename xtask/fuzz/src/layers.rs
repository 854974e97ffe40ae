//! Compressed layers, as they come in pieces.
//!
//! The first byte chooses the compression, the second the size of the pieces. What comes out is
//! what the decompressors of `flate2` and `zstd` make of the whole, read at once; where they fail,
//! the layer does. Nothing else than the content of the diff ID ever arrives whole.

use std::io::Read;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_ref::{
    BlobRead, ByteRange, Compression, Cursor, Error, Image, Manifest, Page, Ref, Referrers, Result,
    Source, Target,
};
use oci_spec_types::{Descriptor, Digest, ErrorCode, ImageManifest, MediaType, Tag};

use crate::reading::MAX_ERROR;
use crate::support::{assert_fit_for_logs, block_on};

/// The most that a layer may unpack to, in bytes.
const LIMIT: u64 = 4 << 20;

/// Checks one input: a choice, and a layer.
pub fn check(data: &[u8]) {
    let [choice, size, layer @ ..] = data else { return };
    let compression =
        [Compression::Gzip, Compression::Zstd, Compression::None][usize::from(*choice) % 3];
    let expected = unpacked(compression, layer);
    let diff_id = Digest::sha256(expected.as_deref().unwrap_or(b"another"));
    block_on(async {
        let image = image(compression, layer, &diff_id, usize::from(*size) + 1);
        match read(&image.expect("an image of what was made")).await {
            Ok(found) => {
                let expected = expected.expect("what is no layer arrived as one");
                assert!(found == expected, "other content than its diff ID is of");
            }
            Err(error) => assert_fit_for_logs(&error, MAX_ERROR),
        }
    });
}

/// The layer unpacked at once; `None` if it is none, or is too large.
fn unpacked(compression: Compression, layer: &[u8]) -> Option<Vec<u8>> {
    let reader: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(layer),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(layer)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(layer).ok()?),
    };
    let mut content = Vec::new();
    reader.take(LIMIT + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= LIMIT).then_some(content)
}

/// An image with a layer that comes in pieces of a size.
fn image(compression: Compression, layer: &[u8], diff_id: &Digest, piece: usize) -> Result<Image> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let config: Bytes = config.into();
    let layer = Bytes::copy_from_slice(layer);
    let manifest = ImageManifest::new(
        Descriptor::of(MediaType::OCI_IMAGE_CONFIG, &config),
        vec![Descriptor::of(compression.media_type(), &layer)],
    );
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    let manifest = Manifest::parse(bytes.into(), None, None)?;
    let source = Arc::new(Pieces { blobs: [config, layer], piece });
    Ok(Ref::new(manifest, source)?.as_image()?.clone())
}

async fn read(image: &Image) -> Result<Vec<u8>> {
    let mut layers = image.open_layers(LIMIT).await?;
    let layer = layers.next_layer().await?.expect("the image has a layer");
    let pieces: Vec<Bytes> = layer.try_collect().await?;
    Ok(pieces.concat())
}

/// A source of two blobs that come in pieces.
struct Pieces {
    blobs: [Bytes; 2],
    piece: usize,
}

impl Pieces {
    fn find(&self, digest: &Digest) -> Option<Bytes> {
        self.blobs.iter().find(|blob| digest.verify(blob).is_ok()).cloned()
    }
}

#[async_trait]
impl Source for Pieces {
    async fn resolve(&self, _target: &Target) -> Result<Descriptor> {
        Err(Error::new(ErrorCode::ManifestUnknown, "there are blobs only"))
    }

    async fn manifest(&self, _target: &Target) -> Result<Manifest> {
        Err(Error::new(ErrorCode::ManifestUnknown, "there are blobs only"))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.find(digest).map(|blob| blob.len() as u64))
    }

    async fn blob(&self, digest: &Digest, _range: ByteRange) -> Result<BlobRead> {
        let blob = self.find(digest);
        let blob = blob.ok_or_else(|| Error::new(ErrorCode::BlobUnknown, "no such blob"))?;
        let size = blob.len() as u64;
        let starts = (0..blob.len()).step_by(self.piece);
        let (piece, end) = (self.piece, blob.len());
        let pieces = starts.map(move |start| Ok(blob.slice(start..(start + piece).min(end))));
        Ok(BlobRead { size, range: 0..size, body: stream::iter(pieces).boxed() })
    }

    async fn tags(&self, _after: Option<&Cursor>, _limit: usize) -> Result<Page<Tag>> {
        Ok(Page::last(Vec::new()))
    }

    async fn referrers(
        &self,
        _subject: &Digest,
        _artifact_type: Option<&str>,
        _after: Option<&Cursor>,
        _limit: usize,
    ) -> Result<Referrers> {
        Ok(Referrers { page: Page::last(Vec::new()), filtered: false })
    }
}
