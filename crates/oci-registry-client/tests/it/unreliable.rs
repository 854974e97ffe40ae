//! A registry of which nothing works the first time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use oci_ref::{ArtifactBuilder, CopyOptions, LayerContent, Manifest, Memory, Source, Target, copy};
use oci_registry_client::{Credentials, RetryPolicy, StaticCredentials};
use oci_registry_server::{
    BreakAt, Endpoint, Fault, FaultAnswer, FaultRule, TestAuth, TestRegistry,
};
use oci_spec_types::{Descriptor, ImageIndex, ImageManifest, MediaType, Tag};

use crate::server::{Answer, Seen, Server, builder};

/// What each path does, one after the other: fails, leads elsewhere, and there fails, wants a token, and breaks blobs.
struct Unreliable {
    content: BTreeMap<String, Bytes>,
    turns: Mutex<HashMap<String, usize>>,
}

impl Unreliable {
    fn answer(&self, seen: &Seen) -> Answer {
        let turn = {
            let mut turns = self.turns.lock().unwrap();
            let turn = turns.entry(seen.target.clone()).or_default();
            *turn += 1;
            *turn
        };
        if turn == 1 {
            return Answer::status(503);
        }
        if seen.target.starts_with("/token") {
            return match seen.header("authorization") {
                Some("Basic YWxpY2U6c2VjcmV0") => Answer::ok(r#"{"token":"t"}"#),
                _ => Answer::error(401, "UNAUTHORIZED"),
            };
        }
        let Some(path) = seen.target.strip_prefix("/moved") else {
            return Answer::status(307).header("Location", format!("/moved{}", seen.target));
        };
        if seen.header("authorization") != Some("Bearer t") {
            return Answer::status(401)
                .header("WWW-Authenticate", r#"Bearer realm="/token",service="s""#);
        }
        let Some(whole) = self.content.get(path) else {
            return Answer::error(404, "MANIFEST_UNKNOWN");
        };
        match seen
            .header("range")
            .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-'))
        {
            None if path.contains("/blobs/") && seen.method == "GET" => {
                Answer::ok(whole).cut(whole.len() / 2)
            }
            None => Answer::ok(whole),
            Some(start) => {
                let start: usize = start.parse().unwrap();
                let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
                Answer::status(206).body(&whole[start..]).header("Content-Range", range)
            }
        }
    }
}

fn sealed(document: Vec<u8>) -> Manifest {
    Manifest::parse(document.into(), None, None).unwrap()
}

// covers: M17
#[tokio::test(start_paused = true)]
async fn an_image_still_arrives_exact() {
    let blobs: Vec<Bytes> =
        (1..6u32).map(|seed| (0..seed * 50_000).map(|at| (at * seed) as u8).collect()).collect();
    let described: Vec<_> =
        blobs.iter().map(|blob| Descriptor::of(MediaType::OCI_LAYER, blob)).collect();
    let config = Bytes::from_static(b"{}");
    let image = sealed(
        serde_json::to_vec(&ImageManifest::new(Descriptor::empty_json(), described)).unwrap(),
    );
    let index =
        sealed(serde_json::to_vec(&ImageIndex::new(vec![image.descriptor().clone()])).unwrap());

    let mut content = BTreeMap::from([("/v2/a/b/manifests/1.0".to_owned(), index.bytes().clone())]);
    for manifest in [&image, &index] {
        content
            .insert(format!("/v2/a/b/manifests/{}", manifest.digest()), manifest.bytes().clone());
    }
    for blob in blobs.iter().chain([&config]) {
        let digest = oci_spec_types::Digest::sha256(blob);
        content.insert(format!("/v2/a/b/blobs/{digest}"), blob.clone());
    }
    let unreliable = Unreliable { content, turns: Mutex::default() };
    let server = Server::start(move |seen| unreliable.answer(seen)).await;

    let credentials =
        StaticCredentials::new().with(server.host.clone(), Credentials::basic("alice", "secret"));
    // Each of the three paths of a request (the first, where it leads, the token's) fails once, and a blob breaks once.
    let policy = RetryPolicy::new(|retry| (retry < 5).then_some(Duration::from_secs(1)));
    let repository =
        Arc::new(server.repository_of(builder().credentials(credentials).retry(policy)));
    let memory = Arc::new(Memory::new());
    let tag: Tag = "1.0".parse().unwrap();
    let target = Target::Tag(tag.clone());
    let options = CopyOptions { tags: vec![tag.clone()], ..CopyOptions::default() };
    copy(repository, &target, memory.clone(), options).await.unwrap();

    assert_eq!(memory.manifest(&target).await.unwrap().bytes(), index.bytes());
    for blob in blobs {
        let descriptor = Descriptor::of(MediaType::OCI_LAYER, &blob);
        assert_eq!(memory.blob_size(&descriptor.digest).await.unwrap(), Some(blob.len() as u64));
        let read = oci_ref::Blob::open(&*memory, &descriptor)
            .await
            .unwrap()
            .into_bytes(1 << 20)
            .await
            .unwrap();
        assert_eq!(read, blob);
    }
    // The password went to the token service alone.
    let to_whom = server.seen().into_iter().filter(|seen| {
        seen.header("authorization").is_some_and(|value| value.starts_with("Basic"))
    });
    assert!(to_whom.map(|seen| seen.target).all(|target| target.starts_with("/token")));
}

/// The same with a registry that keeps its blobs on another host: nothing works there the first time either, and that
/// host is not told who asks.
// covers: M17
#[tokio::test(start_paused = true)]
async fn nothing_works_the_first_time_and_blobs_lie_elsewhere() {
    let unavailable = || FaultRule::new(FaultAnswer::new(503.try_into().unwrap()));
    let content: Bytes = (0..400_000u32).map(|at| (at ^ (at >> 9)) as u8).collect();
    let kind = MediaType::OCTET_STREAM;
    let artifact =
        ArtifactBuilder::new(kind.clone()).layer(LayerContent::blob(kind.clone(), content.clone()));
    let storage = TestRegistry::builder()
        .fault(unavailable().once_per_path())
        .fault(FaultRule::new(Fault::reset(BreakAt::Body(200_000))).once_per_path())
        .start()
        .await
        .unwrap();
    let registry = TestRegistry::builder()
        .auth(TestAuth::bearer().user("alice", "secret").token_uses(3))
        .fault(unavailable().once_per_path())
        // The registry redirects to itself, then its blobs to the storage, for whoever has a token.
        .fault(
            FaultRule::new(FaultAnswer::redirect(307.try_into().unwrap(), ""))
                .endpoint(Endpoint::PullManifest)
                .once_per_path(),
        )
        .fault(
            FaultRule::new(Fault::redirect_to(storage.url()))
                .endpoint(Endpoint::PullBlob)
                .when(|request| request.credentials.is_some()),
        )
        .start()
        .await
        .unwrap();
    let tag: Tag = "1.0".parse().unwrap();
    let mut pushed = None;
    for place in [&storage, &registry] {
        let store = place.registry().memory(&"a/b".parse().unwrap());
        pushed = Some(artifact.clone().write(&store, std::slice::from_ref(&tag)).await.unwrap());
    }
    let host: oci_spec_types::Host = registry.host().parse().unwrap();
    let credentials =
        StaticCredentials::new().with(host.clone(), Credentials::basic("alice", "secret"));
    let policy = RetryPolicy::new(|retry| (retry < 5).then_some(Duration::from_secs(1)));
    let client = builder().credentials(credentials).retry(policy).build().unwrap();
    let repository = client.registry(&host).unwrap().repository("a/b".parse().unwrap());
    let memory = Arc::new(Memory::new());
    let target = Target::Tag(tag);
    let copied = copy(Arc::new(repository), &target, memory.clone(), CopyOptions::default());
    assert_eq!(copied.await.unwrap().descriptor.digest, *pushed.unwrap().digest());
    let layer = Descriptor::of(kind, &content);
    let read = oci_ref::Blob::open(&*memory, &layer).await.unwrap();
    assert_eq!(read.into_bytes(1 << 20).await.unwrap(), content);
    let at_storage = storage.requests();
    assert!(at_storage.len() >= 3, "it failed first, and then it broke: {at_storage:?}");
    assert!(at_storage.iter().all(|request| request.credentials.is_none()));
}
