//! Platform choice: the golden corpus, and indexes in indexes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use oci_ref::{
    ArtifactBuilder, Compression, Error, ErrorKind, Fit, ImageBuilder, Index, LayerContent, List,
    Memory, NoMatch, Ref, Verdict, WalkOptions, choose_image, host_platform,
};
use oci_spec_types::{Descriptor, Digest, MediaType, Platform};
use serde_json::Value;

/// The tools that a case may say to decide otherwise.
const TOOLS: [&str; 4] = ["containerd", "containers/image", "go-containerregistry", "regclient"];

/// A list as a case describes it: each entry is a descriptor without what makes no difference.
fn list_of(case: &Value) -> List {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for (position, entry) in case["entries"].as_array().unwrap().iter().enumerate() {
        let mut full = serde_json::json!({
            "mediaType": MediaType::OCI_IMAGE_MANIFEST.as_str(),
            "digest": Digest::sha256(&position.to_be_bytes()).as_str(),
            "size": 1,
        });
        full.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        list.add(serde_json::from_value(full).unwrap());
    }
    list
}

fn check(name: &str, case: &Value) {
    let known = ["comment", "wanted", "entries", "chosen", "error", "verdicts", "others", "why"];
    assert!(
        case.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())),
        "{name}: a field that is none"
    );
    assert!(case["comment"].is_string(), "{name}: no comment");
    if let Some(others) = case["others"].as_object() {
        assert!(
            case["why"].is_string(),
            "{name}: others decide otherwise, and it does not say why"
        );
        for (tool, theirs) in others {
            assert!(TOOLS.contains(&tool.as_str()), "{name}: {tool}");
            assert_ne!(*theirs, case["chosen"], "{name}: {tool} does not decide otherwise");
        }
    }

    let list = list_of(case);
    let wanted: Platform = serde_json::from_value(case["wanted"].clone()).unwrap();
    let candidates = match (list.choose(&wanted), case["chosen"].as_u64()) {
        (Ok(choice), Some(expected)) => {
            assert_eq!(choice.position as u64, expected, "{name}: {:#?}", choice.candidates);
            assert_eq!(choice.descriptor, list.instances()[choice.position], "{name}");
            choice.candidates
        }
        (Err(error), None) => {
            let expected = case["error"].as_str().unwrap();
            assert!(error.to_string().contains(expected), "{name}: {error}");
            error.candidates
        }
        (Ok(choice), None) => panic!("{name}: chose {}: {:#?}", choice.position, choice.candidates),
        (Err(error), Some(_)) => panic!("{name}: {error}: {:#?}", error.candidates),
    };
    assert_eq!(candidates.len(), list.instances().len(), "{name}: each entry has a verdict");
    let chosen = candidates
        .iter()
        .filter(|candidate| matches!(candidate.verdict, Verdict::Chosen(_)))
        .count();
    assert_eq!(chosen, usize::from(case["chosen"].is_u64()), "{name}");
    if let Some(verdicts) = case["verdicts"].as_array() {
        for (candidate, verdict) in candidates.iter().zip(verdicts) {
            assert_eq!(
                candidate.verdict.to_string(),
                verdict.as_str().unwrap(),
                "{name}: {candidate}"
            );
        }
    }
}

// covers: C3
#[test]
fn golden_corpus() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/platforms");
    let mut cases = BTreeMap::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        cases.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), case);
    }
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for (name, case) in &cases {
        check(name, case);
    }
}

/// Whatever is chosen, it is so by the entries and not by the order of those that do not fit.
#[test]
fn the_choice_does_not_depend_on_entries_that_do_not_fit() {
    let wanted: Platform = "linux/amd64/v3".parse().unwrap();
    let fitting = ["linux/amd64/v2", "linux/amd64", "linux/386"];
    let others = ["linux/arm64", "windows/amd64", "linux/amd64/v4", "unknown/unknown"];
    for rotation in 0..fitting.len() + others.len() {
        let mut platforms: Vec<&str> = fitting.iter().chain(&others).copied().collect();
        platforms.rotate_left(rotation);
        let entries: Vec<_> = platforms
            .iter()
            .map(|text| serde_json::json!({ "platform": platform_json(text) }))
            .collect();
        let choice = list_of(&serde_json::json!({ "entries": entries })).choose(&wanted).unwrap();
        assert_eq!(choice.descriptor.platform.unwrap().to_string(), "linux/amd64/v2");
        assert_eq!(choice.candidates[choice.position].verdict, Verdict::Chosen(Fit::OlderVariant));
    }
}

