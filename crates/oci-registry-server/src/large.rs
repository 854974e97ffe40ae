//! A large manifest on its way to a client.
//!
//! It goes out in pieces, as large as the budget allows, each read from the engine when the one
//! before has been sent. So one who reads slowly holds a small piece, and one who reads as fast as
//! it comes gets all of it in one.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use oci_ref::{Error, ErrorKind, Result, Store, Target};
use oci_spec_types::Descriptor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::asked::Asked;
use crate::body::SizedBody;
use crate::budget::Budget;

/// The body of a manifest. Its first piece has been read when this returns.
///
/// # Errors
/// Those of the store.
pub(crate) async fn body(
    store: Arc<dyn Store>,
    descriptor: Descriptor,
    budget: Arc<Budget>,
    asked: Asked,
) -> Result<Body> {
    let size = descriptor.size;
    let turn = Arc::new(Semaphore::new(1));
    let mut rest = Rest { store, descriptor, budget, offset: 0, turn };
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
    offset: u64,
    /// Held by the piece that is being sent.
    turn: Arc<Semaphore>,
}

impl Rest {
    async fn next(&mut self) -> Result<Bytes> {
        // Nobody closes it.
        let turn = self.turn.clone().acquire_owned().await.ok();
        let Descriptor { digest, size, .. } = &self.descriptor;
        let whole = {
            let _turn = self.budget.read().await;
            let target = Target::Digest(digest.clone());
            self.store.manifest_bytes(&target, u64::MAX).await?.bytes
        };
        let whole = whole.filter(|whole| whole.len() as u64 == *size).ok_or_else(|| {
            let message = format!("manifest {digest} has not the {size} bytes that it should");
            Error::new(ErrorKind::Internal, message)
        })?;
        let (length, share) = self.budget.send(size.saturating_sub(self.offset));
        let end = self.offset.saturating_add(length);
        let bytes = match length == *size {
            true => whole,
            // Copied, since a part of the whole would keep all of it. Both ends are at most the
            // length.
            false => Bytes::copy_from_slice(&whole[self.offset as usize..end as usize]),
        };
        self.offset = end;
        Ok(Bytes::from_owner(Piece { bytes, _share: share, _turn: turn }))
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
