//! Mirrors: who is asked for what, in which order, and as whom.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use oci_ref::{Blob, ByteRange, CopyOptions, Memory, Reopen, Source, Store, Target, copy};
use oci_registry_client::{
    ClientBuilder, Credentials, Mirror, Repository, RetryPolicy, StaticCredentials,
};
use oci_registry_server::{
    BreakAt, Credentials as Sent, Endpoint, Fault, FaultAnswer, FaultRule, TestAuth, TestRegistry,
};
use oci_spec_types::{Descriptor, Digest, Host, MediaType, Name, Tag};

use crate::server::builder;

const LARGE: usize = 3 << 20;

/// A registry and its two mirrors.
struct World {
    primary: TestRegistry,
    mirrors: [TestRegistry; 2],
}

fn host(registry: &TestRegistry) -> Host {
    registry.host().parse().unwrap()
}

fn name() -> Name {
    "a/b".parse().unwrap()
}

fn large() -> bytes::Bytes {
    (0..LARGE).map(|at| (at * 7 + at / 300) as u8).collect()
}

/// The sample's manifest, and its only layer.
async fn fill(registry: &TestRegistry) -> (Descriptor, Descriptor) {
    use oci_ref::{ArtifactBuilder, LayerContent};
    let kind = MediaType::OCTET_STREAM;
    let store = registry.registry().memory(&name());
    let artifact =
        ArtifactBuilder::new(kind.clone()).layer(LayerContent::blob(kind.clone(), large()));
    let manifest = artifact.write(&store, &["v1".parse().unwrap()]).await.unwrap();
    (manifest.descriptor().clone(), Descriptor::of(kind, &large()))
}

impl World {
    async fn start() -> Self {
        let primary = TestRegistry::start().await.unwrap();
        let mirrors = [TestRegistry::start().await.unwrap(), TestRegistry::start().await.unwrap()];
        Self { primary, mirrors }
    }

    fn repository(&self, builder: ClientBuilder) -> Repository {
        let mirrors = self.mirrors.each_ref().map(host);
        let client = builder.mirrors(host(&self.primary), mirrors).build().unwrap();
        client.registry(&host(&self.primary)).unwrap().repository(name())
    }

    /// How many requests the mirrors and the registry got since the last time.
    fn counts(&self) -> [usize; 3] {
        let [first, second] = &self.mirrors;
        [first, second, &self.primary].map(|registry| registry.take_requests().len())
    }
}

