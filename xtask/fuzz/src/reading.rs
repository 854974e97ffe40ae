//! Reading all that a source gives, with what must hold of it.

use std::sync::Arc;

use futures_util::StreamExt;
use oci_ref::{Blob, Found, Ref, Result, Source, Target, WalkOptions, walk_refs};
use oci_spec_types::Digest;

/// The longest text of an error, in bytes: it quotes names that were made up.
pub(crate) const MAX_ERROR: usize = 16 << 10;

/// The bounds of walks through what was made up.
pub(crate) fn bounds() -> WalkOptions {
    WalkOptions {
        max_depth: 4,
        max_manifests: 64,
        ahead: 2,
        sparse: true,
        ..WalkOptions::default()
    }
}

/// Reads all that a manifest reaches: it has the digests by which it was asked for.
pub(crate) async fn read_all<S: Source + 'static>(source: Arc<S>, digest: &Digest) -> Result<()> {
    let root = Ref::read(source.clone(), &Target::Digest(digest.clone())).await?;
    assert_eq!(root.digest(), digest);
    source.referrers(digest, None, None, 10).await?;
    source.signatures(digest).await?;
    let visits: Vec<_> = walk_refs(root, bounds()).collect().await;
    for visit in visits {
        let Found::Ref(Ref::Image(image)) = visit?.found else { continue };
        for blob in image.manifest().blobs().take(16) {
            if let Ok(read) = Blob::open(&*source, blob).await?.into_bytes(1 << 20).await {
                assert!(blob.digest.verify(&read).is_ok(), "other bytes than {}", blob.digest);
            }
        }
    }
    Ok(())
}
