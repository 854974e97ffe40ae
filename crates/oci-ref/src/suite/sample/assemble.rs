//! How the sample's images, indexes and artifacts are put together.

use oci_spec_types::{
    Algorithm, ContainerConfig, Descriptor, Extra, History, ImageConfig, ImageIndex, ImageManifest,
    MediaType, Platform, RootFs,
};

use super::files::{self, OWN};
use super::layers::{Compression, Layer, archive_of, archive_of_changes, archive_of_text};
use super::{Content, Sample, SampleEntry};
use crate::suite::content::{Piece, seal, tag};
use crate::{Manifest, Result};

const CREATED: &str = "2026-01-01T00:00:00Z";

pub(super) fn assemble() -> Result<Content> {
    let mut making = Making::default();
    let layers = Layers::make()?;

    let amd64 = platform("amd64", None);
    let image = making.image(&amd64, &layers.on(&amd64)?)?;
    making.keep(&image, Some("image"));

    let mut entries = making.platforms(&layers, &image)?;
    let platforms = seal(serde_json::to_vec_pretty(&ImageIndex::new(entries.clone())))?;
    making.keep(&platforms, Some("platforms"));
    let nested = making.nested(&layers)?;
    entries.insert(3, nested.descriptor().clone());
    let index = seal(serde_json::to_vec_pretty(&ImageIndex::new(entries)))?;
    making.keep(&index, Some("index"));

    let signature =
        making.artifact(&image, "application/vnd.example.signature", "signed", false)?;
    making.keep(&signature, None);
    let notes = making.artifact(&index, "application/vnd.example.notes", "noted", false)?;
    making.keep(&notes, Some("notes"));
    let embedded = making.artifact(&image, "application/vnd.example.embedded", "embedded", true)?;
    making.keep(&embedded, Some("embedded"));

    let sha512 = making.sha512(&amd64)?;
    making.keep(&sha512, Some("sha512"));
    let empty = making.empty(&amd64)?;
    making.keep(&empty, Some("empty"));

    let docker = making.docker(&layers)?;
    making.keep(&docker, Some("docker"));
    let docker_list = seal(serde_json::to_vec_pretty(&ImageIndex {
        media_type: Some(MediaType::DOCKER_MANIFEST_LIST),
        ..ImageIndex::new(vec![on(&docker, amd64)])
    }))?;
    making.keep(&docker_list, Some("docker-list"));

    let of = |manifest: &Manifest| manifest.descriptor().clone();
    let sample = Sample {
        entries: making.entries,
        image: of(&image),
        platforms: of(&platforms),
        index: of(&index),
        nested: of(&nested),
        signature: of(&signature),
        notes: of(&notes),
        sha512: of(&sha512),
        empty: of(&empty),
        embedded: of(&embedded),
        docker: of(&docker),
        docker_list: of(&docker_list),
    };
    Ok(Content { blobs: making.blobs, manifests: making.manifests, sample })
}

fn platform(architecture: &str, variant: Option<&str>) -> Platform {
    Platform { variant: variant.map(str::to_owned), ..Platform::new("linux", architecture) }
}

/// The descriptor of a manifest for a platform.
fn on(manifest: &Manifest, platform: Platform) -> Descriptor {
    Descriptor { platform: Some(platform), ..manifest.descriptor().clone() }
}

/// The layers that the images share.
struct Layers {
    base: Layer,
    changes: Layer,
}

impl Layers {
    fn make() -> Result<Self> {
        let base = archive_of(&files::read())?;
        let changes = archive_of_changes(OWN, ("usr/share/os-release", "../../etc/os-release"))?;
        Ok(Self {
            base: Layer::new(base, Compression::Gzip, "copy of some files")?,
            changes: Layer::new(changes, Compression::Zstd, "rm, ln -s")?,
        })
    }

