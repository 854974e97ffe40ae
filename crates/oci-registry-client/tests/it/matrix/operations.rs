//! Everything that a client does, each as one operation that says whether what came of it is right.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use oci_ref::{
    Blob, ByteRange, LayerContent, Manifest, Mounted, Precondition, Result, Source, Store, Target,
};
use oci_registry_client::UploadMode;
use oci_spec_types::{Algorithm, Descriptor, Digest};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::world::{World, content, kind, tag};

/// Whether what was done, or found, is what it should be.
pub(super) type Right = bool;

pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) run: fn(&World) -> BoxFuture<'_, Result<Right>>,
}

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        pub(super) const EVERY: &[Operation] =
            &[$(Operation { name: stringify!($name), run: |world| $name(world).boxed() }),*];
    };
}

operations! {
    ping, catalog, tags, manifest_by_tag, manifest_by_digest, resolve_tag, resolve_digest, blob_size, blob, range,
    parallel, seek, download_resumed, push_at_once, push_in_chunks, staged_and_resumed, staged_and_cancelled, mount,
    push_manifest, push_manifest_with_tags, push_with_subject, set_tag, referrers, delete_tag, delete_manifest,
    delete_blob,
}

async fn ping(world: &World) -> Result<Right> {
    let host = world.registry.host().parse().unwrap();
    world.client().registry(&host)?.ping().await?;
    Ok(true)
}

async fn catalog(world: &World) -> Result<Right> {
    let repository = world.repository();
    let found: Vec<_> = repository.registry().catalog_stream(None, 10).try_collect().await?;
    Ok(found == ["a/b".parse().unwrap()])
}

async fn tags(world: &World) -> Result<Right> {
    let found: Vec<_> = world.repository().tags_stream(None, 1).try_collect().await?;
    Ok(found == [tag("v1"), tag("v2")])
}

async fn manifest_by_tag(world: &World) -> Result<Right> {
    let found = world.repository().manifest(&Target::Tag(tag("v1"))).await?;
    Ok(found.bytes() == world.image.bytes())
}

async fn manifest_by_digest(world: &World) -> Result<Right> {
    let found = world.repository().manifest(&Target::Digest(world.image.digest().clone())).await?;
    Ok(found.bytes() == world.image.bytes())
}

async fn resolve_tag(world: &World) -> Result<Right> {
    let found = world.repository().resolve(&Target::Tag(tag("v1"))).await?;
    Ok(found.digest == *world.image.digest())
}

async fn resolve_digest(world: &World) -> Result<Right> {
    let found = world.repository().resolve(&Target::Digest(world.image.digest().clone())).await?;
    Ok(found.digest == *world.image.digest())
}

async fn blob_size(world: &World) -> Result<Right> {
    Ok(world.repository().blob_size(&world.layer.digest).await? == Some(world.layer.size))
}

async fn blob(world: &World) -> Result<Right> {
    let blob = Blob::open(&world.repository(), &world.layer).await?;
    Ok(blob.into_bytes(1 << 20).await? == content())
}

async fn range(world: &World) -> Result<Right> {
    let wanted = ByteRange::Inclusive(1000, 250_000);
    let read = Source::blob(&world.repository(), &world.layer.digest, wanted).await?;
    let found: Vec<Bytes> = read.body.try_collect().await?;
    Ok(found.concat() == content()[1000..=250_000])
}

async fn parallel(world: &World) -> Result<Right> {
    let repository = world.repository_of(world.builder().parallel_ranges(3, 10_000));
    let blob = Blob::open(&repository, &world.layer).await?;
    Ok(blob.into_bytes(1 << 20).await? == content())
}

async fn seek(world: &World) -> Result<Right> {
    let failed = |error: std::io::Error| {
        let inner = error.into_inner().and_then(|inner| inner.downcast::<oci_ref::Error>().ok());
        *inner.expect("the inner error is ours, unless the registry gives no parts")
    };
    let mut reader = world.repository().open(&world.layer).await?;
    if !reader.is_seekable() {
        return Ok(true);
    }
    reader.seek(std::io::SeekFrom::Start(200_000)).await.unwrap();
    let mut found = Vec::new();
    reader.read_to_end(&mut found).await.map_err(failed)?;
    Ok(found == content()[200_000..])
}

async fn download_resumed(world: &World) -> Result<Right> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    let part = format!("blob.{}.part", &world.layer.digest.encoded()[..12]);
    std::fs::write(directory.path().join(part), &content()[..100_000]).unwrap();
    world.repository().download(&world.layer, &path).await?;
    Ok(std::fs::read(&path).unwrap() == content())
}

async fn pushed(world: &World, content: &[u8]) -> Result<Right> {
    let size = world.memory().blob_size(&Digest::sha256(content)).await?;
    Ok(size == Some(content.len() as u64))
}

fn other_content() -> Bytes {
    content().iter().map(|byte| !byte).collect()
}

