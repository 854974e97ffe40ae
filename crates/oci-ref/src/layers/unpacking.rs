//! Layers that pass on as they are, compressed, and must unpack to their diff IDs all the same.

use oci_spec_types::Digest;

use super::Compression;
use crate::{Body, Result};

/// A layer's content as it is, whose last bytes come only if all of it unpacks to its diff ID.
#[cfg(feature = "compression")]
pub(crate) fn unpacking_to(
    body: Body,
    layer: &Digest,
    compression: Compression,
    diff_id: &Digest,
) -> Result<Body> {
    use futures_util::{StreamExt, stream};

    let check = check::Check::new(layer, compression, diff_id)?;
    let state = Some((body, check, None));
    let checked = stream::try_unfold(state, |state| async {
        let Some((mut body, mut check, mut withheld)) = state else { return Ok(None) };
        loop {
            let next = body.next().await.transpose()?;
            let is_last = next.is_none();
            let input = next.clone();
            check = crate::files::blocking(move || check.take(input)).await?;
            let ready = std::mem::replace(&mut withheld, next);
            if is_last {
                return Ok(ready.map(|last| (last, None)));
            }
            if let Some(chunk) = ready {
                return Ok(Some((chunk, Some((body, check, withheld)))));
            }
        }
    });
    Ok(checked.boxed())
}

/// Nothing is checked: this build has the feature `compression` not enabled.
#[cfg(not(feature = "compression"))]
pub(crate) fn unpacking_to(body: Body, _: &Digest, _: Compression, _: &Digest) -> Result<Body> {
    Ok(body)
}

#[cfg(feature = "compression")]
mod check {
    use bytes::Bytes;
    use oci_spec_types::{Digest, ErrorCode, Verifier};

    use super::super::decoder::Decoder;
    use super::super::stream::DEFAULT_LAYER_LIMIT;
    use super::Compression;
    use crate::{Error, ErrorKind, Result};

    /// The part of a layer that has come, unpacked and hashed.
    pub(super) struct Check {
        layer: Digest,
        diff_id: Digest,
        compression: Compression,
        decoder: Decoder,
        verifier: Option<Verifier>,
        unpacked: u64,
    }

    impl Check {
        pub(super) fn new(
            layer: &Digest,
            compression: Compression,
            diff_id: &Digest,
        ) -> Result<Self> {
            let decoder = Decoder::new(compression).map_err(|error| {
                Error::new(ErrorKind::Internal, "preparing to decompress failed").with_source(error)
            })?;
            Ok(Self {
                layer: layer.clone(),
                diff_id: diff_id.clone(),
                compression,
                decoder,
                verifier: Some(diff_id.verifier()?),
                unpacked: 0,
            })
        }

        /// Takes the next bytes of the layer, or its end.
        pub(super) fn take(mut self, input: Option<Bytes>) -> Result<Self> {
            let broken = |error| {
                let message = format!("layer {} is not {:?}", self.layer, self.compression);
                Error::new(ErrorCode::ManifestInvalid, message).with_source(error)
            };
            let is_end = input.is_none();
            let mut input = input.unwrap_or_default();
            loop {
                let piece = match (input.is_empty(), is_end) {
                    (false, _) => self.decoder.step(&mut input).map(Some),
                    (true, true) => self.decoder.finish(),
                    (true, false) => return Ok(self),
                };
                let Some(piece) = piece.map_err(broken)? else { return self.finish() };
                self.unpacked += piece.len() as u64;
                if self.unpacked > DEFAULT_LAYER_LIMIT {
                    let limit = DEFAULT_LAYER_LIMIT;
                    let layer = &self.layer;
                    let message =
                        format!("layer {layer} unpacks to more than the limit of {limit} bytes");
                    return Err(Error::new(ErrorKind::TooLarge { limit }, message));
                }
                if let Some(verifier) = &mut self.verifier {
                    verifier.update(&piece);
                }
            }
        }

        fn finish(mut self) -> Result<Self> {
            let outcome = self.verifier.take().map_or(Ok(()), Verifier::finish);
            match outcome {
                Ok(()) => Ok(self),
                // Not the blob is another than was asked for, but the image contradicts itself.
                Err(error) => Err(Error::new(
                    ErrorCode::ManifestInvalid,
                    format!("layer {} does not unpack to diff ID {}", self.layer, self.diff_id),
                )
                .with_source(error)),
            }
        }
    }
}
