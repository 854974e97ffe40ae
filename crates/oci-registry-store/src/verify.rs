//! Reading stored content to see whether it is what it should be, at a bounded pace.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci_ref::{Error, ErrorKind, Result};
use oci_spec_types::{Digest, Verifier, VerifyError};
use tokio::time::Instant;

use crate::blocking;
use crate::objects::{ObjectKey, ObjectWrite, Objects};

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    Missing,
    Size { found: u64, expected: u64 },
    Digest { found: Digest },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("its file is missing"),
            Self::Size { found, expected } => write!(f, "has {found} bytes, expected {expected}"),
            Self::Digest { found } => write!(f, "its bytes have digest {found}"),
        }
    }
}

/// Holds reading to so many bytes a second.
pub(crate) struct Pace {
    rate: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    /// `None`: as fast as it goes.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, begun: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that were read, and waits until they may have been.
    pub(crate) async fn count(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let Some(rate) = self.rate else { return };
        let least = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
        tokio::time::sleep_until(self.begun + least).await;
    }
}

/// Finds the damage of bytes that are there.
///
/// # Errors
/// If they cannot be checked, which says nothing about what they are.
pub(crate) fn verify_bytes(bytes: &[u8], digest: &Digest, size: u64) -> Result<Option<Damage>> {
    if bytes.len() as u64 != size {
        return Ok(Some(Damage::Size { found: bytes.len() as u64, expected: size }));
    }
    let mut verifier = digest.verifier()?;
    verifier.update(bytes);
    damage(verifier, digest)
}

/// Reads an object and checks it, and writes it somewhere else if asked to. Memory is bounded by a
/// few chunks.
///
/// # Errors
/// If it cannot be read or written, which says nothing about what it is.
pub(crate) async fn verify(
    objects: &dyn Objects,
    key: &ObjectKey,
    digest: &Digest,
    size: u64,
    pace: &mut Pace,
    mut to: Option<&mut dyn ObjectWrite>,
) -> Result<Option<Damage>> {
    let mut body = match objects.size(key).await? {
        None => return Ok(Some(Damage::Missing)),
        Some(found) if found != size => return Ok(Some(Damage::Size { found, expected: size })),
        Some(_) => objects.open(key, 0..size).await?,
    };
    let mut verifier = digest.verifier()?;
    while let Some(chunk) = body.next().await {
        let chunk: Bytes = chunk?;
        let length = chunk.len() as u64;
        if let Some(to) = &mut to {
            to.append(chunk.clone()).await?;
        }
        verifier = blocking::run(move || {
            verifier.update(&chunk);
            Ok(verifier)
        })
        .await?;
        pace.count(length).await;
    }
    damage(verifier, digest)
}

fn damage(verifier: Verifier, digest: &Digest) -> Result<Option<Damage>> {
    match verifier.finish() {
        Ok(()) => Ok(None),
        Err(VerifyError::Mismatch { actual, .. }) => Ok(Some(Damage::Digest { found: actual })),
        Err(error) => {
            Err(Error::new(ErrorKind::Internal, format!("blob {digest} cannot be checked"))
                .with_source(error))
        }
    }
}
