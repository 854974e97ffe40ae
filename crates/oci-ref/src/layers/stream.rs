//! The layers of an image as streams that are verified and decompressed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use oci_spec_types::{Descriptor, Digest, ErrorCode, Verifier};

use super::Compression;
use super::decoder::Decoder;
use crate::{Blob, Error, ErrorKind, Image, Result};

/// The most that one layer may unpack to, unless the caller says otherwise: 64 GiB.
pub const DEFAULT_LAYER_LIMIT: u64 = 64 << 30;

/// Most steps of decompression before other tasks may run.
const MAX_STEPS: usize = 64;

/// The layers of an image, the lowest first.
#[derive(Debug)]
pub struct Layers {
    image: Image,
    diff_ids: std::vec::IntoIter<Digest>,
    next: usize,
    limit: u64,
}

/// The uncompressed content of a layer, a tar archive.
///
/// It is verified twice: the blob against its digest, and the content against the diff ID. The last chunk is withheld
/// until both are known to be right. After an error the stream ends. Memory is a few chunks, and for zstd its window,
/// at most 128 MiB.
pub struct Layer {
    blob: Blob,
    diff_id: Digest,
    limit: u64,
    state: Option<State>,
}

struct State {
    decoder: Decoder,
    verifier: Verifier,
    input: Bytes,
    produced: u64,
    withheld: Bytes,
    /// The blob has been read to its end.
    ended: bool,
}

impl Image {
    /// The layers, to be read in order. The config is read first; it names their diff IDs.
    ///
    /// A layer that unpacks to more than `limit` bytes is an error ([`DEFAULT_LAYER_LIMIT`] is a good limit where
    /// nothing better is known). The media type says how a layer is compressed.
    ///
    /// # Errors
    /// `UNSUPPORTED` for artifacts; `MANIFEST_INVALID` if there are not as many diff IDs as layers.
    pub async fn open_layers(&self, limit: u64) -> Result<Layers> {
        let diff_ids = self.config().await?.rootfs.diff_ids;
        if diff_ids.len() != self.layers().len() {
            let (digest, layers) = (self.manifest().digest(), self.layers().len());
            return Err(Error::new(
                ErrorCode::ManifestInvalid,
                format!(
                    "image {digest} has {layers} layers, and {} diff IDs in its config",
                    diff_ids.len()
                ),
            ));
        }
        Ok(Layers { image: self.clone(), diff_ids: diff_ids.into_iter(), next: 0, limit })
    }

    /// Opens the layer at a position, which is there, and whose diff ID is known.
    pub(crate) async fn open_layer(
        &self,
        position: usize,
        diff_id: Digest,
        limit: u64,
    ) -> Result<Layer> {
        let descriptor = &self.layers()[position];
        let Some(compression) = Compression::of(&descriptor.media_type) else {
            let Descriptor { digest, media_type, .. } = descriptor;
            return Err(Error::unsupported(format!(
                "{digest} is of type {media_type}, which is no layer type"
            )));
        };
        let blob = self.open_blob(descriptor).await?;
        Layer::new(blob, compression, diff_id, limit)
    }
}

impl Layers {
    /// Opens the next layer; `None` after the last. `UNSUPPORTED` for a blob that is no layer.
    pub async fn next_layer(&mut self) -> Result<Option<Layer>> {
        let Some(diff_id) = self.diff_ids.next() else { return Ok(None) };
        self.next += 1;
        self.image.open_layer(self.next - 1, diff_id, self.limit).await.map(Some)
    }
}

impl Layer {
    fn new(blob: Blob, compression: Compression, diff_id: Digest, limit: u64) -> Result<Self> {
        let decoder = Decoder::new(compression).map_err(|error| {
            Error::new(ErrorKind::Internal, "preparing to decompress failed").with_source(error)
        })?;
        let state = State {
            decoder,
            verifier: diff_id.verifier()?,
            input: Bytes::new(),
            produced: 0,
            withheld: Bytes::new(),
            ended: false,
        };
        Ok(Self { blob, diff_id, limit, state: Some(state) })
    }

    /// The descriptor of the compressed blob.
    pub fn descriptor(&self) -> &Descriptor {
        self.blob.descriptor()
    }

    /// The digest that the uncompressed content must have.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Goes one bounded step on: what comes out, or `None` at a verified end.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(state) = &mut self.state else { return Poll::Ready(Ok(None)) };
        if state.input.is_empty() && !state.ended {
            match ready!(Pin::new(&mut self.blob).poll_next(cx)?) {
                Some(chunk) => state.input = chunk,
                None => state.ended = true,
            }
        }
        let stepped = match (state.input.is_empty(), state.ended) {
            (false, _) => state.decoder.step(&mut state.input).map(Some),
            (true, true) => state.decoder.finish(),
            (true, false) => Ok(Some(Bytes::new())),
        };
        let digest = &self.blob.descriptor().digest;
        let output = match stepped {
            Ok(Some(output)) => output,
            Ok(None) => return Poll::Ready(self.finish()),
            Err(error) => {
                let message =
                    format!("layer {digest} is not {}", self.blob.descriptor().media_type);
                return Poll::Ready(Err(
                    Error::new(ErrorCode::ManifestInvalid, message).with_source(error)
                ));
            }
        };
        state.produced += output.len() as u64;
        if state.produced > self.limit {
            let limit = self.limit;
            let message = format!("layer {digest} unpacks to more than the limit of {limit} bytes");
            return Poll::Ready(Err(Error::new(ErrorKind::TooLarge { limit }, message)));
        }
        state.verifier.update(&output);
        let ready =
            if output.is_empty() { output } else { std::mem::replace(&mut state.withheld, output) };
        Poll::Ready(Ok(Some(ready)))
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let Some(state) = self.state.take() else { return Ok(None) };
        state.verifier.finish().map_err(|error| {
            let message = format!(
                "layer {} does not unpack to its diff ID: {error}",
                self.blob.descriptor().digest
            );
            Error::new(ErrorCode::DigestInvalid, message).with_source(error)
        })?;
        Ok(Some(state.withheld).filter(|last| !last.is_empty()))
    }
}

impl Stream for Layer {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..MAX_STEPS {
            match ready!(self.poll_step(cx)) {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(chunk) => return Poll::Ready(chunk.map(Ok)),
                Err(error) => {
                    self.state = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        // Nothing came out of much input: let others run before going on.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
