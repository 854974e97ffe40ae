//! Hashing and verifying content in pieces, and a hash state that can be put aside and taken up again.

use std::fmt;

use sha2::digest::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

use crate::digest::{Algorithm, Digest, UnsupportedAlgorithm};

/// Format number of a saved state: that of sha2 0.11. A change of sha2's format needs a new number.
const FORMAT: u8 = 1;

/// Most hash blocks that a saved state may claim to have seen: 2^48 (16 PiB of SHA-256). Far above any
/// content, and far below where the arithmetic inside the hash function would overflow.
const MAX_BLOCKS: u128 = 1 << 48;

/// Computes the digest of content that arrives in pieces.
///
/// ```
/// # use oci_spec_types::{Algorithm, Digest, Hasher};
/// let mut hasher = Hasher::new(Algorithm::Sha256);
/// hasher.update(b"hel");
/// let mut resumed = Hasher::restore(&hasher.save())?; // perhaps in another process
/// resumed.update(b"lo");
/// assert_eq!(resumed.finish(), Digest::sha256(b"hello"));
/// # Ok::<(), oci_spec_types::HashStateError>(())
/// ```
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds the next piece of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all that was added.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        match self.0 {
            State::Sha256(state) => Digest::from_hash(algorithm, &state.finalize()),
            State::Sha512(state) => Digest::from_hash(algorithm, &state.finalize()),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The state, to be continued later with [`Hasher::restore`]: a format number, an algorithm number and the
    /// hash function's own state, some 100 or 200 bytes. It holds up to 127 bytes of the content in the clear.
    pub fn save(&self) -> Vec<u8> {
        let mut saved = vec![FORMAT];
        match &self.0 {
            State::Sha256(state) => {
                saved.push(1);
                saved.extend_from_slice(&state.serialize());
            }
            State::Sha512(state) => {
                saved.push(2);
                saved.extend_from_slice(&state.serialize());
            }
        }
        saved
    }

    /// Takes up a state that [`Hasher::save`] gave. A state of another format number is refused: the content
    /// must then be hashed again from its start.
    ///
    /// # Errors
    /// When `saved` is not such a state. A changed state of the right shape cannot be noticed.
    pub fn restore(saved: &[u8]) -> Result<Self, HashStateError> {
        let (format, rest) = saved.split_first().ok_or(HashStateError::Truncated)?;
        if *format != FORMAT {
            return Err(HashStateError::Format(*format));
        }
        let (algorithm, state) = rest.split_first().ok_or(HashStateError::Truncated)?;
        match algorithm {
            1 => Ok(Self(State::Sha256(restore_state(state, 32..40)?))),
            2 => Ok(Self(State::Sha512(restore_state(state, 64..80)?))),
            other => Err(HashStateError::Algorithm(*other)),
        }
    }
}

/// `block_count` is where the state holds the number of blocks seen, little-endian.
fn restore_state<H: SerializableState>(
    state: &[u8],
    block_count: std::ops::Range<usize>,
) -> Result<H, HashStateError> {
    let serialized =
        <&SerializedState<H>>::try_from(state).map_err(|_| HashStateError::Length(state.len()))?;
    let blocks = state[block_count].iter().rev().try_fold(0_u128, |sum, byte| {
        let sum = sum << 8 | u128::from(*byte);
        (sum <= MAX_BLOCKS).then_some(sum)
    });
    blocks.ok_or(HashStateError::Corrupt)?;
    H::deserialize(serialized).map_err(|_| HashStateError::Corrupt)
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}

/// A saved hash state that cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashStateError {
    /// The state ends before its format and algorithm numbers.
    #[error("hash state ends before its format and algorithm numbers")]
    Truncated,
    /// The state has a format that this version does not know.
    #[error("hash state has format {0}, expected {FORMAT}")]
    Format(u8),
    /// The state is of an unknown algorithm.
    #[error("hash state has algorithm number {0}, expected 1 (sha256) or 2 (sha512)")]
    Algorithm(u8),
    /// The hash function's part has a wrong length, in bytes.
    #[error("hash state has a wrong length of {0} bytes for its algorithm")]
    Length(usize),
    /// The hash function's part is impossible.
    #[error("hash state is corrupt")]
    Corrupt,
}

/// Checks content that arrives in pieces against a digest. Made by [`Digest::verifier`].
#[derive(Debug, Clone)]
pub struct Verifier {
    expected: Digest,
    hasher: Hasher,
}

impl Verifier {
    pub(crate) fn new(expected: Digest, algorithm: Algorithm) -> Self {
        Self { expected, hasher: algorithm.hasher() }
    }

    /// Adds the next piece of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Compares the digest of all that was added with the expected one.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] when they differ.
    pub fn finish(self) -> Result<(), VerifyError> {
        let actual = self.hasher.finish();
        if actual == self.expected {
            Ok(())
        } else {
            Err(VerifyError::Mismatch { expected: self.expected, actual })
        }
    }
}

/// Content that could not be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The content has another digest.
    #[error("content has digest {actual}, expected {expected}")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// The digest's algorithm cannot be computed.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedAlgorithm),
}
