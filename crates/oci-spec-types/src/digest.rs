//! Content digests (image-spec, `descriptor.md`, section Digests).

use std::fmt;
use std::str::FromStr;

use crate::hasher::{Hasher, Verifier, VerifyError};
use crate::text::{Excerpt, Reason, parse_error, text_type};

/// So that a digest can always be a file name.
const MAX_LENGTH: usize = 255;

/// The digest of some content: `algorithm:encoded`, at most 255 bytes.
///
/// The registered algorithms `sha256`, `sha512` and `blake3` need their exact number of lower-case hexadecimal
/// digits. Other algorithms parse when they follow the grammar, so that they can be named and passed on; they
/// cannot be verified. A digest never contains `/` or `..`.
///
/// ```
/// # use oci_spec_types::{Algorithm, Digest};
/// let digest = Digest::sha256(b"{}");
/// assert_eq!(digest.as_str(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
/// assert_eq!(digest.known_algorithm(), Some(Algorithm::Sha256));
/// assert!("sha256:44136f".parse::<Digest>().is_err());
/// assert!("md4+x:00".parse::<Digest>()?.verify(b"").is_err()); // well-formed, but cannot be computed
/// # Ok::<(), oci_spec_types::DigestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

parse_error! {
    /// A text that is not a digest.
    DigestError, "digest"
}

text_type!(Digest);

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The digest of an algorithm's output, which is hexadecimal and of the right length by construction.
    pub(crate) fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        Self(format!("{algorithm}:{}", hex::encode(hash)).into())
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the colon.
    pub fn algorithm(&self) -> &str {
        self.parts().0
    }

    /// The part after the colon.
    pub fn encoded(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').expect("a parsed digest has a colon")
    }

    /// The algorithm, if this crate can compute it.
    pub fn known_algorithm(&self) -> Option<Algorithm> {
        self.algorithm().parse().ok()
    }

    /// Checks that `bytes` have this digest.
    ///
    /// # Errors
    /// [`VerifyError::Mismatch`] when they do not, [`VerifyError::Unsupported`] when the algorithm cannot be computed.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), VerifyError> {
        let mut verifier = self.verifier()?;
        verifier.update(bytes);
        verifier.finish()
    }

    /// A verifier for content that arrives in pieces.
    ///
    /// # Errors
    /// When this crate cannot compute the algorithm.
    pub fn verifier(&self) -> Result<Verifier, UnsupportedAlgorithm> {
        Ok(Verifier::new(self.clone(), self.algorithm().parse()?))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(input: &str) -> Result<Self, DigestError> {
        check(input).map_err(|reason| DigestError::new(input, reason))?;
        Ok(Self(input.into()))
    }
}

fn check(input: &str) -> Result<(), Reason> {
    Reason::check_length(input, MAX_LENGTH)?;
    let (algorithm, encoded) =
        input.split_once(':').ok_or(Reason::Rule("it has no colon after the algorithm"))?;

    let mut in_component = false;
    for (at, byte) in algorithm.bytes().enumerate() {
        in_component = match byte {
            b'a'..=b'z' | b'0'..=b'9' => true,
            b'+' | b'.' | b'_' | b'-' if in_component => false,
            _ => {
                return Err(Reason::at(input, at, "a lower-case letter or digit of the algorithm"));
            }
        };
    }
    if !in_component {
        return Err(Reason::at(
            input,
            algorithm.len(),
            "a lower-case letter or digit of the algorithm",
        ));
    }

    let start = algorithm.len() + 1;
    let registered = match algorithm {
        "sha256" => Some(("sha256", 64)),
        "sha512" => Some(("sha512", 128)),
        "blake3" => Some(("blake3", 64)),
        _ => None,
    };
    if let Some((algorithm, expected)) = registered {
        if let Some(at) =
            encoded.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(Reason::at(input, start + at, "a lower-case hexadecimal digit"));
        }
        if encoded.len() != expected {
            return Err(Reason::HexLength { algorithm, expected, found: encoded.len() });
        }
    }
    let bad = encoded
        .bytes()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-')));
    match bad {
        Some(at) => Err(Reason::at(input, start + at, "a letter, digit, '=', '_' or '-'")),
        None if encoded.is_empty() => Err(Reason::Ends { expected: "the encoded part" }),
        None => Ok(()),
    }
}

/// A digest algorithm that this crate computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256, which every registry and client must know.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// A hasher for content that arrives in pieces.
    pub fn hasher(self) -> Hasher {
        Hasher::new(self)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnsupportedAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnsupportedAlgorithm> {
        match name {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(UnsupportedAlgorithm(Excerpt::new(name))),
        }
    }
}

/// A digest algorithm that this crate cannot compute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("digest algorithm {0} is not supported, expected sha256 or sha512")]
pub struct UnsupportedAlgorithm(Excerpt);
