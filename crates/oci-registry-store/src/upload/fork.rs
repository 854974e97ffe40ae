//! Going on in a fresh object, where somebody else may still be writing to the one that is recorded.
//!
//! Whoever claimed a session before may have been taken for dead although it was only slow, and may wake up at any time. It finds
//! then that nothing it does counts any more, but its bytes would have been written by that time. The same is done with an object that
//! can take no more bytes, because it has been finished.

use std::sync::Arc;

use futures_util::StreamExt;
use oci_ref::Result;

use crate::engine::Engine;
use crate::objects::{ObjectKey, ObjectWrite};

/// A fresh object with the first `offset` bytes of another.
pub(super) async fn fork(
    engine: &Arc<Engine>,
    from: &ObjectKey,
    offset: u64,
) -> Result<(ObjectKey, Box<dyn ObjectWrite>)> {
    engine.room_for_object(offset).await?;
    let key = ObjectKey::fresh()?;
    // A beginning that failed may yet have been noted.
    let copied = match engine.metadata.begin_object(&key).await {
        Ok(()) => copy(engine, from, &key, offset).await,
        Err(error) => Err(error),
    };
    if copied.is_err() {
        engine.discard(&key).await;
    }
    Ok((key, copied?))
}

async fn copy(
    engine: &Arc<Engine>,
    from: &ObjectKey,
    to: &ObjectKey,
    offset: u64,
) -> Result<Box<dyn ObjectWrite>> {
    let mut body = engine.objects.open(from, 0..offset).await?;
    let mut writer = engine.objects.create(to, Arc::clone(engine) as _).await?;
    while let Some(chunk) = body.next().await {
        writer.append(chunk?).await?;
    }
    Ok(writer)
}
