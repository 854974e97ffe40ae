//! A large manifest on its way to a client.
//!
//! It goes out in pieces, as large as the budget allows, each read from the engine when the one
//! before has been sent. An engine that gives parts of manifests is asked for no more than a small
//! piece at a time; from any other, one who reads as fast as it comes gets all of it in one.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use oci_ref::{Error, ErrorKind, Result, Store, Target};
use oci_spec_types::Descriptor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::asked::Asked;
use crate::body::SizedBody;
use crate::budget::Budget;

/// The most that is read at a time of a manifest that is to be had in parts: 256 KiB. An engine may
/// have to pass over all that comes before a part, so that smaller ones take longer.
const PART: u64 = 256 << 10;

/// The body of a manifest. Its first piece has been read when this returns, and all of it has been
/// verified.
///
/// # Errors
/// Those of the store, and `Internal` if what is stored is not the manifest.
pub(crate) async fn body(
    store: Arc<dyn Store>,
    descriptor: Descriptor,
    budget: Arc<Budget>,
    asked: Asked,
) -> Result<Body> {
    let size = descriptor.size;
    let turn = Arc::new(Semaphore::new(1));
    let mut rest = Rest { store, descriptor, budget, in_parts: false, offset: 0, turn };
    rest.in_parts = rest.verify().await?;
    let first = rest.next().await?;
    let pieces = stream::unfold(rest, |mut rest| async move {
        (rest.offset < rest.descriptor.size).then_some(())?;
        let piece = rest.next().await;
        Some((piece, rest))
    });
    let pieces = stream::iter([Ok(first)]).chain(pieces);
    Ok(Body::new(SizedBody::new(pieces.boxed(), size, asked)))
}

/// The part that has not been read yet.
struct Rest {
    store: Arc<dyn Store>,
    descriptor: Descriptor,
    budget: Arc<Budget>,
    /// True if the engine gives parts, which are not verified.
    in_parts: bool,
    offset: u64,
    /// Held by the piece that is being sent.
    turn: Arc<Semaphore>,
}

impl Rest {
    /// Hashes all of a manifest that is to be had in parts. `false` if it is to be had whole only,
    /// and verified by the engine.
    async fn verify(&self) -> Result<bool> {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let damaged = || Error::new(ErrorKind::Internal, format!("manifest {digest} is damaged"));
        let mut verifier = digest.verifier().map_err(|error| damaged().with_source(error))?;
        let _turn = self.budget.read().await;
        let mut offset = 0;
        while offset < *size {
            let end = offset.saturating_add(PART).min(*size);
            let Some(part) = self.part(offset..end).await? else { return Ok(false) };
            let hash = spawn_blocking(move || {
                verifier.update(&part);
                verifier
            });
            verifier = hash.await.map_err(|error| {
                let message = format!("the hashing of manifest {digest} was stopped");
                Error::new(ErrorKind::Internal, message).with_source(error)
            })?;
            offset = end;
        }
        verifier.finish().map_err(|error| damaged().with_source(error))?;
        Ok(true)
    }

    async fn next(&mut self) -> Result<Bytes> {
        // Nobody closes it.
        let turn = self.turn.clone().acquire_owned().await.ok();
        let left = self.descriptor.size.saturating_sub(self.offset);
        let most = if self.in_parts { PART } else { u64::MAX };
        let (length, share) = self.budget.send(left.min(most));
        let range = self.offset..self.offset.saturating_add(length);
        self.offset = range.end;
        let bytes = match self.in_parts {
            true => self.part(range).await?.ok_or_else(|| self.too_short())?,
            false => self.cut(range).await?,
        };
        Ok(Bytes::from_owner(Piece { bytes, _share: share, _turn: turn }))
    }

    async fn part(&self, range: Range<u64>) -> Result<Option<Bytes>> {
        let length = range.end.saturating_sub(range.start);
        let part = self.store.manifest_part(&self.descriptor.digest, range).await?;
        match part {
            Some(part) if part.len() as u64 != length => Err(self.too_short()),
            part => Ok(part),
        }
    }

    /// A part of the whole, which is read for it.
    async fn cut(&self, range: Range<u64>) -> Result<Bytes> {
        let whole = {
            let _turn = self.budget.read().await;
            let target = Target::Digest(self.descriptor.digest.clone());
            self.store.manifest_bytes(&target, u64::MAX).await?.bytes
        };
        let size = self.descriptor.size;
        let whole = whole.filter(|whole| whole.len() as u64 == size);
        let whole = whole.ok_or_else(|| self.too_short())?;
        Ok(match range == (0..size) {
            true => whole,
            // Copied, since a part of the whole would keep all of it. Both ends are at most the
            // length.
            false => Bytes::copy_from_slice(&whole[range.start as usize..range.end as usize]),
        })
    }

    fn too_short(&self) -> Error {
        let Descriptor { digest, size, .. } = &self.descriptor;
        let message = format!("manifest {digest} has not the {size} bytes that it should");
        Error::new(ErrorKind::Internal, message)
    }
}

/// A piece, which gives back what it holds when it has been sent.
struct Piece {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