async fn read(repository: &Repository, descriptor: &Descriptor) -> oci_ref::Result<Vec<u8>> {
    let blob = Blob::open(repository, descriptor).await?;
    let chunks: Vec<_> = blob.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn reads_go_to_mirrors_in_order_and_then_to_the_registry() {
    let world = World::start().await;
    let (manifest, blob) = fill(&world.primary).await;
    fill(&world.mirrors[1]).await;
    let repository = world.repository(builder());

    let by_digest = Target::Digest(manifest.digest.clone());
    repository.manifest(&by_digest).await.unwrap();
    assert_eq!(read(&repository, &blob).await.unwrap(), large());
    for registry in &world.mirrors {
        for request in registry.requests() {
            assert_eq!(request.query, format!("ns={}", world.primary.host().replace(':', "%3A")));
        }
    }
    assert_eq!(world.counts(), [2, 2, 0]);

    // The registry says what tags name, what is there, and what nobody can verify.
    let tag = Target::Tag("v1".parse().unwrap());
    repository.manifest(&tag).await.unwrap();
    repository.resolve(&by_digest).await.unwrap();
    repository.blob_size(&blob.digest).await.unwrap();
    Source::blob(&repository, &blob.digest, ByteRange::Inclusive(3, 9)).await.unwrap();
    Source::tags(&repository, None, 10).await.unwrap();
    repository.referrers(&manifest.digest, None, None, 10).await.unwrap();
    assert_eq!(world.counts(), [0, 0, 6]);
    for request in world.primary.requests() {
        assert!(!request.query.contains("ns="), "{request:?}");
    }

    // Neither has it.
    let missing = Digest::sha256(b"missing");
    let error = repository.manifest(&Target::Digest(missing)).await.unwrap_err();
    assert!(error.is_not_found());
    let error: &oci_registry_client::Error = error.find_source().unwrap();
    assert!(error.to_string().contains(&world.mirrors[0].host()), "{error}");
    assert_eq!(world.counts(), [1, 1, 1]);
}

#[tokio::test]
async fn writes_go_to_the_registry_alone() {
    let world = World::start().await;
    fill(&world.mirrors[0]).await;
    let (manifest, blob) = fill(&world.mirrors[1]).await;
    let repository = world.repository(builder());
    // That the mirrors have all of it does not count.
    let from = Arc::new(world.mirrors[0].registry().memory(&name()));
    let target = Target::Digest(manifest.digest.clone());
    let options = CopyOptions { tags: vec!["new".parse().unwrap()], ..CopyOptions::default() };
    copy(from, &target, Arc::new(repository.clone()), options).await.unwrap();
    let tag: Tag = "newer".parse().unwrap();
    repository.tag(&Target::Tag("new".parse().unwrap()), &tag).await.unwrap();
    repository.delete_tag(&tag).await.unwrap();
    repository.delete_manifest(&manifest.digest).await.unwrap();
    repository.delete_blob(&blob.digest).await.unwrap();
    let [first, second, _] = world.counts();
    assert_eq!([first, second], [0, 0]);
}

#[tokio::test]
async fn a_mirror_that_is_told_to_says_what_tags_name() {
    let world = World::start().await;
    fill(&world.mirrors[0]).await;
    let mirror = Mirror::new(host(&world.mirrors[0])).with_tags();
    let client = builder().mirrors(host(&world.primary), [mirror]).build().unwrap();
    let repository = client.registry(&host(&world.primary)).unwrap().repository(name());
    let tag = Target::Tag("v1".parse().unwrap());
    let memory = Arc::new(Memory::new());
    copy(Arc::new(repository), &tag, memory, CopyOptions::default()).await.unwrap();
    let [asked, _, not_asked] = world.counts();
    assert!(asked > 0);
    assert_eq!(not_asked, 0, "the registry need not be there");
}

/// Everything that a mirror can do wrong, with the content there.
fn wrongs() -> Vec<(&'static str, Fault)> {
    let status = |code: u16| Fault::from(FaultAnswer::new(code.try_into().unwrap()));
    let page = FaultAnswer::new(200.try_into().unwrap())
        .body("text/html".parse().unwrap(), "<html>please log in</html>");
    vec![
        ("not found", status(404)),
        ("denied", status(403)),
        ("unauthorized", status(401)),
        ("failing", status(500)),
        ("busy", status(429)),
        ("a page", page.into()),
        ("reset", Fault::reset(BreakAt::Request)),
        ("closed", Fault::close(BreakAt::Answer)),
        ("broken", Fault::close(BreakAt::Body(100))),
        ("broken late", Fault::reset(BreakAt::Body(2 << 20))),
        ("a wrong digest header", Fault::wrong_digest()),
        ("other content", Fault::corrupt(1)),
        ("other content late", Fault::corrupt(LARGE as u64 - 1)),
        ("too long", Fault::extra_bytes(1)),
        ("too short", Fault::wrong_length(-1)),
    ]
}

#[tokio::test]
async fn a_mirror_that_fails_or_lies_is_passed_over() {
    for (what, fault) in wrongs() {
        let world = World::start().await;
        let (manifest, _) = fill(&world.primary).await;
        fill(&world.mirrors[0]).await;
        world.mirrors[0].inject(FaultRule::new(fault));
        let repository = world.repository(builder());
        let memory = Arc::new(Memory::new());
        let target = Target::Digest(manifest.digest.clone());
        let copied = copy(Arc::new(repository), &target, memory, CopyOptions::default()).await;
        assert_eq!(copied.expect(what).descriptor, manifest, "{what}");
        assert!(!world.mirrors[0].requests().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_mirror_that_lies_about_a_large_blob_is_found_out_before_its_end() {
    for fault in [Fault::corrupt(LARGE as u64 - 1), Fault::extra_bytes(4)] {
        let world = World::start().await;
        let (_, blob) = fill(&world.primary).await;
        fill(&world.mirrors[0]).await;
        world.mirrors[0].inject(FaultRule::new(fault));
        let repository = world.repository(builder());
        let error = read(&repository, &blob).await.unwrap_err();
        assert!(error.code().is_some(), "{error}");
        assert_eq!(read(&repository, &blob).await.unwrap(), large());

        // To a file it is read anew at once; and so is what is sent on, by the policy.
        let repository = world.repository(builder());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        repository.download(&blob, &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), large());
    }
    let world = World::start().await;
    let (_, blob) = fill(&world.primary).await;
    fill(&world.mirrors[0]).await;
    world.mirrors[0].inject(FaultRule::new(Fault::corrupt(LARGE as u64 - 1)));
    let policy = RetryPolicy::new(|retry| (retry < 1).then_some(Duration::ZERO));
    let repository = world.repository(builder().retry(policy));
    let content = oci_ref::SourceBlob::new(Arc::new(repository.clone()), blob.digest.clone());
    let to = repository.sibling("other".parse().unwrap());
    to.put_blob(&blob, &content as &dyn Reopen).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_cannot_be_reached_is_left_alone_for_a_while() {
    let world = World::start().await;
    let (manifest, _) = fill(&world.primary).await;
    let busy = FaultAnswer::new(503.try_into().unwrap());
    world.mirrors[0].inject(FaultRule::new(busy).first(1));
    // A policy for the registry makes nobody wait for a mirror.
    let policy = RetryPolicy::new(|_| Some(Duration::from_secs(3600)));
    let repository = world.repository(builder().retry(policy));
    let target = Target::Digest(manifest.digest);
    let began = tokio::time::Instant::now();
    repository.manifest(&target).await.unwrap();
    repository.manifest(&target).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(world.counts(), [1, 2, 2]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    repository.manifest(&target).await.unwrap();
    assert_eq!(world.counts(), [1, 1, 1]);
}

#[tokio::test]
async fn each_has_its_own_credentials() {
    let start = |user: &str, password: &str| {
        TestRegistry::builder().auth(TestAuth::bearer().user(user, password)).start()
    };
    let primary = start("alice", "at the registry").await.unwrap();
    let mirrors = [
        start("alice", "at the mirror").await.unwrap(),
        TestRegistry::builder().auth(TestAuth::basic().user("x", "y")).start().await.unwrap(),
    ];
    let world = World { primary, mirrors };
    let (manifest, blob) = fill(&world.primary).await;
    let credentials = StaticCredentials::new()
        .with(host(&world.primary), Credentials::basic("alice", "at the registry"))
        .with(host(&world.mirrors[0]), Credentials::basic("alice", "at the mirror"));
    let repository = world.repository(builder().credentials(credentials));
    repository.manifest(&Target::Digest(manifest.digest)).await.unwrap();
    assert_eq!(read(&repository, &blob).await.unwrap(), large());
    let passwords = |registry: &TestRegistry| -> Vec<String> {
        let sent =
            registry.requests().into_iter().filter_map(|request| match request.credentials {
                Some(Sent::Basic { password, .. }) => Some(password),
                // Tokens of both services look alike; each is known to its own registry only.
                _ => None,
            });
        sent.collect()
    };
    assert!(passwords(&world.primary).iter().all(|password| password == "at the registry"));
    let [first, second] = &world.mirrors;
    assert_eq!(passwords(first), ["at the mirror"]);
    assert!(second.requests().iter().all(|request| request.credentials.is_none()));
    let tokens = |registry: &TestRegistry| {
        registry.requests().iter().filter(|request| request.endpoint == Endpoint::Token).count()
    };
    assert_eq!((tokens(&world.primary), tokens(first)), (1, 1));
}