    /// The layers of the image for a platform, the last of which is its own.
    fn on(&self, platform: &Platform) -> Result<Vec<Layer>> {
        let own = archive_of_text("etc/platform", &format!("{platform}\n"))?;
        let own = Layer::new(own, Compression::None, "echo platform")?;
        Ok(vec![self.base.clone(), self.changes.clone(), own])
    }
}

/// An image config for layers.
fn config(platform: &Platform, layers: &[Layer]) -> ImageConfig {
    let history = layers.iter().map(|layer| History {
        created: Some(CREATED.into()),
        created_by: Some(layer.created_by.clone()),
        ..History::default()
    });
    let environment = History {
        created: Some(CREATED.into()),
        created_by: Some("ENV SAMPLE=1".into()),
        empty_layer: Some(true),
        ..History::default()
    };
    ImageConfig {
        created: Some(CREATED.into()),
        author: Some("the oci-ref suite".into()),
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: None,
        os_features: Vec::new(),
        variant: platform.variant.clone(),
        config: Some(ContainerConfig {
            env: vec!["PATH=/usr/bin:/bin".into(), "SAMPLE=1".into()],
            cmd: vec!["/bin/sh".into()],
            ..ContainerConfig::default()
        }),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            extra: Extra::new(),
        },
        history: history.chain([environment]).collect(),
        extra: Extra::new(),
    }
}

/// What has been made so far, in an order in which it can be stored.
#[derive(Default)]
struct Making {
    blobs: Vec<Piece>,
    manifests: Vec<(Manifest, Option<oci_spec_types::Tag>)>,
    entries: Vec<SampleEntry>,
}

impl Making {
    fn blob(&mut self, piece: Piece) -> Descriptor {
        let descriptor = piece.descriptor.clone();
        if !self.blobs.iter().any(|known| known.descriptor.digest == descriptor.digest) {
            self.blobs.push(piece);
        }
        descriptor
    }

    /// A manifest of the top level.
    fn keep(&mut self, manifest: &Manifest, name: Option<&str>) {
        let tag = name.map(tag);
        self.manifests.push((manifest.clone(), tag.clone()));
        self.entries.push(SampleEntry { tag, descriptor: manifest.descriptor().clone() });
    }

    fn image(&mut self, platform: &Platform, layers: &[Layer]) -> Result<Manifest> {
        let config = config_piece(
            Algorithm::Sha256,
            MediaType::OCI_IMAGE_CONFIG,
            &config(platform, layers),
        )?;
        let config = self.blob(config);
        let layers = layers.iter().map(|layer| self.blob(layer.piece.clone())).collect();
        let mut manifest = ImageManifest::new(config, layers);
        manifest.annotations.insert(oci_spec_types::annotations::CREATED.into(), CREATED.into());
        seal(serde_json::to_vec_pretty(&manifest))
    }

    /// An image that only an index lists.
    fn child(&mut self, platform: Platform, layers: &Layers) -> Result<Descriptor> {
        let manifest = self.image(&platform, &layers.on(&platform)?)?;
        self.manifests.push((manifest.clone(), None));
        Ok(on(&manifest, platform))
    }

    fn nested(&mut self, layers: &Layers) -> Result<Manifest> {
        let manifests = vec![
            self.child(platform("386", None), layers)?,
            self.child(platform("s390x", None), layers)?,
        ];
        let nested = seal(serde_json::to_vec(&ImageIndex::new(manifests)))?;
        self.manifests.push((nested.clone(), None));
        Ok(nested)
    }

    /// The entries of an index for several platforms.
    fn platforms(&mut self, layers: &Layers, amd64: &Manifest) -> Result<Vec<Descriptor>> {
        Ok(vec![
            on(amd64, platform("amd64", None)),
            self.child(platform("arm64", Some("v8")), layers)?,
            self.child(platform("arm", Some("v7")), layers)?,
            self.attestation(amd64)?,
        ])
    }

