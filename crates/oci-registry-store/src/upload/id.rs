//! The names of upload sessions, and the tokens by which clients know them.
//!
//! Beginning an upload writes nothing: the token says which repository, session and algorithm it is for, and a signature says
//! that this engine made it. The session's id begins with the time of its making, from which the token's expiry follows.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use oci_ref::{Error, Result, UploadId};
use oci_spec_types::{Algorithm, ErrorCode, Name};
use sha2::Sha256;

/// How much of the signature a token carries, in bytes.
const SIGNATURE: usize = 16;

/// The name of an upload session: a UUID of version 7, so that ids sort by the time of their making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(Box<str>);

impl SessionId {
    /// A name that nobody has or can guess.
    pub(crate) fn fresh() -> Result<Self> {
        Ok(Self::new(now_millis(), crate::random::bytes()?))
    }

    /// The smallest name that could have been made `age` ago.
    pub(crate) fn made_before(age: Duration) -> Self {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self::new(now_millis().saturating_sub(age), [0; 10])
    }

    fn new(millis: u64, random: [u8; 10]) -> Self {
        let [a, b, rest @ ..] = random;
        let [c, d, tail @ ..] = rest;
        let high = u16::from_be_bytes([a, b]) & 0x0fff | 0x7000;
        let low = u16::from_be_bytes([c, d]) & 0x3fff | 0x8000;
        let millis = millis & 0xffff_ffff_ffff;
        let (early, late) = (millis >> 16, millis & 0xffff);
        let tail = hex::encode(tail);
        Self(format!("{early:08x}-{late:04x}-{high:04x}-{low:04x}-{tail}").into())
    }

    /// An id that was stored or sent. `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let well_formed = |(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        (text.len() == 36 && text.bytes().enumerate().all(well_formed)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes and checks tokens.
pub(crate) struct Tokens {
    secret: [u8; 32],
}

impl Tokens {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The token of a session: `<uuid>.<algorithm>.<signature>`.
    pub(crate) fn make(&self, repository: &Name, id: &SessionId, algorithm: Algorithm) -> UploadId {
        let signature = self.sign(repository, id, algorithm).finalize().into_bytes();
        let signature = hex::encode(&signature[..SIGNATURE]);
        UploadId(format!("{id}.{algorithm}.{signature}"))
    }

    /// The session that a token names, if the token was made for this repository.
    pub(crate) fn check(
        &self,
        repository: &Name,
        token: &UploadId,
    ) -> Result<(SessionId, Algorithm)> {
        self.read(repository, &token.0).ok_or_else(|| unknown(token))
    }

    fn read(&self, repository: &Name, token: &str) -> Option<(SessionId, Algorithm)> {
        let mut parts = token.splitn(3, '.');
        let id = SessionId::parse(parts.next()?)?;
        let algorithm = parts.next()?.parse().ok()?;
        let mut signature = [0; SIGNATURE];
        hex::decode_to_slice(parts.next()?, &mut signature).ok()?;
        // In constant time.
        self.sign(repository, &id, algorithm).verify_truncated_left(&signature).ok()?;
        Some((id, algorithm))
    }

    fn sign(&self, repository: &Name, id: &SessionId, algorithm: Algorithm) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        // None of the parts can contain the separator.
        for part in ["upload", repository.as_str(), id.as_str(), algorithm.as_str()] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        mac
    }
}

/// The error for a token that names no session here.
pub(crate) fn unknown(token: &UploadId) -> Error {
    // It comes from outside, and may be of any length.
    let shown: String = token.0.chars().take(36).collect();
    Error::new(ErrorCode::BlobUploadUnknown, format!("upload {shown:?} is not known here"))
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(now_millis() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn ids_are_uuids_that_sort_by_time() {
        let early = SessionId::new(0x0123_4567_89ab, [0xff; 10]);
        let late = SessionId::new(0x0123_4567_89ac, [0; 10]);
        assert_eq!(early.as_str(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(late.as_str(), "01234567-89ac-7000-8000-000000000000");
        assert!(early.as_str() < late.as_str());
        assert_eq!(SessionId::parse(early.as_str()), Some(early));
        let fresh = SessionId::fresh().unwrap();
        assert_ne!(fresh, SessionId::fresh().unwrap());
        assert!(SessionId::made_before(Duration::from_secs(1)).as_str() < fresh.as_str());
        for bad in
            ["", "01234567-89AB-7fff-bfff-ffffffffffff", "01234567089ab-7fff-bfff-fffffffffff"]
        {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_good_for_what_it_was_made_for() {
        let tokens = Tokens::new([7; 32]);
        let id = SessionId::fresh().unwrap();
        let token = tokens.make(&name("a/b"), &id, Algorithm::Sha512);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        assert!(token.0.bytes().all(allowed), "{}", token.0);

        let (read, algorithm) = tokens.check(&name("a/b"), &token).unwrap();
        assert_eq!((read, algorithm), (id, Algorithm::Sha512));

        assert!(tokens.check(&name("a/c"), &token).is_err());
        assert!(Tokens::new([8; 32]).check(&name("a/b"), &token).is_err());
        let other = UploadId(token.0.replace("sha512", "sha256"));
        assert!(tokens.check(&name("a/b"), &other).is_err());
        for bad in ["", ".", "..", "a.b.c", &token.0[..token.0.len() - 1], &format!("{}0", token.0)]
        {
            let error = tokens.check(&name("a/b"), &UploadId(bad.into())).unwrap_err();
            assert_eq!(error.code(), Some(&ErrorCode::BlobUploadUnknown), "{bad}");
        }
    }
}
