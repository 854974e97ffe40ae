//! Decompression piece by piece, with a bounded piece of output for each step.

use std::io;

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use oci_spec_types::{Algorithm, Digest, MediaType};
use zstd::stream::raw::{Decoder as RawZstd, Operation};

use super::Compression;
use crate::{Error, ErrorKind, Result};

/// Most bytes that a step of zstd gives.
const STEP: usize = 64 << 10;

/// Decompresses what arrives in pieces. A step gives a few hundred kilobytes at most, whatever the input.
/// zstd may use a window of up to 128 MiB, if the content asks for it.
pub(super) enum Decoder {
    None,
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zstd(Zstd),
}

pub(super) struct Zstd {
    raw: RawZstd<'static>,
    /// A frame has begun and not ended.
    in_frame: bool,
    /// Some frame has begun.
    begun: bool,
}

impl Decoder {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip(MultiGzDecoder::new(Vec::new())),
            Compression::Zstd => {
                Self::Zstd(Zstd { raw: RawZstd::new()?, in_frame: false, begun: false })
            }
        })
    }

    /// Takes some of the input, which is not empty, and gives what comes out; perhaps nothing.
    pub(super) fn step(&mut self, input: &mut Bytes) -> io::Result<Bytes> {
        match self {
            Self::None => Ok(std::mem::take(input)),
            Self::Gzip(decoder) => {
                // `write`, not `write_all`: one call gives at most what its buffer holds.
                let taken = io::Write::write(decoder, input)?;
                if taken == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                input.advance(taken);
                Ok(std::mem::take(decoder.get_mut()).into())
            }
            Self::Zstd(zstd) => zstd.step(input),
        }
    }

    /// After all input: gives what is left, piece by piece; `None` at a proper end.
    pub(super) fn finish(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::None => Ok(None),
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                let rest = std::mem::take(decoder.get_mut());
                *self = Self::None;
                Ok(Some(rest.into()))
            }
            Self::Zstd(zstd) => {
                if zstd.in_frame {
                    let rest = zstd.step(&mut Bytes::new())?;
                    if !rest.is_empty() {
                        return Ok(Some(rest));
                    }
                }
                if zstd.in_frame || !zstd.begun {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(None)
            }
        }
    }
}

impl Zstd {
    fn step(&mut self, input: &mut Bytes) -> io::Result<Bytes> {
        if !self.in_frame {
            self.raw.reinit()?;
            (self.in_frame, self.begun) = (true, true);
        }
        let mut output = vec![0; STEP];
        let status = self.raw.run_on_buffers(input, &mut output)?;
        self.in_frame = status.remaining != 0;
        input.advance(status.bytes_read);
        output.truncate(status.bytes_written);
        Ok(output.into())
    }
}

/// The digest of a packed layer's content, if that has no more than `limit` bytes.
pub(crate) fn unpacked_digest(media_type: &MediaType, packed: Bytes, limit: u64) -> Result<Digest> {
    let Some(compression) = Compression::of(media_type) else {
        return Err(Error::new(ErrorKind::Invalid, format!("{media_type} is no layer type")));
    };
    let broken = |error| {
        Error::new(ErrorKind::Invalid, format!("the layer is not {compression:?}"))
            .with_source(error)
    };
    let mut decoder = Decoder::new(compression).map_err(broken)?;
    let mut hasher = Algorithm::Sha256.hasher();
    let mut produced = 0u64;
    let mut accept = |piece: Bytes| {
        produced += piece.len() as u64;
        hasher.update(&piece);
        if produced > limit {
            let message = format!("the layer unpacks to more than the limit of {limit} bytes");
            return Err(Error::new(ErrorKind::TooLarge { limit }, message));
        }
        Ok(())
    };
    let mut input = packed;
    while !input.is_empty() {
        accept(decoder.step(&mut input).map_err(broken)?)?;
    }
    while let Some(piece) = decoder.finish().map_err(broken)? {
        accept(piece)?;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(compression: Compression, packed: &[u8], pieces: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(compression)?;
        let mut all = Vec::new();
        for piece in packed.chunks(pieces) {
            let mut input = Bytes::copy_from_slice(piece);
            while !input.is_empty() {
                let output = decoder.step(&mut input)?;
                assert!(
                    compression == Compression::None || output.len() <= 256 << 10,
                    "{} bytes",
                    output.len()
                );
                all.extend_from_slice(&output);
            }
        }
        while let Some(output) = decoder.finish()? {
            all.extend_from_slice(&output);
        }
        Ok(all)
    }

    fn sample() -> Bytes {
        let mut state = 1u32;
        let noise = std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        noise.take(100_000).chain(std::iter::repeat_n(0, 1_000_000)).collect()
    }

    #[test]
    fn whatever_the_pieces() {
        let sample = sample();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let packed = compression.compress(sample.clone()).unwrap();
            for pieces in [7, 1000, 65_536, usize::MAX] {
                assert!(
                    decode(compression, &packed, pieces.min(packed.len())).unwrap() == sample,
                    "{compression:?} {pieces}"
                );
            }
        }
    }

    #[test]
    fn several_members_or_frames_are_one_content() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let [one, two, none] =
                [&b"one"[..], b"two", b""].map(|part| compression.compress(part.into()).unwrap());
            let packed = [one, none, two].concat();
            for pieces in 1..packed.len() {
                assert_eq!(
                    decode(compression, &packed, pieces).unwrap(),
                    b"onetwo",
                    "{compression:?} {pieces}"
                );
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let packed = compression.compress("some content ".repeat(20).into()).unwrap();
            for length in 0..packed.len() {
                assert!(
                    decode(compression, &packed[..length], 16).is_err(),
                    "{compression:?} cut to {length}"
                );
            }
            let garbage = [&packed[..], b"garbage"].concat();
            assert!(
                decode(compression, &garbage, 16).is_err(),
                "{compression:?} with garbage behind"
            );
        }
    }
}
