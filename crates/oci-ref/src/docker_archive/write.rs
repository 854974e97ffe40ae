//! Writing `docker-archive:`.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use oci_spec_types::{Algorithm, Descriptor, Digest, ErrorCode, MediaType, Reference, Tag};

use super::manifest_json::{Item, MANIFEST_JSON, to_bytes};
use crate::archive::TarWriter;
use crate::archive::staging::{Staging, source_of_staging};
use crate::files::blocking;
use crate::{
    Body, Capabilities, DEFAULT_BLOB_LIMIT, Error, ErrorKind, Image, Manifest, Precondition, Ref,
    Reopen, Result, Source, Staged, Store, Target,
};

/// How to write an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerArchiveOptions {
    /// The repository that tags are in: the image is named `<repository>:<tag>` for each of its tags. A tag or digest in
    /// the reference is not looked at. Without it, no tags can be set.
    pub repository: Option<Reference>,
    /// Whether an archive that has been finished survives a power cut: it is synced before it is named.
    pub sync: bool,
}

/// One image that becomes a tar archive which `docker load` reads.
///
/// What is stored is gathered in a layout beside the archive, and read from there. [`finish`](Self::finish) writes the
/// archive: `manifest.json`, the config as `<hex>.json`, and the layers as `<hex of the diff ID>.tar`, uncompressed and
/// verified. The same image gives the same bytes. Nothing is seen under the archive's name before it is whole. Without
/// `finish` there is no archive: dropping the last clone removes what was gathered.
///
/// Docker's format has no lists, no artifacts, and one manifest only in spirit: annotations, and how layers were
/// compressed, are not in it. So an index is refused, as is a second image.
#[derive(Clone)]
pub struct DockerArchiveWriter {
    staging: Arc<Staging>,
    repository: Option<Arc<Reference>>,
}

impl DockerArchiveWriter {
    /// Begins an archive. Its directory must be there. A file of its name stays as it is until the archive is finished,
    /// and is then replaced.
    pub async fn create(path: impl Into<PathBuf>, options: DockerArchiveOptions) -> Result<Self> {
        let staging = Staging::create(path.into(), options.sync, false).await?;
        Ok(Self { staging, repository: options.repository.map(Arc::new) })
    }

