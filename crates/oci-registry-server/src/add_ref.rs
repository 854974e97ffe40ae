//! Content put into a registry by a program, not over HTTP.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_ref::{
    Access, Document, Error, Found, Manifest, Precondition, Ref, Registry, Result, Source,
    SourceBlob, Store, WalkOptions, walk_refs,
};
use oci_spec_types::{Descriptor, ErrorCode, Name, Tag};

/// How many blobs of a manifest move at a time.
const CONCURRENCY: usize = 8;

/// Puts a ref and all that it reaches into a repository, children before their parents, so that it can be pulled from
/// there. Without a tag it is known by its digest only.
///
/// Where the engine allows it ([`Registry::link`]) blobs are not read: they stay in the ref's source, which is asked for
/// them whenever they are pulled, and must stay as it is for as long. What cannot be linked is copied. It must run on a
/// tokio runtime.
///
/// What refers to the ref does not go along, nor do signatures that a source keeps beside it.
/// [`ServerOptions::read_only`](crate::ServerOptions::read_only) does not stand in the way: it is about requests.
///
/// # Errors
/// Those of the source and of the engine, `MANIFEST_BLOB_UNKNOWN` for a blob that the source does not have, and
/// `SIZE_INVALID` for one of another size. A manifest is stored only after all that it references.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use oci_ref::{Manifest, Memory, Ref};
/// use oci_registry_server::{MemoryRegistry, add_ref};
/// use oci_spec_types::Tag;
///
/// let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
/// let index = Manifest::parse(index.as_slice().into(), None, None)?;
/// let root = Ref::new(index, Arc::new(Memory::new()))?;
///
/// let registry = MemoryRegistry::new();
/// let tag: Tag = "v1".parse().unwrap();
/// add_ref(&registry, &"team/app".parse().unwrap(), Some(&tag), &root).await?;
/// # Ok::<_, oci_ref::Error>(()) }).unwrap();
/// ```
pub async fn add_ref(
    registry: &(impl Registry + ?Sized),
    name: &Name,
    tag: Option<&Tag>,
    root: &Ref,
) -> Result<()> {
    let store = registry.repository(name, Access::Write).await?;
    // If the engine does not say whether it takes incomplete indexes, it will when it gets one.
    let sparse = store.capabilities().sparse != Some(false);
    let options = WalkOptions { sparse, ..WalkOptions::default() };
    let mut visits = pin!(walk_refs(root.clone(), options));
    let source = root.source();
    while let Some(visit) = visits.try_next().await? {
        let manifest = match &visit.found {
            Found::Ref(found) => found.manifest(),
            Found::Other(manifest) => manifest,
            Found::Blob => {
                let by = root.manifest();
                add_blobs(registry, name, (&store, source), by, vec![visit.descriptor]).await?;
                continue;
            }
            Found::Missing => continue,
        };
        // What an index lists has been visited before it.
        let mut blobs: Vec<Descriptor> = manifest.blobs().cloned().collect();
        if let Document::Other(other) = manifest.document() {
            blobs.extend(other.descriptors.iter().cloned());
        }
        add_blobs(registry, name, (&store, source), manifest, blobs).await?;
        // The root comes last.
        let tags = match tag {
            Some(tag) if manifest.digest() == root.digest() => std::slice::from_ref(tag),
            _ => &[],
        };
        store
            .put_manifest(manifest, tags, &Precondition::None)
            .await
            .map_err(|error| error.context(format!("adding {} to {name}", manifest.digest())))?;
    }
    Ok(())
}

/// Adds blobs that a manifest references.
async fn add_blobs(
    registry: &(impl Registry + ?Sized),
    name: &Name,
    (store, source): (&Arc<dyn Store>, &Arc<dyn Source>),
    manifest: &Manifest,
    blobs: Vec<Descriptor>,
) -> Result<()> {
    let adding = blobs.into_iter().map(|blob| async move {
        let digest = blob.digest.clone();
        add_blob(registry, name, (store, source), manifest, blob)
            .await
            .map_err(|error| error.context(format!("adding blob {digest} to {name}")))
    });
    stream::iter(adding).buffer_unordered(CONCURRENCY).try_collect().await
}

async fn add_blob(
    registry: &(impl Registry + ?Sized),
    name: &Name,
    (store, source): (&Arc<dyn Store>, &Arc<dyn Source>),
    manifest: &Manifest,
    blob: Descriptor,
) -> Result<()> {
    if store.blob_size(&blob.digest).await? == Some(blob.size) {
        return Ok(());
    }
    if let Some(data) = &blob.data {
        return store.put_blob(&blob, &Bytes::from(data.clone())).await;
    }
    match source.blob_size(&blob.digest).await? {
        Some(size) if size == blob.size => {}
        Some(size) => return Err(wrong_size(&blob, size)),
        // Such a layer may lie elsewhere, and its URLs are in the manifest.
        None if blob.may_be_elsewhere() => return Ok(()),
        None => return Err(unknown(&blob, manifest)),
    }
    if registry.link(name, &blob, source).await? {
        return Ok(());
    }
    store.put_blob(&blob, &SourceBlob::new(source.clone(), blob.digest.clone())).await
}

fn wrong_size(blob: &Descriptor, found: u64) -> Error {
    let Descriptor { digest, size, .. } = blob;
    let message = format!("the source's blob {digest} has {found} bytes, expected {size}");
    Error::new(ErrorCode::SizeInvalid, message)
}

fn unknown(blob: &Descriptor, manifest: &Manifest) -> Error {
    let message = format!(
        "the source does not have the blob {} of manifest {}",
        blob.digest,
        manifest.digest()
    );
    Error::new(ErrorCode::ManifestBlobUnknown, message)
}