async fn push_at_once(world: &World) -> Result<Right> {
    let content = other_content();
    world.repository().put_blob(&Descriptor::of(kind(), &content), &content).await?;
    pushed(world, &content).await
}

async fn push_in_chunks(world: &World) -> Result<Right> {
    let content = other_content();
    let builder = world.builder().upload_mode(UploadMode::Chunked).chunk_size(128 << 10);
    world.repository_of(builder).put_blob(&Descriptor::of(kind(), &content), &content).await?;
    pushed(world, &content).await
}

async fn staged_and_resumed(world: &World) -> Result<Right> {
    let content = other_content();
    let repository = world.repository_of(world.builder().chunk_size(128 << 10));
    let mut staged = repository.stage(Algorithm::Sha256).await?;
    staged.append(content.slice(..200_000)).await?;
    let name = staged.suspend().await?;
    // Who has the name must give it up himself.
    let cancel = async |error: oci_ref::Error| {
        if let Ok(staged) = repository.resume(&name).await {
            let _ = staged.cancel().await;
        }
        Err(error)
    };
    let mut staged = match repository.resume(&name).await {
        Ok(staged) => staged,
        Err(error) => return cancel(error).await,
    };
    let at = staged.offset() as usize;
    if let Err(error) = staged.append(content.slice(at.min(content.len())..)).await {
        drop(staged);
        return cancel(error).await;
    }
    staged.commit(&Digest::sha256(&content)).await?;
    pushed(world, &content).await
}

async fn staged_and_cancelled(world: &World) -> Result<Right> {
    let repository = world.repository_of(world.builder().chunk_size(128 << 10));
    let mut staged = repository.stage(Algorithm::Sha256).await?;
    staged.append(other_content()).await?;
    staged.cancel().await?;
    Ok(true)
}

async fn mount(world: &World) -> Result<Right> {
    let to = world.repository().sibling("other".parse().unwrap());
    match to.mount(&world.layer, Some(&super::world::name())).await? {
        Mounted::Done => {}
        Mounted::Upload(staged) => staged.put(&world.layer, &content()).await?,
        Mounted::No => to.put_blob(&world.layer, &content()).await?,
    }
    let size = world.other_memory().blob_size(&world.layer.digest).await?;
    Ok(size == Some(world.layer.size))
}

/// Another manifest of what is there.
async fn another(world: &World, subject: bool) -> Manifest {
    let memory = oci_ref::Memory::new();
    let mut artifact = oci_ref::ArtifactBuilder::new(kind())
        .layer(LayerContent::blob(kind(), content()))
        .annotate("a", "b");
    if subject {
        artifact = artifact.subject(world.image.descriptor().clone());
    }
    artifact.write(&memory, &[]).await.unwrap()
}

async fn push_manifest(world: &World) -> Result<Right> {
    let manifest = another(world, false).await;
    world.repository().put_manifest(&manifest, &[tag("new")], &Precondition::None).await?;
    Ok(world.named("new").await.as_ref() == Some(manifest.descriptor()))
}

async fn push_manifest_with_tags(world: &World) -> Result<Right> {
    let manifest = another(world, false).await;
    let tags = [tag("new"), tag("newer"), tag("v2")];
    world.repository().put_manifest(&manifest, &tags, &Precondition::None).await?;
    for name in ["new", "newer", "v2"] {
        if world.named(name).await.as_ref() != Some(manifest.descriptor()) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn push_with_subject(world: &World) -> Result<Right> {
    let manifest = another(world, true).await;
    world.repository().put_manifest(&manifest, &[], &Precondition::None).await?;
    let listed = world.memory().referrers(world.image.digest(), None, None, 10).await?;
    Ok(listed.page.items.iter().any(|found| found.digest == *manifest.digest()))
}

async fn set_tag(world: &World) -> Result<Right> {
    let target = Target::Digest(world.image.digest().clone());
    world.repository().tag(&target, &tag("new")).await?;
    Ok(world.named("new").await.as_ref() == Some(world.image.descriptor()))
}

async fn referrers(world: &World) -> Result<Right> {
    let found = world.repository().predecessors(world.image.digest()).await?;
    Ok(found.len() == 1 && found[0].digest == *world.note.digest())
}

async fn delete_tag(world: &World) -> Result<Right> {
    world.repository().delete_tag(&tag("v2")).await?;
    Ok(world.named("v2").await.is_none() && world.named("v1").await.is_some())
}

async fn delete_manifest(world: &World) -> Result<Right> {
    world.repository().delete_manifest(world.note.digest()).await?;
    let target = Target::Digest(world.note.digest().clone());
    Ok(world.memory().resolve(&target).await.is_err() && world.named("v1").await.is_some())
}

async fn delete_blob(world: &World) -> Result<Right> {
    let stray = Bytes::from_static(b"nobody wants this");
    let descriptor = Descriptor::of(kind(), &stray);
    world.memory().put_blob(&descriptor, &stray).await?;
    world.repository().delete_blob(&descriptor.digest).await?;
    Ok(world.memory().blob_size(&descriptor.digest).await?.is_none())
}