    /// Writes the archive, and names it in one step. Layers that are compressed need the feature `compression`.
    ///
    /// # Errors
    /// If no image has been stored, or a layer does not unpack to its diff ID.
    pub async fn finish(&self) -> Result<()> {
        let at = self.staging.path.display();
        let Some(image) = self.image().await? else {
            let message = format!("archive {at}: no image has been stored that could be in it");
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let written = self.write(&image).await;
        written.map_err(|error| {
            let message = format!("archive {at}: {error}");
            error.context(message)
        })
    }

    /// The image that has been stored.
    async fn image(&self) -> Result<Option<Image>> {
        let entries = self.staging.layout.entries().await?;
        let Some(entry) = entries.into_iter().next() else { return Ok(None) };
        let target = Target::Digest(entry.descriptor.digest);
        let source: Arc<dyn Source> = Arc::new(self.staging.layout.clone());
        Ok(Some(Ref::read(source, &target).await?.as_image()?.clone()))
    }

    /// The names of the image.
    async fn names(&self) -> Result<Vec<String>> {
        let Some(repository) = &self.repository else { return Ok(Vec::new()) };
        let entries = self.staging.layout.entries().await?;
        let mut names: Vec<String> = entries
            .into_iter()
            .filter_map(|entry| entry.name)
            .map(|tag| format!("{}/{}:{tag}", repository.host(), repository.name()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn write(&self, image: &Image) -> Result<()> {
        let diff_ids = image.config().await?.rootfs.diff_ids;
        let config =
            image.read_blob_verified(image.config_descriptor(), DEFAULT_BLOB_LIMIT).await?;
        let item = Item {
            config: format!("{}.json", image.config_descriptor().digest.encoded()),
            names: self.names().await?,
            layers: diff_ids.iter().map(layer_name).collect(),
        };
        let staging = self.staging.clone();
        let failed = move |error| staging.failed(error);
        let directory = self.staging.directory().to_owned();
        let name = item.config.clone();
        let fail = failed.clone();
        let mut tar = blocking(move || {
            let mut tar = TarWriter::begin(&directory).map_err(&fail)?;
            tar.file(&name, config.len() as u64, &config[..]).map_err(&fail)?;
            Ok(tar)
        })
        .await?;

        let mut order: Vec<usize> = (0..diff_ids.len()).collect();
        order.sort_by(|a, b| diff_ids[*a].cmp(&diff_ids[*b]));
        let mut written = HashSet::new();
        for position in order {
            let diff_id = &diff_ids[position];
            if !written.insert(diff_id) {
                continue;
            }
            let mut content = unpacked(image, position, diff_id).await?;
            let (name, fail) = (layer_name(diff_id), failed.clone());
            let mut file;
            (tar, file) = blocking(move || {
                let file = tar.open_file(&name).map_err(&fail)?;
                Ok((tar, file))
            })
            .await?;
            while let Some(chunk) = content.try_next().await? {
                let fail = failed.clone();
                (tar, file) = blocking(move || {
                    tar.append(&mut file, &chunk).map_err(&fail)?;
                    Ok((tar, file))
                })
                .await?;
            }
            let fail = failed.clone();
            tar = blocking(move || {
                tar.close_file(file).map_err(&fail)?;
                Ok(tar)
            })
            .await?;
        }

        let list = to_bytes(&[item]);
        let staging = self.staging.clone();
        blocking(move || {
            tar.file(MANIFEST_JSON, list.len() as u64, &list[..]).map_err(&failed)?;
            tar.finish(&staging.path, staging.sync).map_err(&failed)
        })
        .await
    }
}

fn layer_name(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.encoded())
}

/// A layer's content, uncompressed and verified.
async fn unpacked(image: &Image, position: usize, diff_id: &Digest) -> Result<Body> {
    let layer = &image.layers()[position];
    if layer.digest == *diff_id {
        return Ok(image.open_blob(layer).await?.boxed());
    }
    #[cfg(feature = "compression")]
    {
        let layer = image.open_layer(position, diff_id.clone(), crate::DEFAULT_LAYER_LIMIT).await?;
        Ok(layer.boxed())
    }
    #[cfg(not(feature = "compression"))]
    Err(Error::unsupported(format!(
        "layer {} cannot be decompressed without the feature `compression`",
        layer.digest
    )))
}

/// Refuses what the format cannot hold.
fn check(manifest: &Manifest) -> Result<()> {
    let digest = manifest.digest();
    let refuse = |what: String| Err(Error::unsupported(format!("docker-archive: {what}")));
    let Some(image) = manifest.image() else {
        return refuse(match manifest.index() {
            Some(_) => format!(
                "{digest} is a list of images, which docker-archive: cannot hold: choose one image of it, \
                 by platform or by digest, or write an oci-archive:"
            ),
            None => format!("{digest} is of type {}, expected an image", manifest.media_type()),
        });
    };
    if !image.config.media_type.is_config() {
        return refuse(format!(
            "{digest} is an artifact, whose config is of type {}, expected an image",
            image.config.media_type
        ));
    }
    for layer in &image.layers {
        if layer.media_type.is_non_distributable() || !layer.media_type.is_layer() {
            return refuse(format!(
                "layer {} of {digest} is of type {}, which cannot be loaded from an archive",
                layer.digest, layer.media_type
            ));
        }
    }
    Ok(())
}

impl DockerArchiveWriter {
    /// Refuses an image that `docker load` would refuse.
    async fn check_config(&self, manifest: &Manifest) -> Result<()> {
        let source: Arc<dyn Source> = Arc::new(self.staging.layout.clone());
        let image = Ref::new(manifest.clone(), source)?.as_image()?.clone();
        let config = image.config().await.map_err(|error| match error.code() {
            Some(ErrorCode::BlobUnknown) => Error::new(
                ErrorCode::ManifestBlobUnknown,
                format!("{error}: it is the config of manifest {}", manifest.digest()),
            ),
            _ => error,
        })?;
        let diff_ids = config.rootfs.diff_ids;
        if diff_ids.len() != image.layers().len() {
            return Err(Error::new(
                ErrorCode::ManifestInvalid,
                format!(
                    "image {} has {} layers, and {} diff IDs in its config",
                    manifest.digest(),
                    image.layers().len(),
                    diff_ids.len()
                ),
            ));
        }
        let foreign = |id: &&Digest| id.known_algorithm() != Some(Algorithm::Sha256);
        match diff_ids.iter().find(foreign) {
            Some(id) => Err(Error::unsupported(format!(
                "docker-archive: diff ID {id} of {} is not sha256, which is all that Docker takes",
                manifest.digest()
            ))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DockerArchiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DockerArchiveWriter").field(&self.staging.path).finish()
    }
}

source_of_staging!(DockerArchiveWriter);

#[async_trait]
impl Store for DockerArchiveWriter {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            manifest_types: Some(vec![MediaType::DOCKER_MANIFEST, MediaType::OCI_IMAGE_MANIFEST]),
            native_types: None,
            sparse: Some(false),
            ..self.staging.layout.capabilities()
        }
    }

    async fn put_blob(&self, descriptor: &Descriptor, content: &dyn Reopen) -> Result<()> {
        self.staging.layout.put_blob(descriptor, content).await
    }

    async fn stage(&self, algorithm: Algorithm) -> Result<Box<dyn Staged>> {
        self.staging.layout.stage(algorithm).await
    }

    async fn put_manifest(
        &self,
        manifest: &Manifest,
        tags: &[Tag],
        when: &Precondition,
    ) -> Result<()> {
        check(manifest)?;
        if let (Some(tag), None) = (tags.first(), &self.repository) {
            return Err(Error::unsupported(format!(
                "docker-archive: images are named as repository:tag, and tag {tag} comes without a repository"
            )));
        }
        self.check_config(manifest).await?;
        if let Some(image) = self.image().await?
            && image.manifest().digest() != manifest.digest()
        {
            return Err(Error::unsupported(format!(
                "docker-archive: an archive is written with one image, which is {}; {} needs another",
                image.manifest().digest(),
                manifest.digest()
            )));
        }
        self.staging.layout.put_manifest(manifest, tags, when).await
    }

    async fn delete_tag(&self, tag: &Tag) -> Result<()> {
        self.staging.layout.delete_tag(tag).await
    }

    async fn delete_manifest(&self, digest: &Digest) -> Result<()> {
        self.staging.layout.delete_manifest(digest).await
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<()> {
        self.staging.layout.delete_blob(digest).await
    }
}