    /// What build tools put beside an image, as an entry for no platform.
    fn attestation(&mut self, about: &Manifest) -> Result<Descriptor> {
        let unknown = Platform::new("unknown", "unknown");
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{}"}}}}]}}"#,
            about.digest().encoded()
        );
        let statement =
            Piece::new(MediaType::from_static("application/vnd.in-toto+json"), statement);
        let layer = Layer {
            diff_id: statement.descriptor.digest.clone(),
            piece: statement,
            created_by: "attest".into(),
        };
        let manifest = self.image(&unknown, &[layer])?;
        self.manifests.push((manifest.clone(), None));
        let mut descriptor = on(&manifest, unknown);
        descriptor.annotations.extend([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), about.digest().to_string()),
        ]);
        Ok(descriptor)
    }

    fn artifact(
        &mut self,
        about: &Manifest,
        kind: &str,
        text: &str,
        embed: bool,
    ) -> Result<Manifest> {
        let text = format!("{text} {}\n", about.digest());
        let mut layer = self.blob(Piece::new(MediaType::from_static("text/plain"), text.clone()));
        let mut config = self.blob(Piece::new(MediaType::OCI_EMPTY_JSON, "{}"));
        if embed {
            config = Descriptor::empty_json();
            layer.data = Some(text.into_bytes());
        }
        let mut manifest = ImageManifest::new(config, vec![layer]);
        manifest.artifact_type = Some(kind.to_owned());
        manifest.subject = Some(about.descriptor().clone());
        manifest.annotations.insert("org.example.made-by".into(), "the oci-ref suite".into());
        seal(serde_json::to_vec(&manifest))
    }

    fn sha512(&mut self, platform: &Platform) -> Result<Manifest> {
        let archive = archive_of_text("etc/digest", "sha512\n")?;
        let layers = [
            Layer::with(Algorithm::Sha512, archive.clone(), Compression::Gzip, "gzip")?,
            Layer::with(Algorithm::Sha512, archive, Compression::None, "tar")?,
        ];
        let config = config_piece(
            Algorithm::Sha512,
            MediaType::OCI_IMAGE_CONFIG,
            &config(platform, &layers),
        )?;
        let config = self.blob(config);
        let layers = layers.map(|layer| self.blob(layer.piece)).to_vec();
        seal(serde_json::to_vec(&ImageManifest::new(config, layers)))
    }

    /// The same layer without files several times over: digests may occur more than once in an image.
    fn empty(&mut self, platform: &Platform) -> Result<Manifest> {
        let archive = archive_of(&[])?;
        let gzip = Layer::new(archive.clone(), Compression::Gzip, "nothing, gzip")?;
        let plain = Layer::new(archive, Compression::None, "nothing, tar")?;
        self.image(platform, &[gzip.clone(), plain, gzip])
    }

    fn docker(&mut self, layers: &Layers) -> Result<Manifest> {
        let amd64 = platform("amd64", None);
        let config = config(&amd64, std::slice::from_ref(&layers.base));
        let config = config_piece(Algorithm::Sha256, MediaType::DOCKER_CONFIG, &config)?;
        let config = self.blob(config);
        let layer = Descriptor {
            media_type: MediaType::DOCKER_LAYER_GZIP,
            ..self.blob(layers.base.piece.clone())
        };
        let mut manifest = ImageManifest::new(config, vec![layer]);
        manifest.media_type = Some(MediaType::DOCKER_MANIFEST);
        seal(serde_json::to_vec_pretty(&manifest))
    }
}

fn config_piece(
    algorithm: Algorithm,
    media_type: MediaType,
    config: &ImageConfig,
) -> Result<Piece> {
    let json = serde_json::to_vec(config).map_err(|error| {
        crate::Error::new(crate::ErrorKind::Invalid, "a config cannot be serialised")
            .with_source(error)
    })?;
    Ok(Piece::with(algorithm, media_type, json))
}