fn platform_json(text: &str) -> Value {
    serde_json::to_value(text.parse::<Platform>().unwrap()).unwrap()
}

#[test]
fn the_host_takes_an_image_for_itself() {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    let mut entry = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"1");
    entry.platform = Some(Platform::new("plan9", "mips"));
    list.add(entry.clone());
    entry.platform = Some(host_platform());
    list.add(entry);
    assert_eq!(list.choose(&host_platform()).unwrap().position, 1);
}

/// Writes an image for a platform, and gives its entry.
async fn image(store: &Memory, platform: &str) -> Descriptor {
    let platform: Platform = platform.parse().unwrap();
    let layer = LayerContent::tar(vec![0; 1024], Compression::None).unwrap();
    let built = ImageBuilder::for_platform(&platform).layer(layer).build().unwrap();
    let entry = built.index_entry();
    built.write(store, &[]).await.unwrap();
    entry
}

async fn artifact(store: &Memory) -> Descriptor {
    let kind = MediaType::from_static("application/vnd.example.thing");
    let built = ArtifactBuilder::new(kind).build().unwrap();
    let mut entry = built.index_entry();
    built.write(store, &[]).await.unwrap();
    // As a tool lists it that does not know of artifact types.
    entry.artifact_type = None;
    entry
}

async fn index(store: &Memory, entries: Vec<Descriptor>) -> Descriptor {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    entries.into_iter().for_each(|entry| list.add(entry));
    list.write(store, &[]).await.unwrap().descriptor().clone()
}

async fn open(store: &Arc<Memory>, descriptor: &Descriptor) -> Index {
    let found = Ref::read_descriptor(store.clone(), descriptor).await.unwrap();
    found.as_index().unwrap().clone()
}

fn plain(mut entry: Descriptor) -> Descriptor {
    entry.platform = None;
    entry
}

#[tokio::test]
async fn indexes_in_indexes_are_looked_into() {
    let store = Arc::new(Memory::new());
    let amd64 = image(&store, "linux/amd64").await;
    let old = image(&store, "linux/386").await;
    let arm = image(&store, "linux/arm64").await;
    let inner = index(&store, vec![arm.clone(), amd64.clone()]).await;
    let middle = index(&store, vec![inner.clone()]).await;
    let root = index(&store, vec![old.clone(), middle.clone()]).await;
    let root = open(&store, &root).await;
    let bounds = WalkOptions::default();

    // Without looking, only the fall-back is there; looking finds the exact match.
    assert_eq!(root.choose(&"linux/amd64".parse().unwrap()).unwrap().position, 0);
    let chosen = choose_image(&root, &"linux/amd64".parse().unwrap(), &bounds).await.unwrap();
    assert_eq!(chosen.path.to_string(), "manifests/1/manifests/0/manifests/1");
    assert_eq!(chosen.descriptor, amd64);
    assert_eq!(chosen.image.manifest().digest(), &amd64.digest);
    let explained: Vec<String> = chosen.candidates.iter().map(ToString::to_string).collect();
    assert_eq!(explained.len(), 5);
    assert!(explained[1].ends_with("an index, looked into"), "{explained:?}");
    assert!(
        explained[4].contains("linux/amd64 sha256:")
            && explained[4].ends_with("chosen: exact match"),
        "{explained:?}"
    );

    // An exact match at the top ends the search: nothing below is read.
    let chosen = choose_image(&root, &"linux/386".parse().unwrap(), &bounds).await.unwrap();
    assert_eq!(chosen.candidates.len(), 2);
    assert_eq!(chosen.candidates[1].verdict, Verdict::NestedIndex);

    let error = choose_image(&root, &"linux/s390x".parse().unwrap(), &bounds).await.unwrap_err();
    assert!(error.is_not_found());
    let no_match: &NoMatch = error.find_source().unwrap();
    assert_eq!(no_match.candidates.len(), 5);
    assert!(
        error
            .to_string()
            .ends_with("among 5 entries; there is linux/386, linux/amd64, linux/arm64"),
        "{error}"
    );
}

