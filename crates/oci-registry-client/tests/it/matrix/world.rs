//! A registry with something in it, and a client that tries again, without long waits.

use std::time::Duration;

use bytes::Bytes;
use oci_ref::{ArtifactBuilder, LayerContent, Manifest, Memory, Source, Target};
use oci_registry_client::{
    Client, ClientBuilder, Credentials, Repository, RetryPolicy, StaticCredentials,
};
use oci_registry_server::{TestAuth, TestRegistry};
use oci_spec_types::{Descriptor, MediaType, Name, Tag};

use crate::server;

pub(super) const RETRIES: u32 = 4;

pub(super) struct World {
    pub(super) registry: TestRegistry,
    /// Where faults lead to. It must never learn who the client is.
    pub(super) other: TestRegistry,
    /// What is in the repository `a/b`, under the tags `v1` and `v2`.
    pub(super) image: Manifest,
    pub(super) layer: Descriptor,
    /// What refers to it.
    pub(super) note: Manifest,
}

pub(super) fn kind() -> MediaType {
    MediaType::from_static("application/vnd.example.thing")
}

pub(super) fn content() -> Bytes {
    (0..300_000u32).map(|at| (at.wrapping_mul(31) ^ (at >> 7)) as u8).collect()
}

pub(super) fn name() -> Name {
    "a/b".parse().unwrap()
}

pub(super) fn tag(tag: &str) -> Tag {
    tag.parse().unwrap()
}

impl World {
    pub(super) async fn start() -> Self {
        let auth = TestAuth::bearer().user("alice", "secret");
        let registry = TestRegistry::builder().auth(auth).start().await.unwrap();
        let other = TestRegistry::start().await.unwrap();
        let store = registry.registry().memory(&name());
        let artifact = ArtifactBuilder::new(kind()).layer(LayerContent::blob(kind(), content()));
        let image = artifact.write(&store, &[tag("v1"), tag("v2")]).await.unwrap();
        let note = ArtifactBuilder::new(kind())
            .layer(LayerContent::blob(kind(), "a note"))
            .subject(image.descriptor().clone());
        let note = note.write(&store, &[]).await.unwrap();
        Self { registry, other, image, layer: Descriptor::of(kind(), &content()), note }
    }

    pub(super) fn builder(&self) -> ClientBuilder {
        let host = self.registry.host().parse().unwrap();
        let credentials =
            StaticCredentials::new().with(host, Credentials::basic("alice", "secret"));
        server::builder()
            .credentials(credentials)
            .idle_timeout(Duration::from_secs(20))
            .retry(RetryPolicy::new(|retry| (retry < RETRIES).then_some(Duration::from_millis(1))))
    }

    pub(super) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub(super) fn repository(&self) -> Repository {
        self.repository_of(self.builder())
    }

    pub(super) fn repository_of(&self, builder: ClientBuilder) -> Repository {
        let host = self.registry.host().parse().unwrap();
        builder.build().unwrap().registry(&host).unwrap().repository(name())
    }

    /// The repository itself.
    pub(super) fn memory(&self) -> Memory {
        self.registry.registry().memory(&name())
    }

    /// Another repository of the registry, itself.
    pub(super) fn other_memory(&self) -> Memory {
        self.registry.registry().memory(&"other".parse().unwrap())
    }

    /// What a tag names, looked up without HTTP.
    pub(super) async fn named(&self, name: &str) -> Option<Descriptor> {
        self.memory().resolve(&Target::Tag(tag(name))).await.ok()
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.memory().open_uploads() + self.other_memory().open_uploads()
    }
}