#[tokio::test]
async fn an_index_for_a_platform_is_for_all_that_it_lists() {
    let store = Arc::new(Memory::new());
    let arm = image(&store, "linux/arm64").await;
    let amd64 = image(&store, "linux/amd64").await;
    let mut for_arm = index(&store, vec![plain(arm.clone())]).await;
    for_arm.platform = Some("linux/arm64".parse().unwrap());
    let mut for_amd64 = index(&store, vec![plain(amd64.clone())]).await;
    for_amd64.platform = Some("linux/amd64".parse().unwrap());
    let root = index(&store, vec![for_arm, for_amd64]).await;
    let root = open(&store, &root).await;

    let chosen = choose_image(&root, &"linux/amd64".parse().unwrap(), &WalkOptions::default())
        .await
        .unwrap();
    assert_eq!(chosen.image.manifest().digest(), &amd64.digest);
    assert_eq!(chosen.candidates[0].verdict, Verdict::Architecture);
    assert_eq!(chosen.candidates[2].verdict, Verdict::Chosen(Fit::Exact));
}

#[tokio::test]
async fn what_states_no_platform_must_turn_out_to_be_an_image() {
    let store = Arc::new(Memory::new());
    let thing = artifact(&store).await;
    let unstated = plain(image(&store, "linux/amd64").await);
    let root = index(&store, vec![thing.clone(), unstated.clone()]).await;
    let root = open(&store, &root).await;
    let chosen = choose_image(&root, &"linux/amd64".parse().unwrap(), &WalkOptions::default())
        .await
        .unwrap();
    assert_eq!(chosen.descriptor, unstated);
    assert_eq!(
        chosen.candidates[0].verdict,
        Verdict::Artifact("application/vnd.example.thing".to_owned())
    );

    let root = index(&store, vec![thing]).await;
    let root = open(&store, &root).await;
    let error = choose_image(&root, &"linux/amd64".parse().unwrap(), &WalkOptions::default())
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn depth_and_number_are_bounded() {
    let store = Arc::new(Memory::new());
    let mut entry = image(&store, "linux/arm64").await;
    for _ in 0..20 {
        entry = index(&store, vec![entry]).await;
    }
    let root = open(&store, &entry).await;
    let wanted: Platform = "linux/arm64".parse().unwrap();
    let too_large = |result: Result<_, Error>| match result {
        Err(error) => assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}"),
        Ok(_) => panic!("no bound"),
    };
    too_large(choose_image(&root, &wanted, &WalkOptions::default()).await.map(drop));
    too_large(
        choose_image(&root, &wanted, &WalkOptions { max_depth: 18, ..Default::default() })
            .await
            .map(drop),
    );
    let deep = WalkOptions { max_depth: 19, ..Default::default() };
    assert_eq!(choose_image(&root, &wanted, &deep).await.unwrap().path.positions().len(), 20);
    too_large(
        choose_image(&root, &wanted, &WalkOptions { max_manifests: 19, ..deep.clone() })
            .await
            .map(drop),
    );
    choose_image(&root, &wanted, &WalkOptions { max_manifests: 20, ..deep }).await.unwrap();
}

#[tokio::test]
async fn a_nested_index_that_is_not_there() {
    let store = Arc::new(Memory::sparse());
    let missing = Descriptor::of(MediaType::OCI_IMAGE_INDEX, b"not there");
    let old = image(&store, "linux/386").await;
    let root = index(&store, vec![missing, old.clone()]).await;
    let root = open(&store, &root).await;
    let wanted: Platform = "linux/amd64".parse().unwrap();

    let error = choose_image(&root, &wanted, &WalkOptions::default()).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().ends_with("at manifests/0"), "{error}");
    let sparse = WalkOptions { sparse: true, ..Default::default() };
    let chosen = choose_image(&root, &wanted, &sparse).await.unwrap();
    assert_eq!(chosen.descriptor, old);
    assert_eq!(chosen.candidates[0].verdict, Verdict::Missing);
}

/// What a list says is shown on one line, and not whole if it is long.
#[test]
fn texts_from_a_list_do_not_flood_an_error() {
    let mut list = List::new(MediaType::OCI_IMAGE_INDEX).unwrap();
    for number in 0..100 {
        let mut entry = Descriptor::of(MediaType::OCI_IMAGE_MANIFEST, b"1");
        let architecture = format!("{number}\n\u{1b}[31m{}", "x".repeat(10_000));
        entry.platform = Some(Platform::new("linux", architecture));
        list.add(entry);
    }
    let error = list.choose(&Platform::new("linux", "amd64")).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("… and 88 more"), "{text}");
    for text in error.candidates.iter().map(ToString::to_string).chain([text]) {
        assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
    }
}
